-- The Atom feed lists a version when everybody is offered it, which can be days after its publication to a share of the devices.
ALTER TABLE versions ADD COLUMN offered_at TEXT;
DROP INDEX versions_offered;
CREATE INDEX versions_offered ON versions (coalesce(offered_at, published_at), id)
    WHERE state = 'published' AND channel = 'stable' AND rollout_percent >= 100;
