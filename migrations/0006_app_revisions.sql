-- The last change of what the store says of an app: the answers about it that are kept in memory are right until then. Apps that
-- have not changed since this table was made have no row.
CREATE TABLE app_revisions (
    number          INTEGER PRIMARY KEY AUTOINCREMENT,
    package_id      TEXT NOT NULL UNIQUE
) STRICT;
CREATE TRIGGER app_revisions_due INSTEAD OF INSERT ON listings_due BEGIN
    DELETE FROM app_revisions WHERE package_id = (SELECT package_id FROM apps WHERE id = NEW.app_id);
    INSERT INTO app_revisions (package_id) SELECT package_id FROM apps WHERE id = NEW.app_id;
END;
CREATE TRIGGER app_revisions_downloads AFTER UPDATE OF downloads ON listings WHEN NEW.downloads <> OLD.downloads BEGIN
    DELETE FROM app_revisions WHERE package_id = NEW.package_id;
    INSERT INTO app_revisions (package_id) VALUES (NEW.package_id);
END;
CREATE TRIGGER app_revisions_deleted AFTER DELETE ON apps WHEN OLD.published = 1 BEGIN
    DELETE FROM app_revisions WHERE package_id = OLD.package_id;
    INSERT INTO app_revisions (package_id) VALUES (OLD.package_id);
END;
