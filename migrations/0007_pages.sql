-- Sessions of browsers, and the link with which the first administrator is made.
ALTER TABLE sessions ADD COLUMN browser_hash TEXT;
CREATE UNIQUE INDEX sessions_by_browser ON sessions (browser_hash) WHERE browser_hash IS NOT NULL;
CREATE TABLE setup_links (
    token_hash      TEXT PRIMARY KEY,           -- SHA-256 of the token
    expires_at      TEXT NOT NULL
) STRICT;
-- What the Atom feed lists: what everybody is offered, by the time of its publication.
CREATE INDEX versions_offered ON versions (published_at, id)
    WHERE state = 'published' AND channel = 'stable' AND rollout_percent >= 100;
