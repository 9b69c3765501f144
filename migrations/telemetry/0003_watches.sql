-- Sessions and crashes by device and day of versions that a rollout plan watches.
CREATE TABLE watches (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    app             INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    version         TEXT NOT NULL,
    previous        TEXT,
    round           INTEGER NOT NULL,
    since           INTEGER NOT NULL,
    ended           INTEGER NOT NULL DEFAULT 0 CHECK (ended IN (0, 1))
) STRICT;
CREATE UNIQUE INDEX watches_active ON watches (app, version) WHERE ended = 0;
CREATE TABLE watched_days (
    watch           INTEGER NOT NULL REFERENCES watches (id) ON DELETE CASCADE,
    is_new          INTEGER NOT NULL CHECK (is_new IN (0, 1)),
    day             INTEGER NOT NULL,
    device          BLOB NOT NULL,
    starts          INTEGER NOT NULL DEFAULT 0,
    crashes         INTEGER NOT NULL DEFAULT 0,
    reports         INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (watch, is_new, day, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX watched_days_by_device ON watched_days (device);
