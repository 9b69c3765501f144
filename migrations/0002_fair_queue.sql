-- Jobs belong to an account, and each lane serves accounts in turn. One job mails all notifications of an account, one sends
-- everything to a webhook: what is queued one by one is put together.
CREATE TABLE jobs_new (
    id              TEXT PRIMARY KEY,
    kind            TEXT NOT NULL,
    lane            TEXT NOT NULL,              -- has its own threads: none waits for another's; LANES in mosis/jobs.py
    owner_id        TEXT,                       -- whose turn it takes: an account, or a network where nobody is signed in; NULL: the portal's
    arguments       TEXT NOT NULL DEFAULT '{}' CHECK (json_type(arguments) = 'object'),
    unique_key      TEXT,                       -- at most one unfinished job carries it
    state           TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'done', 'dead')),
    attempts        INTEGER NOT NULL DEFAULT 0,
    again           INTEGER NOT NULL DEFAULT 0 CHECK (again IN (0, 1)),     -- asked for anew while it ran: runs once more
    run_at          TEXT NOT NULL,
    lease_until     TEXT CHECK ((lease_until IS NULL) = (state <> 'running')),
    lease_token     TEXT,                       -- who holds it: an outlived worker cannot finish what was given to another
    last_error      TEXT,
    created_at      TEXT NOT NULL,
    finished_at     TEXT
) STRICT;
INSERT INTO jobs_new (id, kind, lane, owner_id, arguments, unique_key, state, attempts, run_at, lease_until, lease_token,
                      last_error, created_at, finished_at)
    SELECT id, kind,
           CASE WHEN kind = 'mail_event' THEN 'mail' WHEN kind IN ('mail_ticket', 'mail_reset') THEN 'urgent_mail'
                WHEN kind IN ('copy_database', 'copy_telemetry', 'drill', 'sweep_packages') THEN 'upkeep'
                WHEN lane = 'outside' THEN 'quick' ELSE lane END,
           CASE WHEN kind = 'mail_event' THEN (SELECT developer_id FROM events WHERE id = arguments ->> '$.event_id')
                WHEN kind = 'mail_ticket' THEN (SELECT developer_id FROM tickets WHERE id = arguments ->> '$.ticket_id')
                WHEN kind = 'deliver_webhook' THEN (SELECT developer_id FROM webhooks WHERE id = arguments ->> '$.webhook_id')
                WHEN kind IN ('check_version', 'submit_version', 'publish_version')
                    THEN (SELECT a.developer_id FROM versions v JOIN apps a ON a.id = v.app_id WHERE v.id = arguments ->> '$.version_id')
           END,
           arguments, unique_key, state, attempts, run_at, lease_until, lease_token, last_error, created_at, finished_at
    FROM jobs;

ALTER TABLE events ADD COLUMN mail_due INTEGER NOT NULL DEFAULT 0 CHECK (mail_due IN (0, 1));   -- to be mailed; the choice is looked at again then
UPDATE events SET mail_due = 1 WHERE mailed_at IS NULL AND id IN
    (SELECT arguments ->> '$.event_id' FROM jobs WHERE kind = 'mail_event' AND state <> 'done');
CREATE INDEX events_to_mail ON events (developer_id, number) WHERE mail_due = 1;
CREATE INDEX events_mailed ON events (developer_id, mailed_at) WHERE mailed_at IS NOT NULL;

DELETE FROM jobs_new WHERE kind IN ('mail_event', 'deliver_webhook') AND state <> 'done' AND (owner_id IS NULL OR EXISTS
    (SELECT 1 FROM jobs_new AS other WHERE other.kind = jobs_new.kind AND other.state <> 'done' AND other.id < jobs_new.id
     AND iif(other.kind = 'mail_event', other.owner_id = jobs_new.owner_id, other.arguments = jobs_new.arguments)));
UPDATE jobs_new SET state = 'waiting', attempts = 0, lease_until = NULL, lease_token = NULL, finished_at = NULL,
        arguments = iif(kind = 'mail_event', json_object('developer_id', owner_id), arguments),
        unique_key = iif(kind = 'mail_event', 'mail_event:' || owner_id, 'webhook:' || (arguments ->> '$.webhook_id'))
    WHERE kind IN ('mail_event', 'deliver_webhook') AND state <> 'done';

DROP TABLE jobs;
ALTER TABLE jobs_new RENAME TO jobs;
CREATE INDEX jobs_due ON jobs (lane, run_at, id) WHERE state = 'waiting';
CREATE INDEX jobs_leased ON jobs (lease_until) WHERE state = 'running';
CREATE INDEX jobs_by_key ON jobs (unique_key, created_at) WHERE unique_key IS NOT NULL;
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE state IN ('done', 'dead');
CREATE UNIQUE INDEX jobs_unique ON jobs (unique_key) WHERE unique_key IS NOT NULL AND state IN ('waiting', 'running');

-- How much of a lane each owner has had, in seconds of work, and until when none of its jobs is begun. The row with the owner ''
-- is where the lane itself stands; owners at or before it need no row.
CREATE TABLE job_turns (
    lane            TEXT NOT NULL,
    owner_id        TEXT NOT NULL,
    turn            REAL NOT NULL,
    rests_until     TEXT,
    PRIMARY KEY (lane, owner_id)
) STRICT, WITHOUT ROWID;
