-- What store front ends, which read copies of this database, need to know of the primary: one row, updated while a replica is
-- configured.
CREATE TABLE heartbeat (
    id              INTEGER PRIMARY KEY CHECK (id = 1),
    beaten_at       TEXT NOT NULL,
    settings        TEXT NOT NULL CHECK (json_type(settings) = 'object'),   -- those that responses of the store depend on
    started         TEXT NOT NULL               -- another one for each start of the primary
) STRICT;

-- The newest signed index of each cooldown without its bytes, which follow from the rows: front ends make them again.
CREATE TABLE signed_indexes (
    min_age_days    INTEGER PRIMARY KEY,
    sequence        INTEGER NOT NULL,
    catalogue       INTEGER NOT NULL,           -- as in store_state
    created_at      TEXT NOT NULL,
    size_bytes      INTEGER NOT NULL,
    sha256          TEXT NOT NULL,
    signatures      TEXT NOT NULL,              -- content of index.json.sig
    keys            TEXT NOT NULL CHECK (json_type(keys) = 'array')         -- the public keys
) STRICT;

-- Download counts that front ends have sent, so that none is added twice.
CREATE TABLE download_batches (
    id              TEXT PRIMARY KEY,
    received_at     TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX download_batches_by_age ON download_batches (received_at);
