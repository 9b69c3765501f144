-- Packages of versions that failed, were rejected or withdrawn do not stay for ever; the row says when one went. A package that
-- was replaced by a newer upload of the same version string is gone already.
ALTER TABLE versions ADD COLUMN package_removed_at TEXT;        -- the row stays; nothing on the disk belongs to it
UPDATE versions SET package_removed_at = (SELECT min(o.created_at) FROM versions o WHERE o.app_id = versions.app_id
                                          AND o.version = versions.version AND o.id > versions.id)
    WHERE released = 0 AND state IN ('failed', 'rejected', 'withdrawn');
CREATE INDEX versions_dead ON versions (app_id, id)
    WHERE released = 0 AND state IN ('failed', 'rejected', 'withdrawn') AND package_removed_at IS NULL;
