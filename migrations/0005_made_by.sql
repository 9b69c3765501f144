-- Which credential has made a credential: when one leaks, what was made with it ends too.
ALTER TABLE sessions ADD COLUMN made_by TEXT;
ALTER TABLE device_logins ADD COLUMN made_by TEXT;
ALTER TABLE api_keys ADD COLUMN made_by TEXT;
ALTER TABLE signing_keys ADD COLUMN made_by TEXT;
CREATE INDEX sessions_by_maker ON sessions (made_by) WHERE made_by IS NOT NULL;
CREATE INDEX api_keys_by_maker ON api_keys (made_by) WHERE made_by IS NOT NULL;
CREATE INDEX signing_keys_by_maker ON signing_keys (made_by) WHERE made_by IS NOT NULL;
-- The audit trail has noted so far which API key has made a key.
UPDATE api_keys SET made_by = a.details ->> '$.api_key_id' FROM audit a
    WHERE a.action = 'api_key.added' AND a.subject_id = api_keys.id;
UPDATE signing_keys SET made_by = a.details ->> '$.api_key_id' FROM audit a
    WHERE a.action = 'signing_key.added' AND a.subject_id = signing_keys.id;
