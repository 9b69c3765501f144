-- Bounds for what strangers send: packed events, lookups by device, one crash mail a day, sums of memory.

-- Events as zlib data, with the number of bytes that they unpack to; NULL in rows from before, which have text in `events`.
ALTER TABLE batches ADD COLUMN packed BLOB;
ALTER TABLE batches ADD COLUMN size_bytes INTEGER;
CREATE INDEX batches_by_device ON batches (device);

-- What a device can ask for is found by its id alone. `key` is a keyed hash of the device id and of one of 256 slots, which the
-- app's number chooses: rows of the same device in different apps have different keys, so that they cannot be linked.
CREATE TABLE devices (
    key             BLOB NOT NULL,
    device          BLOB NOT NULL,
    app             INTEGER NOT NULL,
    day             INTEGER NOT NULL,
    PRIMARY KEY (key, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX devices_by_day ON devices (day);

-- Until when apps may have rows that `devices` does not list. Set to 0 once those are too old to exist.
ALTER TABLE apps ADD COLUMN unlisted INTEGER NOT NULL DEFAULT 0;
UPDATE apps SET unlisted = unixepoch();
CREATE INDEX apps_unlisted ON apps (id) WHERE unlisted > 0;

-- When the last digest of crashes was queued, and how many groups were announced one by one on a day.
ALTER TABLE apps ADD COLUMN digest_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE apps ADD COLUMN announced_day INTEGER NOT NULL DEFAULT 0;
ALTER TABLE apps ADD COLUMN announced INTEGER NOT NULL DEFAULT 0;
ALTER TABLE crash_groups ADD COLUMN digested INTEGER NOT NULL DEFAULT 0 CHECK (digested IN (0, 1));
UPDATE crash_groups SET digested = 1 WHERE announced = 1;
CREATE INDEX crash_groups_undigested ON crash_groups (app) WHERE digested = 0;

-- Whether a sample is shorter than what was sent.
ALTER TABLE crash_reports ADD COLUMN truncated INTEGER NOT NULL DEFAULT 0 CHECK (truncated IN (0, 1));

-- Histograms in megabytes.
ALTER TABLE rollups ADD COLUMN memory TEXT NOT NULL DEFAULT '{}';
ALTER TABLE rollups ADD COLUMN memory_limits TEXT NOT NULL DEFAULT '{}';

-- sqlar_uncompress is a function of the sqlite3 command line (https://sqlite.org/sqlar.html); the portal has the same.
DROP VIEW events;
CREATE VIEW events AS
    SELECT b.id AS batch, a.app_id, s.version, s.mosis_version, hex(b.device) AS device, hex(b.session) AS session,
           t.name AS type, json_extract(e.value, '$[1]') AS at, json_extract(e.value, '$[2]') AS data, b.received_at
    FROM batches b JOIN sources s ON s.id = b.source JOIN apps a ON a.id = s.app,
         json_each(CASE WHEN b.packed IS NULL THEN b.events
                        ELSE CAST(sqlar_uncompress(b.packed, b.size_bytes) AS TEXT) END) e
    JOIN event_types t ON t.id = json_extract(e.value, '$[0]');
