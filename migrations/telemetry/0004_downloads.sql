-- Downloads by day, version and channel.
CREATE TABLE downloads (
    app             INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    day             INTEGER NOT NULL,
    version         TEXT NOT NULL,
    channel         TEXT NOT NULL,
    count           INTEGER NOT NULL,
    PRIMARY KEY (app, day, version)
) STRICT, WITHOUT ROWID;
CREATE INDEX downloads_by_day ON downloads (day);
