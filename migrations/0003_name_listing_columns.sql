-- The trigger copied `listable.*` by position: a column added to the view in another order would have been
-- published under another name.
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
            homepage = excluded.homepage, developer_name = excluded.developer_name, version = excluded.version,
            version_code = excluded.version_code, size_bytes = excluded.size_bytes, sha256 = excluded.sha256,
            permissions = excluded.permissions, min_mosis_version = excluded.min_mosis_version,
            release_notes = excluded.release_notes, screenshots = excluded.screenshots,
            published_at = excluded.published_at, updated_at = excluded.updated_at;
    UPDATE store_state SET catalogue = catalogue + 1;
END;
