-- Trusted publishers.
ALTER TABLE apps ADD COLUMN publish_by TEXT NOT NULL DEFAULT 'anyone' CHECK (publish_by IN ('anyone', 'trusted'));
-- Build servers that may publish an app without a stored secret: an ID token of this issuer with these claims is exchanged for a
-- token of 15 minutes.
CREATE TABLE trusted_publishers (
    id              TEXT PRIMARY KEY,
    app_id          TEXT NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    developer_id    TEXT NOT NULL REFERENCES developers (id) ON DELETE CASCADE,    -- the owner who has added it
    issuer          TEXT NOT NULL,
    claims          TEXT NOT NULL CHECK (json_type(claims) = 'object'),
    scopes          TEXT NOT NULL CHECK (json_type(scopes) = 'array'),
    created_at      TEXT NOT NULL,
    last_used_at    TEXT
) STRICT;
CREATE INDEX trusted_publishers_by_app ON trusted_publishers (app_id, id);
CREATE INDEX trusted_publishers_by_developer ON trusted_publishers (developer_id);
CREATE TABLE publisher_tokens (
    id              TEXT PRIMARY KEY,
    publisher_id    TEXT NOT NULL REFERENCES trusted_publishers (id) ON DELETE CASCADE,
    token_hash      TEXT NOT NULL UNIQUE,       -- SHA-256
    created_at      TEXT NOT NULL,
    expires_at      TEXT NOT NULL
) STRICT;
CREATE INDEX publisher_tokens_by_publisher ON publisher_tokens (publisher_id);
CREATE INDEX publisher_tokens_expiring ON publisher_tokens (expires_at);
-- ID tokens that were exchanged: each is good once.
CREATE TABLE exchanged_tokens (
    use_hash        TEXT PRIMARY KEY,           -- SHA-256 of issuer and jti
    expires_at      TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX exchanged_tokens_expiring ON exchanged_tokens (expires_at);
