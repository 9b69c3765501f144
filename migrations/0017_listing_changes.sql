-- Changes of what the store shows of an app wait for a reviewer.
CREATE TABLE listing_changes (
    id              TEXT PRIMARY KEY,
    app_id          TEXT NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    author_id       TEXT NOT NULL REFERENCES developers (id),   -- the owner who has edited it last
    state           TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'approved', 'rejected')),
    revision        INTEGER NOT NULL DEFAULT 1, -- counts the edits; a decision names the one that was read
    fields          TEXT NOT NULL CHECK (json_type(fields) = 'object'),     -- {name of a column of apps: the new value}
    before          TEXT CHECK (json_type(before) = 'object'),              -- the values that a decision found
    because         TEXT NOT NULL DEFAULT '[]' CHECK (json_type(because) = 'array'),    -- why a person is needed
    reasons         TEXT NOT NULL DEFAULT '[]' CHECK (json_type(reasons) = 'array'),
    comment         TEXT NOT NULL DEFAULT '' CHECK (state <> 'rejected' OR length(comment) > 0),
    decided_by      TEXT REFERENCES developers (id),    -- NULL: the policy decided
    submitted_at    TEXT NOT NULL,
    updated_at      TEXT NOT NULL,
    decided_at      TEXT CHECK ((decided_at IS NULL) = (state = 'waiting'))
) STRICT;
CREATE UNIQUE INDEX listing_changes_open ON listing_changes (app_id) WHERE state = 'waiting';
CREATE INDEX listing_changes_by_app ON listing_changes (app_id, id);
CREATE INDEX listing_changes_waiting ON listing_changes (submitted_at, id) WHERE state = 'waiting';
CREATE INDEX listing_changes_decided ON listing_changes (decided_at, id) WHERE decided_at IS NOT NULL;
