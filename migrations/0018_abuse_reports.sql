-- Reports of abuse.
CREATE TABLE abuse_reports (
    number          INTEGER PRIMARY KEY AUTOINCREMENT,
    id              TEXT NOT NULL UNIQUE,
    app_id          TEXT NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    author_id       TEXT REFERENCES developers (id),    -- NULL: not signed in
    verified        INTEGER NOT NULL DEFAULT 0 CHECK (verified IN (0, 1)),  -- by an account with a verified address
    source_hash     TEXT NOT NULL,              -- keyed hash of the account or the network, for the bounds
    reason          TEXT NOT NULL,
    text            TEXT NOT NULL,
    email           TEXT,                       -- where a reviewer may ask
    created_at      TEXT NOT NULL,
    closed_at       TEXT,
    closed_by       TEXT REFERENCES developers (id),
    outcome         TEXT CHECK (outcome IN ('dismissed', 'suspended')),
    CHECK ((closed_at IS NULL) = (outcome IS NULL))
) STRICT;
CREATE INDEX abuse_reports_open ON abuse_reports (app_id, verified, number) WHERE closed_at IS NULL;
CREATE INDEX abuse_reports_by_app ON abuse_reports (app_id, number);
CREATE INDEX abuse_reports_by_source ON abuse_reports (source_hash) WHERE closed_at IS NULL;
CREATE INDEX abuse_reports_by_author ON abuse_reports (author_id) WHERE author_id IS NOT NULL;
CREATE INDEX abuse_reports_by_age ON abuse_reports (created_at);
