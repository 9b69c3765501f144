-- Members of apps, invitations, and apps that change hands.
ALTER TABLE apps ADD COLUMN first_owner_id TEXT;
ALTER TABLE apps ADD COLUMN transferred_at TEXT;
-- Who works on an app, and as what. The account that the app belongs to is always one of its owners.
CREATE TABLE app_members (
    app_id          TEXT NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    developer_id    TEXT NOT NULL REFERENCES developers (id) ON DELETE CASCADE,
    role            TEXT NOT NULL CHECK (role IN ('viewer', 'publisher', 'owner')),
    created_at      TEXT NOT NULL,
    PRIMARY KEY (app_id, developer_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX app_members_by_developer ON app_members (developer_id, app_id);
CREATE TRIGGER apps_have_an_owner AFTER INSERT ON apps BEGIN
    INSERT INTO app_members (app_id, developer_id, role, created_at)
        VALUES (NEW.id, NEW.developer_id, 'owner', NEW.created_at);
END;

-- Open invitations to work on an app, or (transfer = 1) to take it over. They are sent by mail; the token is made from the id with
-- the server's secret and stored nowhere. A row that is accepted, cancelled or expired is deleted.
CREATE TABLE app_invitations (
    id              TEXT PRIMARY KEY,
    app_id          TEXT NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    developer_id    TEXT NOT NULL REFERENCES developers (id) ON DELETE CASCADE,    -- the owner who has sent it
    email           TEXT NOT NULL COLLATE NOCASE,
    role            TEXT NOT NULL CHECK (role IN ('viewer', 'publisher', 'owner')),
    transfer        INTEGER NOT NULL DEFAULT 0 CHECK (transfer IN (0, 1)),
    created_at      TEXT NOT NULL,
    expires_at      TEXT NOT NULL,
    CHECK (transfer = 0 OR role = 'owner')
) STRICT;
CREATE INDEX app_invitations_by_app ON app_invitations (app_id, id);
CREATE INDEX app_invitations_by_developer ON app_invitations (developer_id);
CREATE INDEX app_invitations_expiring ON app_invitations (expires_at);

INSERT INTO app_members (app_id, developer_id, role, created_at) SELECT id, developer_id, 'owner', created_at FROM apps;

-- An app that is transferred is listed under its new developer.
DROP TRIGGER listings_due_insert;
CREATE TRIGGER listings_due_insert INSTEAD OF INSERT ON listings_due BEGIN
    DELETE FROM listings WHERE app_id = NEW.app_id AND NOT EXISTS (SELECT 1 FROM listable WHERE app_id = NEW.app_id);
    INSERT INTO listings (app_id, version_id, package_id, name, summary, description, category, tags, homepage, developer_id,
                          developer_name, version, version_code, size_bytes, sha256, permissions, min_mosis_version,
                          release_notes, screenshots, published_at, updated_at, downloads)
        SELECT app_id, version_id, package_id, name, summary, description, category, tags, homepage, developer_id,
               developer_name, version, version_code, size_bytes, sha256, permissions, min_mosis_version,
               release_notes, screenshots, published_at, updated_at,
               (SELECT coalesce(sum(w.count), 0) FROM downloads w JOIN versions x ON x.id = w.version_id
                WHERE x.app_id = NEW.app_id)
        FROM listable WHERE app_id = NEW.app_id
        ON CONFLICT (app_id) DO UPDATE SET
            version_id = excluded.version_id, name = excluded.name, summary = excluded.summary,
            description = excluded.description, category = excluded.category, tags = excluded.tags,
            homepage = excluded.homepage, developer_id = excluded.developer_id,
            developer_name = excluded.developer_name, version = excluded.version, version_code = excluded.version_code,
            size_bytes = excluded.size_bytes, sha256 = excluded.sha256,
            permissions = excluded.permissions, min_mosis_version = excluded.min_mosis_version,
            release_notes = excluded.release_notes, screenshots = excluded.screenshots,
            published_at = excluded.published_at, updated_at = excluded.updated_at;
    UPDATE store_state SET catalogue = catalogue + 1;
END;
