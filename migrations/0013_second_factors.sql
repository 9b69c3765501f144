-- The second factor of an account (RFC 6238). Its secret is made from the seed and the server's secret.
CREATE TABLE second_factors (
    developer_id    TEXT PRIMARY KEY REFERENCES developers (id) ON DELETE CASCADE,
    seed            BLOB NOT NULL,
    confirmed_at    TEXT,                       -- NULL: begun, counts for nothing
    last_step       INTEGER NOT NULL DEFAULT 0, -- the time step of the last code that was accepted: a code is good once
    recovery_hashes TEXT NOT NULL DEFAULT '[]' CHECK (json_type(recovery_hashes) = 'array'),
    created_at      TEXT NOT NULL
) STRICT;
