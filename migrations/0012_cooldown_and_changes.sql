-- Releases that need no cooldown, by the word of a reviewer.
ALTER TABLE versions ADD COLUMN security INTEGER NOT NULL DEFAULT 0 CHECK (security IN (0, 1));

-- The last change of each app that is or was in the store, in order: what a mirror follows.
CREATE TABLE store_changes (
    number          INTEGER PRIMARY KEY,
    package_id      TEXT NOT NULL UNIQUE,
    added           INTEGER NOT NULL,
    removed         INTEGER NOT NULL DEFAULT 0 CHECK (removed IN (0, 1))
) STRICT;
INSERT INTO store_changes (number, package_id, added)
    SELECT row_number() OVER (ORDER BY updated_at, number), package_id, row_number() OVER (ORDER BY updated_at, number) FROM listings;
CREATE TRIGGER store_changes_added AFTER INSERT ON listings BEGIN
    INSERT INTO store_changes (number, package_id, added)
        SELECT coalesce(max(number), 0) + 1, NEW.package_id, coalesce(max(number), 0) + 1 FROM store_changes WHERE true
        ON CONFLICT (package_id) DO UPDATE SET number = excluded.number, added = excluded.added, removed = 0;
END;
CREATE TRIGGER store_changes_updated AFTER UPDATE OF version_id, name, summary, description, category, tags, homepage, developer_name
ON listings WHEN (NEW.version_id, NEW.name, NEW.summary, NEW.description, NEW.category, NEW.tags, NEW.homepage, NEW.developer_name)
    IS NOT (OLD.version_id, OLD.name, OLD.summary, OLD.description, OLD.category, OLD.tags, OLD.homepage, OLD.developer_name) BEGIN
    UPDATE store_changes SET number = (SELECT max(number) + 1 FROM store_changes) WHERE package_id = NEW.package_id;
END;
CREATE TRIGGER store_changes_removed AFTER DELETE ON listings BEGIN
    UPDATE store_changes SET number = (SELECT max(number) + 1 FROM store_changes), removed = 1 WHERE package_id = OLD.package_id;
END;
