-- Links that confirm another e-mail address, and undo that.
CREATE TABLE tickets_new (
    id              TEXT PRIMARY KEY,
    developer_id    TEXT REFERENCES developers (id) ON DELETE CASCADE,  -- NULL: an invitation
    purpose         TEXT NOT NULL CHECK (purpose IN ('verify', 'reset', 'invite', 'change', 'undo')),
    email           TEXT NOT NULL COLLATE NOCASE,   -- where it was sent; void once the account has another address
    created_at      TEXT NOT NULL,
    expires_at      TEXT NOT NULL,
    used_at         TEXT,
    CHECK ((developer_id IS NULL) = (purpose = 'invite'))
) STRICT;
INSERT INTO tickets_new (id, developer_id, purpose, email, created_at, expires_at, used_at)
    SELECT id, developer_id, purpose, email, created_at, expires_at, used_at FROM tickets;
DROP TABLE tickets;
ALTER TABLE tickets_new RENAME TO tickets;
CREATE INDEX tickets_by_developer ON tickets (developer_id, purpose) WHERE used_at IS NULL;
CREATE INDEX tickets_expiring ON tickets (expires_at);
