-- The telemetry database as it is today. New databases start here; migrations/telemetry/ is how older ones get here.
-- It is a database of its own so that the portal's never waits for a batch of events. Times are seconds since 1970, days are
-- days since 1970, apps are small numbers: these tables are written thousands of times a second. No network address is ever
-- stored, and no device id: only a keyed hash of it, another one for each app (docs/TELEMETRY.md).

-- The apps that telemetry has come for, and what their developers have chosen. `app_id` is the id in the portal's database.
CREATE TABLE apps (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,  -- never one again: pseudonyms are made with it
    app_id          TEXT NOT NULL UNIQUE,
    enabled         INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    usage_events    INTEGER NOT NULL DEFAULT 0 CHECK (usage_events IN (0, 1)),    -- screen_view, button_click, feature_used
    sample_rate     REAL NOT NULL DEFAULT 1 CHECK (sample_rate BETWEEN 0 AND 1),  -- told to devices; crashes are always sent
    unlisted        INTEGER NOT NULL DEFAULT 0, -- until when rows came that `devices` does not list, from before it existed
    digest_at       INTEGER NOT NULL DEFAULT 0, -- when the last digest of crashes was queued
    announced_day   INTEGER NOT NULL DEFAULT 0, -- the last day on which groups were announced one by one,
    announced       INTEGER NOT NULL DEFAULT 0  -- and how many
) STRICT;
CREATE INDEX apps_unlisted ON apps (id) WHERE unlisted > 0;

-- Which build on which system sent something. Versions that the portal does not know are 'other': strangers cannot fill this.
CREATE TABLE sources (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,  -- never one again: batches name it
    app             INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    version         TEXT NOT NULL,
    mosis_version   TEXT NOT NULL,
    UNIQUE (app, version, mosis_version)
) STRICT;

-- The raw events of 7 days, less when TELEMETRY_MAX_BYTES is reached: one row a batch, in the order in which they came. The
-- events are JSON: [[type, at, data], ...], data only where there is any; as zlib data in `packed`, or, in rows of older
-- versions, as text in `events`.
CREATE TABLE batches (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,  -- never one again: the sums go by it
    source          INTEGER NOT NULL,           -- no REFERENCES: it would be looked up for each batch
    device          BLOB NOT NULL,              -- 8 bytes of a keyed hash
    session         BLOB NOT NULL,              -- the same of the session's id
    received_at     INTEGER NOT NULL,
    events          TEXT NOT NULL,
    packed          BLOB,
    size_bytes      INTEGER                     -- of the JSON
) STRICT;
CREATE INDEX batches_by_device ON batches (device);

-- What a device can ask for is found by its id alone. `key` is a keyed hash of the device id and of one of 256 slots, which the
-- app's number chooses: rows of the same device in different apps have different keys, so that they cannot be linked.
CREATE TABLE devices (
    key             BLOB NOT NULL,
    device          BLOB NOT NULL,              -- as in `batches` and `crash_reports`
    app             INTEGER NOT NULL,
    day             INTEGER NOT NULL,           -- when there were rows of it for the last time, about
    PRIMARY KEY (key, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX devices_by_day ON devices (day);

-- What the numbers in `events` mean.
CREATE TABLE event_types (
    id              INTEGER PRIMARY KEY,
    name            TEXT NOT NULL UNIQUE
) STRICT;
INSERT INTO event_types VALUES (1, 'app_start'), (2, 'app_stop'), (3, 'app_crash'), (4, 'lua_error'), (5, 'perf_frame'),
    (6, 'perf_memory'), (7, 'perf_startup'), (8, 'screen_view'), (9, 'button_click'), (10, 'feature_used');

-- The raw events one by one, for people with a question; slow. sqlar_uncompress is a function of the sqlite3 command line
-- (https://sqlite.org/sqlar.html); the portal has the same.
CREATE VIEW events AS
    SELECT b.id AS batch, a.app_id, s.version, s.mosis_version, hex(b.device) AS device, hex(b.session) AS session,
           t.name AS type, json_extract(e.value, '$[1]') AS at, json_extract(e.value, '$[2]') AS data, b.received_at
    FROM batches b JOIN sources s ON s.id = b.source JOIN apps a ON a.id = s.app,
         json_each(CASE WHEN b.packed IS NULL THEN b.events
                        ELSE CAST(sqlar_uncompress(b.packed, b.size_bytes) AS TEXT) END) e
    JOIN event_types t ON t.id = json_extract(e.value, '$[0]');

-- Batches (and crash reports) that were counted, so that what is sent again is not. `key` is 8 bytes of a hash over app,
-- device and batch_id. By day of receipt: new rows stand side by side, and old days go in one piece.
CREATE TABLE seen (
    day             INTEGER NOT NULL,
    key             INTEGER NOT NULL,
    PRIMARY KEY (day, key)
) STRICT, WITHOUT ROWID;

-- What came in for an app on a day of receipt: the quota is held against `events` and `stored_bytes`.
CREATE TABLE intake (
    app             INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    day             INTEGER NOT NULL,
    events          INTEGER NOT NULL DEFAULT 0,
    stored_bytes    INTEGER NOT NULL DEFAULT 0, -- about what they take on the disk
    rejected        INTEGER NOT NULL DEFAULT 0, -- events that did not fit the schema
    duplicates      INTEGER NOT NULL DEFAULT 0, -- batches that were sent again
    clock_behind    INTEGER NOT NULL DEFAULT 0, -- events older than 30 days, counted as 30 days old
    clock_ahead     INTEGER NOT NULL DEFAULT 0, -- events from the future, counted as of now
    crash_reports   INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (app, day)
) STRICT, WITHOUT ROWID;

-- Sums by hour (90 days) and day (for good), for each version and for all ('*'). Numbers add up, histograms add up bucket by
-- bucket, sketches of devices unite; none of it says anything about one device.
CREATE TABLE rollups (
    app             INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    span            TEXT NOT NULL CHECK (span IN ('hour', 'day')),
    version         TEXT NOT NULL,
    start           INTEGER NOT NULL,           -- seconds since 1970
    events          INTEGER NOT NULL DEFAULT 0,
    starts          INTEGER NOT NULL DEFAULT 0,
    stops           INTEGER NOT NULL DEFAULT 0,
    crashes         INTEGER NOT NULL DEFAULT 0,
    lua_errors      INTEGER NOT NULL DEFAULT 0,
    crash_reports   INTEGER NOT NULL DEFAULT 0,
    sessions        INTEGER NOT NULL DEFAULT 0, -- those whose length is known
    session_seconds INTEGER NOT NULL DEFAULT 0,
    frames          TEXT NOT NULL DEFAULT '{}', -- histogram: {bucket: count}
    startups        TEXT NOT NULL DEFAULT '{}',
    devices         BLOB NOT NULL DEFAULT x'',  -- sketch of the set of devices
    memory          TEXT NOT NULL DEFAULT '{}', -- histograms in megabytes
    memory_limits   TEXT NOT NULL DEFAULT '{}',
    PRIMARY KEY (app, span, version, start)
) STRICT;

-- 'summed': the last of `batches` that is in the sums. 'forgotten': up to this moment of receipt batches may be missing.
CREATE TABLE progress (
    name            TEXT PRIMARY KEY,
    value           INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO progress VALUES ('summed', 0), ('forgotten', 0);

-- Crashes that are one mistake: same type and same normalised top frames, by the algorithm of that number.
CREATE TABLE crash_groups (
    id              TEXT PRIMARY KEY,           -- UUIDv7
    app             INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    algorithm       INTEGER NOT NULL,
    fingerprint     TEXT NOT NULL,
    type            TEXT NOT NULL,
    message         TEXT NOT NULL,              -- of the first report, normalised
    frames          TEXT NOT NULL CHECK (json_type(frames) = 'array'),
    state           TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'resolved')),
    count           INTEGER NOT NULL DEFAULT 0,
    devices         BLOB NOT NULL DEFAULT x'',  -- sketch
    first_seen      INTEGER NOT NULL,
    last_seen       INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    resolved_at     INTEGER,                    -- the last time
    reopened_at     INTEGER,                    -- the last time
    announced       INTEGER NOT NULL DEFAULT 0 CHECK (announced IN (0, 1)),  -- whether the job that tells the owner is queued
    digested        INTEGER NOT NULL DEFAULT 0 CHECK (digested IN (0, 1)),   -- whether it was in a digest
    UNIQUE (app, algorithm, fingerprint)
) STRICT;
CREATE INDEX crash_groups_by_app ON crash_groups (app, id);
CREATE INDEX crash_groups_unannounced ON crash_groups (id) WHERE announced = 0;
CREATE INDEX crash_groups_undigested ON crash_groups (app) WHERE digested = 0;

-- How often, by day and version; for good.
CREATE TABLE crash_counts (
    crash_group     TEXT NOT NULL REFERENCES crash_groups (id) ON DELETE CASCADE,
    day             INTEGER NOT NULL,
    version         TEXT NOT NULL,
    count           INTEGER NOT NULL,
    PRIMARY KEY (crash_group, day, version)
) STRICT, WITHOUT ROWID;

-- Reports kept as samples, up to 90 days: the first, the last, and the 2nd, 4th, 8th ... between.
CREATE TABLE crash_reports (
    id              INTEGER PRIMARY KEY,
    crash_group     TEXT NOT NULL REFERENCES crash_groups (id) ON DELETE CASCADE,
    number          INTEGER NOT NULL,           -- it was the group's so manieth
    device          BLOB NOT NULL,
    at              INTEGER NOT NULL,
    received_at     INTEGER NOT NULL,
    version         TEXT NOT NULL,
    mosis_version   TEXT NOT NULL,
    message         TEXT NOT NULL,
    stack_trace     TEXT NOT NULL,
    context         TEXT NOT NULL CHECK (json_type(context) = 'object'),
    truncated       INTEGER NOT NULL DEFAULT 0 CHECK (truncated IN (0, 1))  -- shorter than what was sent
) STRICT;
CREATE INDEX crash_reports_by_group ON crash_reports (crash_group, number);
CREATE INDEX crash_reports_by_device ON crash_reports (device);
CREATE INDEX crash_reports_by_age ON crash_reports (received_at);

-- Versions whose rollout plan halts them when they crash too often: what is counted for the decision. A round begins with each
-- publication. At most one watch of a version is active.
CREATE TABLE watches (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    app             INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    version         TEXT NOT NULL,
    previous        TEXT,                       -- the version that it is compared with; NULL: none
    round           INTEGER NOT NULL,
    since           INTEGER NOT NULL,           -- earlier events do not count
    ended           INTEGER NOT NULL DEFAULT 0 CHECK (ended IN (0, 1))     -- its rows are being deleted
) STRICT;
CREATE UNIQUE INDEX watches_active ON watches (app, version) WHERE ended = 0;

-- What each device did on a day with the watched version or the previous one, while a watch is active.
CREATE TABLE watched_days (
    watch           INTEGER NOT NULL REFERENCES watches (id) ON DELETE CASCADE,
    is_new          INTEGER NOT NULL CHECK (is_new IN (0, 1)),  -- 1: the watched version, 0: the previous one
    day             INTEGER NOT NULL,
    device          BLOB NOT NULL,              -- as in `batches`
    starts          INTEGER NOT NULL DEFAULT 0,
    crashes         INTEGER NOT NULL DEFAULT 0, -- events
    reports         INTEGER NOT NULL DEFAULT 0, -- crash reports
    PRIMARY KEY (watch, is_new, day, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX watched_days_by_device ON watched_days (device);

-- How often the versions of an app were downloaded, by day (since 1970); numbers only. Copied from the portal's database.
CREATE TABLE downloads (
    app             INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    day             INTEGER NOT NULL,
    version         TEXT NOT NULL,
    channel         TEXT NOT NULL,
    count           INTEGER NOT NULL,
    PRIMARY KEY (app, day, version)
) STRICT, WITHOUT ROWID;
CREATE INDEX downloads_by_day ON downloads (day);
