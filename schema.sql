-- The portal's database as it is today. New databases start here; migrations/ is how older ones get here, and a test
-- proves that both tell the same story. Ids are UUIDv7 text, times are UTC text '2026-01-31T12:00:00Z', lists are JSON.

-- A person (or a team's account) who signs in and owns apps. An erased account keeps its row under a pseudonym.
CREATE TABLE developers (
    id              TEXT PRIMARY KEY,
    email           TEXT NOT NULL COLLATE NOCASE UNIQUE,
    email_verified  INTEGER NOT NULL DEFAULT 0 CHECK (email_verified IN (0, 1)),
    name            TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    role            TEXT NOT NULL DEFAULT 'developer' CHECK (role IN ('developer', 'reviewer', 'admin')),
    suspended       INTEGER NOT NULL DEFAULT 0 CHECK (suspended IN (0, 1)),
    password_hash   TEXT,                       -- PHC string; NULL when one only signs in through a provider
    created_at      TEXT NOT NULL,
    erased_at       TEXT,
    mail_choices    TEXT NOT NULL DEFAULT '{}' CHECK (json_type(mail_choices) = 'object')   -- {kind of event: sent by mail or not}
) STRICT;

-- One sign-in on one device: a family of refresh tokens, of which only the newest generation is good. Access tokens name
-- the session as `sid` and die with it.
CREATE TABLE sessions (
    id              TEXT PRIMARY KEY,
    developer_id    TEXT NOT NULL REFERENCES developers (id) ON DELETE CASCADE,
    seed            BLOB NOT NULL,              -- goes into the MAC of its refresh tokens, none of which is stored
    generation      INTEGER NOT NULL DEFAULT 0, -- the refresh token that is good now; a lower one gives a thief away
    rotated_at      TEXT,
    client          TEXT NOT NULL DEFAULT '',   -- User-Agent, shortened
    address         TEXT NOT NULL DEFAULT '',   -- truncated network address
    created_at      TEXT NOT NULL,
    last_used_at    TEXT NOT NULL,
    expires_at      TEXT NOT NULL,
    ended_at        TEXT,
    end_reason      TEXT CHECK (end_reason IN ('logout', 'everywhere', 'reuse', 'password', 'suspended', 'erased', 'revoked')),
    scopes          TEXT CHECK (json_type(scopes) = 'array'),   -- what a device login may do; NULL: everything
    made_by         TEXT,                       -- the session that approved the device login; NULL: signed in
    browser_hash    TEXT                        -- SHA-256 of the token in a browser's cookie; NULL: a program's session
) STRICT;
CREATE UNIQUE INDEX sessions_by_browser ON sessions (browser_hash) WHERE browser_hash IS NOT NULL;
CREATE INDEX sessions_by_developer ON sessions (developer_id, ended_at);
CREATE INDEX sessions_by_maker ON sessions (made_by) WHERE made_by IS NOT NULL;

-- Who somebody is at a provider. The subject is what never changes there; it counts together with the issuer, because two
-- issuers may give out the same subjects, and the operator may change who stands behind a name.
CREATE TABLE identities (
    id              TEXT PRIMARY KEY,
    developer_id    TEXT NOT NULL REFERENCES developers (id) ON DELETE CASCADE,
    provider        TEXT NOT NULL,              -- its name in addresses and answers
    issuer          TEXT NOT NULL,
    subject         TEXT NOT NULL,
    created_at      TEXT NOT NULL,
    last_used_at    TEXT NOT NULL,
    UNIQUE (issuer, subject)
) STRICT;
CREATE INDEX identities_by_developer ON identities (developer_id, id);

-- A sign-in at a provider that has been begun. Nothing here can be presented: the browser keeps the secret from which state,
-- nonce and PKCE verifier are made.
CREATE TABLE oauth_states (
    browser_hash    TEXT PRIMARY KEY,           -- SHA-256 of the secret in the browser's cookie
    provider        TEXT NOT NULL,
    stage           TEXT NOT NULL DEFAULT 'begun' CHECK (stage IN ('begun', 'spent', 'answered')),
    return_to       TEXT,
    session_id      TEXT REFERENCES sessions (id) ON DELETE CASCADE,    -- who was signed in when it began, to link the identity
    developer_id    TEXT REFERENCES developers (id) ON DELETE CASCADE   -- who it turned out to be, until that is collected
                    CHECK ((developer_id IS NULL) = (stage <> 'answered')),
    expires_at      TEXT NOT NULL
) STRICT;
CREATE INDEX oauth_states_by_expiry ON oauth_states (expires_at);
-- A permission for one use that travels by mail: to verify an address, set a new password, or register by invitation. The
-- token is made from the id with the server's secret and stored nowhere.
CREATE TABLE tickets (
    id              TEXT PRIMARY KEY,
    developer_id    TEXT REFERENCES developers (id) ON DELETE CASCADE,  -- NULL: an invitation
    purpose         TEXT NOT NULL CHECK (purpose IN ('verify', 'reset', 'invite', 'change', 'undo')),
    email           TEXT NOT NULL COLLATE NOCASE,   -- where it was sent; void once the account has another address
    created_at      TEXT NOT NULL,
    expires_at      TEXT NOT NULL,
    used_at         TEXT,
    CHECK ((developer_id IS NULL) = (purpose = 'invite'))
) STRICT;
CREATE INDEX tickets_by_developer ON tickets (developer_id, purpose) WHERE used_at IS NULL;
CREATE INDEX tickets_expiring ON tickets (expires_at);

-- The second factor of an account (RFC 6238). Its secret is made from the seed and the server's secret.
CREATE TABLE second_factors (
    developer_id    TEXT PRIMARY KEY REFERENCES developers (id) ON DELETE CASCADE,
    seed            BLOB NOT NULL,
    confirmed_at    TEXT,                       -- NULL: begun, counts for nothing
    last_step       INTEGER NOT NULL DEFAULT 0, -- the time step of the last code that was accepted: a code is good once
    recovery_hashes TEXT NOT NULL DEFAULT '[]' CHECK (json_type(recovery_hashes) = 'array'),
    created_at      TEXT NOT NULL
) STRICT;

-- The link with which the first administrator is made: printed at start while there is none, good once and for an hour.
CREATE TABLE setup_links (
    token_hash      TEXT PRIMARY KEY,           -- SHA-256 of the token
    expires_at      TEXT NOT NULL
) STRICT;

-- A sign-in that was begun on a machine without a browser and waits for its owner to approve it elsewhere (RFC 8628).
CREATE TABLE device_logins (
    id               TEXT PRIMARY KEY,
    device_code_hash TEXT NOT NULL UNIQUE,
    user_code        TEXT NOT NULL UNIQUE,
    client_name      TEXT NOT NULL,
    scopes           TEXT NOT NULL CHECK (json_type(scopes) = 'array'),
    state            TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'approved', 'denied', 'spent')),
    developer_id     TEXT REFERENCES developers (id) ON DELETE CASCADE,
    interval_seconds INTEGER NOT NULL DEFAULT 5,
    polled_at        TEXT,
    created_at       TEXT NOT NULL,
    expires_at       TEXT NOT NULL,
    made_by          TEXT,                      -- the session that approved it
    CHECK ((developer_id IS NULL) = (state = 'waiting'))
) STRICT;
CREATE INDEX device_logins_expiring ON device_logins (expires_at);

-- A credential for programs. Only its hash is kept; a revoked key keeps its row for the owner's history.
CREATE TABLE api_keys (
    id              TEXT PRIMARY KEY,
    developer_id    TEXT NOT NULL REFERENCES developers (id) ON DELETE CASCADE,
    name            TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    prefix          TEXT NOT NULL,
    hash            TEXT NOT NULL UNIQUE,
    scopes          TEXT NOT NULL CHECK (json_type(scopes) = 'array'),
    apps            TEXT CHECK (json_type(apps) = 'array'),     -- app ids; NULL: all apps of the account
    role            TEXT NOT NULL DEFAULT 'developer' CHECK (role IN ('developer', 'reviewer', 'admin')),
    expires_at      TEXT,
    notified_at     TEXT,                       -- when its owner was told that it will expire
    last_used_at    TEXT,
    created_at      TEXT NOT NULL,
    revoked_at      TEXT,
    made_by         TEXT                        -- the API key or session that made it; NULL: not known
) STRICT;
CREATE INDEX api_keys_by_developer ON api_keys (developer_id, id);
CREATE INDEX api_keys_by_maker ON api_keys (made_by) WHERE made_by IS NOT NULL;
CREATE INDEX api_keys_expiring ON api_keys (expires_at) WHERE expires_at IS NOT NULL AND revoked_at IS NULL AND notified_at IS NULL;

-- An Ed25519 public key with which a developer signs packages. Revoked keys stay: old versions name them.
CREATE TABLE signing_keys (
    id              TEXT PRIMARY KEY,
    developer_id    TEXT NOT NULL REFERENCES developers (id),
    name            TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    public_key      BLOB NOT NULL CHECK (length(public_key) = 32),
    fingerprint     TEXT NOT NULL,
    state           TEXT NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'revoked')),
    created_at      TEXT NOT NULL,
    revoked_at      TEXT CHECK ((revoked_at IS NULL) = (state = 'active')),
    made_by         TEXT,                       -- the API key or session that registered it; NULL: not known
    UNIQUE (developer_id, public_key)
) STRICT;
CREATE INDEX signing_keys_by_maker ON signing_keys (made_by) WHERE made_by IS NOT NULL;

-- An app: the name under which versions are published, owned by one developer.
CREATE TABLE apps (
    id              TEXT PRIMARY KEY,
    package_id      TEXT NOT NULL UNIQUE CHECK (length(package_id) <= 255),
    developer_id    TEXT NOT NULL REFERENCES developers (id),
    name            TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 50),
    summary         TEXT NOT NULL DEFAULT '',
    category        TEXT NOT NULL DEFAULT 'other',
    tags            TEXT NOT NULL DEFAULT '[]' CHECK (json_type(tags) = 'array'),
    homepage        TEXT,
    published       INTEGER NOT NULL DEFAULT 0 CHECK (published IN (0, 1)),  -- whether anything was ever published
    suspended       INTEGER NOT NULL DEFAULT 0 CHECK (suspended IN (0, 1)),
    created_at      TEXT NOT NULL,
    updated_at      TEXT NOT NULL,
    description     TEXT NOT NULL DEFAULT '',
    rollout_plan    TEXT CHECK (json_type(rollout_plan) = 'object'),    -- of versions that have none of their own
    first_owner_id  TEXT,                       -- the id in the path of its packages, once it was transferred; NULL: developer_id
    transferred_at  TEXT,                       -- when another account took it over last
    publish_by      TEXT NOT NULL DEFAULT 'anyone' CHECK (publish_by IN ('anyone', 'trusted'))   -- who may upload
) STRICT;
CREATE INDEX apps_by_developer ON apps (developer_id, id);

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

-- Build servers that may publish an app without a stored secret: an ID token of this issuer with these claims is exchanged for a
-- token of 15 minutes.
CREATE TABLE trusted_publishers (
    id              TEXT PRIMARY KEY,
    app_id          TEXT NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    developer_id    TEXT NOT NULL REFERENCES developers (id) ON DELETE CASCADE,    -- the owner who has added it
    issuer          TEXT NOT NULL,
    claims          TEXT NOT NULL CHECK (json_type(claims) = 'object'),
    scopes          TEXT NOT NULL CHECK (json_type(scopes) = 'array'),
    created_at      TEXT NOT NULL,
    last_used_at    TEXT
) STRICT;
CREATE INDEX trusted_publishers_by_app ON trusted_publishers (app_id, id);
CREATE INDEX trusted_publishers_by_developer ON trusted_publishers (developer_id);
CREATE TABLE publisher_tokens (
    id              TEXT PRIMARY KEY,
    publisher_id    TEXT NOT NULL REFERENCES trusted_publishers (id) ON DELETE CASCADE,
    token_hash      TEXT NOT NULL UNIQUE,       -- SHA-256
    created_at      TEXT NOT NULL,
    expires_at      TEXT NOT NULL
) STRICT;
CREATE INDEX publisher_tokens_by_publisher ON publisher_tokens (publisher_id);
CREATE INDEX publisher_tokens_expiring ON publisher_tokens (expires_at);
-- ID tokens that were exchanged: each is good once.
CREATE TABLE exchanged_tokens (
    use_hash        TEXT PRIMARY KEY,           -- SHA-256 of issuer and jti
    expires_at      TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX exchanged_tokens_expiring ON exchanged_tokens (expires_at);

-- One uploaded package and where it stands. The long texts come last: SQLite reads a row from its beginning. `released` is 1 once devices were ever offered it: its version string is spent.
CREATE TABLE versions (
    id                TEXT PRIMARY KEY,
    app_id            TEXT NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    version           TEXT NOT NULL,
    version_code      INTEGER NOT NULL CHECK (version_code BETWEEN 1 AND 2147483647),
    channel           TEXT NOT NULL CHECK (channel IN ('stable', 'beta')),
    state             TEXT NOT NULL CHECK (state IN ('checking', 'failed', 'ready', 'in_review', 'approved', 'rejected',
                                                     'withdrawn', 'published', 'halted', 'yanked')),
    released          INTEGER NOT NULL DEFAULT 0 CHECK (released IN (0, 1)),
    submit_when_ready INTEGER NOT NULL DEFAULT 0 CHECK (submit_when_ready IN (0, 1)),
    publish_when_approved INTEGER NOT NULL DEFAULT 0 CHECK (publish_when_approved IN (0, 1)),
    permissions       TEXT NOT NULL DEFAULT '[]' CHECK (json_type(permissions) = 'array'),
    min_mosis_version TEXT NOT NULL,
    size_bytes        INTEGER NOT NULL,
    sha256            TEXT NOT NULL CHECK (length(sha256) = 64),
    signing_key_id    TEXT NOT NULL REFERENCES signing_keys (id),
    rollout_percent   REAL NOT NULL DEFAULT 100 CHECK (rollout_percent BETWEEN 0 AND 100),
    publish_at        TEXT,
    yank_reason       TEXT,
    created_at        TEXT NOT NULL,
    submitted_at      TEXT,
    decided_at        TEXT,
    published_at      TEXT CHECK (published_at IS NOT NULL OR state NOT IN ('published', 'halted', 'yanked')),
    findings          TEXT NOT NULL DEFAULT '[]' CHECK (json_type(findings) = 'array'),
    release_notes     TEXT NOT NULL DEFAULT '',
    manifest          TEXT NOT NULL CHECK (json_type(manifest) = 'object'),
    files             TEXT NOT NULL CHECK (json_type(files) = 'object'),   -- name: {size_bytes, sha256}
    package_removed_at TEXT,                    -- the row stays; nothing on the disk belongs to it
    security          INTEGER NOT NULL DEFAULT 0 CHECK (security IN (0, 1)),   -- a reviewer: devices should have it at once
    offered_at        TEXT                      -- to everybody, if that was later than its publication
) STRICT;
-- A version string belongs to one living version: failed, rejected and withdrawn ones give it back, unless it was released.
CREATE UNIQUE INDEX versions_living ON versions (app_id, version)
    WHERE state NOT IN ('failed', 'rejected', 'withdrawn') OR released = 1;
CREATE INDEX versions_by_app ON versions (app_id, id);
CREATE INDEX versions_dead ON versions (app_id, id)
    WHERE released = 0 AND state IN ('failed', 'rejected', 'withdrawn') AND package_removed_at IS NULL;
CREATE INDEX versions_published ON versions (app_id, channel, version_code) WHERE state = 'published';
CREATE INDEX versions_offered ON versions (coalesce(offered_at, published_at), id)
    WHERE state = 'published' AND channel = 'stable' AND rollout_percent >= 100;    -- what the Atom feed lists
CREATE INDEX versions_watched ON versions (state) WHERE state IN ('checking', 'in_review', 'halted');  -- what metrics count

-- How the share of the devices that are offered a version grows by time, and when it is halted by itself.
CREATE TABLE rollout_plans (
    version_id      TEXT PRIMARY KEY REFERENCES versions (id) ON DELETE CASCADE,
    steps           TEXT NOT NULL CHECK (json_type(steps) = 'array'),          -- [{percent, after_hours}, ...]
    halt_when       TEXT CHECK (json_type(halt_when) = 'object'),              -- {crash_free_below, ...}
    state           TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'paused', 'finished')),
    steps_taken     INTEGER NOT NULL DEFAULT 0,
    next_step_at    TEXT,
    watched_until   TEXT,                       -- after the last step; until then it can still be halted
    round           INTEGER NOT NULL DEFAULT 0, -- counts publications; sessions are counted anew in each
    looks           INTEGER NOT NULL DEFAULT 0, -- tests of this round
    next_look       INTEGER NOT NULL DEFAULT 0, -- number of sessions at which the next test is due
    halted          TEXT CHECK (json_type(halted) = 'object')                  -- figures of the last automatic halt
) STRICT;
CREATE INDEX rollout_plans_active ON rollout_plans (version_id) WHERE state IN ('running', 'paused');

-- One round of review of one version. The newest row of a version is the one that counts.
CREATE TABLE reviews (
    id              TEXT PRIMARY KEY,
    version_id      TEXT NOT NULL REFERENCES versions (id) ON DELETE CASCADE,
    state           TEXT NOT NULL DEFAULT 'waiting'
                    CHECK (state IN ('waiting', 'claimed', 'approved', 'rejected', 'withdrawn')),
    claimed_by      TEXT REFERENCES developers (id),
    claimed_until   TEXT CHECK ((claimed_until IS NULL) = (state <> 'claimed')),
    reasons         TEXT NOT NULL DEFAULT '[]' CHECK (json_type(reasons) = 'array'),
    comment         TEXT NOT NULL DEFAULT '' CHECK (state <> 'rejected' OR length(comment) > 0),
    decided_by      TEXT REFERENCES developers (id),    -- NULL: the policy decided
    because         TEXT NOT NULL DEFAULT '[]' CHECK (json_type(because) = 'array'),    -- why a person is needed
    submitted_at    TEXT NOT NULL,
    decided_at      TEXT
) STRICT;
CREATE INDEX reviews_by_version ON reviews (version_id, id);
CREATE INDEX reviews_open ON reviews (submitted_at, id) WHERE state IN ('waiting', 'claimed');
CREATE INDEX reviews_decided ON reviews (decided_at) WHERE decided_at IS NOT NULL;

-- A change of what the store shows of an app, which waits for a reviewer. One of each app waits; withdrawn ones are deleted, and
-- of the decided ones the newest twenty stay.
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

-- What people have reported about apps. Open reports have bounds for each app, source and in all; closed ones go after 90 days.
CREATE TABLE abuse_reports (
    number          INTEGER PRIMARY KEY AUTOINCREMENT,
    id              TEXT NOT NULL UNIQUE,
    app_id          TEXT NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    author_id       TEXT REFERENCES developers (id),    -- NULL: not signed in
    verified        INTEGER NOT NULL DEFAULT 0 CHECK (verified IN (0, 1)),  -- by an account with a verified address
    source_hash     TEXT NOT NULL,              -- keyed hash of the account or the network, for the bounds
    reason          TEXT NOT NULL,
    text            TEXT NOT NULL,
    email           TEXT,                       -- where a reviewer may ask
    created_at      TEXT NOT NULL,
    closed_at       TEXT,
    closed_by       TEXT REFERENCES developers (id),
    outcome         TEXT CHECK (outcome IN ('dismissed', 'suspended')),
    CHECK ((closed_at IS NULL) = (outcome IS NULL))
) STRICT;
CREATE INDEX abuse_reports_open ON abuse_reports (app_id, verified, number) WHERE closed_at IS NULL;
CREATE INDEX abuse_reports_by_app ON abuse_reports (app_id, number);
CREATE INDEX abuse_reports_by_source ON abuse_reports (source_hash) WHERE closed_at IS NULL;
CREATE INDEX abuse_reports_by_author ON abuse_reports (author_id) WHERE author_id IS NOT NULL;
CREATE INDEX abuse_reports_by_age ON abuse_reports (created_at);

-- The conversation about a version, between its developer and the reviewers. Internal messages only reviewers see.
CREATE TABLE messages (
    id              TEXT PRIMARY KEY,
    version_id      TEXT NOT NULL REFERENCES versions (id) ON DELETE CASCADE,
    author_id       TEXT NOT NULL REFERENCES developers (id),
    sender          TEXT NOT NULL CHECK (sender IN ('developer', 'reviewer')),
    internal        INTEGER NOT NULL DEFAULT 0 CHECK (internal = 0 OR (internal = 1 AND sender = 'reviewer')),
    text            TEXT NOT NULL CHECK (length(text) BETWEEN 1 AND 5000),
    created_at      TEXT NOT NULL
) STRICT;
CREATE INDEX messages_by_version ON messages (version_id, id);

-- How often each version was fetched, by day, and in all days before those (day ''). Written in batches; a kill can lose the
-- last few seconds of counting. The telemetry database has the days for longer.
CREATE TABLE downloads (
    version_id      TEXT NOT NULL REFERENCES versions (id) ON DELETE CASCADE,
    day             TEXT NOT NULL,
    count           INTEGER NOT NULL,
    PRIMARY KEY (version_id, day)
) STRICT, WITHOUT ROWID;
CREATE INDEX downloads_by_day ON downloads (day) WHERE day <> '';

-- Work that follows from a change, added in the transaction of the change. Handlers may run twice and must not mind.
CREATE TABLE jobs (
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

-- What happened that concerns a developer, in order: what GET /notifications and GET /events show, and mail tells.
CREATE TABLE events (
    number          INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order; an id says when, and clocks can be turned back
    id              TEXT NOT NULL UNIQUE,
    developer_id    TEXT NOT NULL REFERENCES developers (id) ON DELETE CASCADE,
    kind            TEXT NOT NULL,
    package_id      TEXT,
    version         TEXT,
    data            TEXT NOT NULL DEFAULT '{}' CHECK (json_type(data) = 'object'),
    created_at      TEXT NOT NULL,
    read_at         TEXT,
    mailed_at       TEXT,
    mail_due        INTEGER NOT NULL DEFAULT 0 CHECK (mail_due IN (0, 1))   -- to be mailed; the choice is looked at again then
) STRICT;
CREATE INDEX events_by_developer ON events (developer_id, number);
CREATE INDEX events_unread ON events (developer_id, number) WHERE read_at IS NULL;
CREATE INDEX events_to_mail ON events (developer_id, number) WHERE mail_due = 1;
CREATE INDEX events_mailed ON events (developer_id, mailed_at) WHERE mailed_at IS NOT NULL;

-- Where a developer wants events sent. The secrets are kept as they are, because every delivery is signed with them.
CREATE TABLE webhooks (
    id              TEXT PRIMARY KEY,
    developer_id    TEXT NOT NULL REFERENCES developers (id) ON DELETE CASCADE,
    url             TEXT NOT NULL,
    kinds           TEXT CHECK (json_type(kinds) = 'array'),    -- of events; NULL: all
    secret          TEXT NOT NULL,
    old_secret      TEXT,                       -- signs too until then, after a rotation
    old_until       TEXT CHECK ((old_until IS NULL) = (old_secret IS NULL)),
    enabled         INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    failures        INTEGER NOT NULL DEFAULT 0, -- attempts in a row that failed
    failing_since   TEXT CHECK ((failing_since IS NULL) = (failures = 0)),
    rests_until     TEXT,                       -- after a failure: nothing is sent before
    created_at      TEXT NOT NULL
) STRICT;
CREATE INDEX webhooks_by_developer ON webhooks (developer_id, id);

-- One event on its way to one webhook, and afterwards the log of it.
CREATE TABLE webhook_deliveries (
    id              TEXT PRIMARY KEY,
    webhook_id      TEXT NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    event_id        TEXT NOT NULL REFERENCES events (id) ON DELETE CASCADE,
    state           TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'failed')),
    attempts        INTEGER NOT NULL DEFAULT 0,
    due_at          TEXT NOT NULL,
    status          INTEGER,                    -- of the last answer
    error           TEXT,                       -- why there was none
    attempted_at    TEXT,
    begun_at        TEXT NOT NULL,              -- the 24 hours count from here; a redelivery begins anew
    created_at      TEXT NOT NULL,
    finished_at     TEXT CHECK ((finished_at IS NULL) = (state = 'waiting'))
) STRICT;
CREATE INDEX webhook_deliveries_by_webhook ON webhook_deliveries (webhook_id, id);
CREATE INDEX webhook_deliveries_by_event ON webhook_deliveries (event_id);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook_id, due_at) WHERE state = 'waiting';
CREATE INDEX webhook_deliveries_finished ON webhook_deliveries (finished_at) WHERE finished_at IS NOT NULL;

-- What was answered to a POST that came with an Idempotency-Key, for a day, written in the transaction of the change itself.
-- Nobody can read an answer here who does not have the server's secret and the client's key: answers hold tokens and keys.
CREATE TABLE idempotency (
    id              TEXT PRIMARY KEY,           -- MAC of who, method, path and the client's key
    developer_id    TEXT REFERENCES developers (id) ON DELETE CASCADE,  -- NULL: nobody was signed in
    body_mac        TEXT NOT NULL,
    answer          BLOB NOT NULL,              -- status, headers and body, encrypted
    expires_at      TEXT NOT NULL
) STRICT;
CREATE INDEX idempotency_by_developer ON idempotency (developer_id) WHERE developer_id IS NOT NULL;
CREATE INDEX idempotency_expiring ON idempotency (expires_at);

-- Who did what, when. Each line carries the hash of the one before it, so that a change in the past shows.
CREATE TABLE audit (
    number          INTEGER PRIMARY KEY AUTOINCREMENT,
    at              TEXT NOT NULL,
    actor_id        TEXT,                       -- a developer, or NULL for the portal itself
    action          TEXT NOT NULL,
    subject_id      TEXT,
    owner_id        TEXT,                       -- the developer whose account or app it touches
    address         TEXT NOT NULL DEFAULT '',   -- truncated
    details         TEXT NOT NULL DEFAULT '{}' CHECK (json_type(details) = 'object'),
    previous_hash   TEXT NOT NULL,
    hash            TEXT NOT NULL
) STRICT;
CREATE INDEX audit_by_owner ON audit (owner_id, number);

-- What devices see of the store, one row an app: the newest version that everybody on the stable channel gets. Kept by the
-- triggers below, inside whatever transaction changes an app, a version or a developer, so that it is never behind and nobody
-- has to remember it. Lists sort by its indexes and stay as quick with 100,000 apps as with 10,000.
CREATE TABLE listings (
    number            INTEGER PRIMARY KEY,        -- grows with each app that comes in; the words point here
    app_id            TEXT NOT NULL UNIQUE REFERENCES apps (id) ON DELETE CASCADE,
    version_id        TEXT NOT NULL,
    package_id        TEXT NOT NULL UNIQUE,
    name              TEXT NOT NULL COLLATE NOCASE,
    summary           TEXT NOT NULL,
    category          TEXT NOT NULL,
    homepage          TEXT,
    developer_id      TEXT NOT NULL,
    developer_name    TEXT NOT NULL,
    version           TEXT NOT NULL,
    version_code      INTEGER NOT NULL,
    size_bytes        INTEGER NOT NULL,
    sha256            TEXT NOT NULL,
    permissions       TEXT NOT NULL,
    min_mosis_version TEXT NOT NULL,
    downloads         INTEGER NOT NULL DEFAULT 0,
    published_at      TEXT NOT NULL,
    updated_at        TEXT NOT NULL,
    description       TEXT NOT NULL,
    release_notes     TEXT NOT NULL,
    tags              TEXT NOT NULL,
    screenshots       TEXT NOT NULL              -- paths inside the package
) STRICT;
-- Everything that a search filters and sorts by, without the texts: thousands are looked at here and twenty are read whole.
CREATE INDEX listings_places ON listings (number, downloads, updated_at, category, name);
CREATE INDEX listings_updated ON listings (updated_at, number);
CREATE INDEX listings_named ON listings (name, number);
CREATE INDEX listings_downloaded ON listings (downloads, number);
CREATE INDEX listings_updated_in ON listings (category, updated_at, number);
CREATE INDEX listings_named_in ON listings (category, name, number);
CREATE INDEX listings_downloaded_in ON listings (category, downloads, number);

-- Which listings carry a tag.
CREATE TABLE listing_tags (
    tag             TEXT NOT NULL,
    number          INTEGER NOT NULL REFERENCES listings (number) ON DELETE CASCADE,
    PRIMARY KEY (tag, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX listing_tags_by_number ON listing_tags (number);

-- One row. `catalogue` counts the changes of what the store offers, `counts` those of the download counts: together they say
-- whether an answer that was kept is still right. `placing` decides which devices a partial rollout reaches. `sequence` is the
-- number of the signed index.
CREATE TABLE store_state (
    id              INTEGER PRIMARY KEY CHECK (id = 1),
    catalogue       INTEGER NOT NULL DEFAULT 0,
    counts          INTEGER NOT NULL DEFAULT 0,
    placing         BLOB NOT NULL DEFAULT (randomblob(32)) CHECK (length(placing) = 32),
    sequence        INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO store_state (id) VALUES (1);

-- The listings as they should be; suspended people and apps are not shown.
CREATE VIEW listable AS
    SELECT a.id AS app_id, v.id AS version_id, a.package_id, a.name, a.summary, a.description, a.category, a.tags, a.homepage,
           d.id AS developer_id, d.name AS developer_name, v.version, v.version_code, v.size_bytes, v.sha256, v.permissions,
           v.min_mosis_version, v.release_notes, coalesce(v.manifest ->> '$.screenshots', '[]') AS screenshots,
           v.published_at, a.updated_at
    FROM apps a JOIN developers d ON d.id = a.developer_id
    JOIN versions v ON v.id = (SELECT n.id FROM versions n WHERE n.app_id = a.id AND n.channel = 'stable' AND n.state = 'published'
                               AND n.rollout_percent >= 100 ORDER BY n.version_code DESC LIMIT 1)
    WHERE a.published = 1 AND a.suspended = 0 AND d.suspended = 0;

-- The words that are searched. Scripts without spaces between words (Chinese, Japanese, Thai and the like) are taken apart
-- into letters, so that any part of them is found as a phrase; mosis/store/search.py does the same with what is looked for.
-- To make the index anew: `INSERT INTO listing_words (listing_words) VALUES ('delete-all')`, then insert all of the view.
CREATE VIEW listing_words_source AS
    SELECT number, max(text) FILTER (WHERE field = 0) AS name, max(text) FILTER (WHERE field = 1) AS summary,
           max(text) FILTER (WHERE field = 2) AS tags, max(text) FILTER (WHERE field = 3) AS description,
           max(text) FILTER (WHERE field = 4) AS about
    FROM (
        SELECT l.number, f.key AS field, CASE WHEN f.value NOT GLOB '*[' || char(3584) || '-' || char(1114111) || ']*' THEN f.value
            ELSE (
                WITH RECURSIVE letters (place, letter) AS (
                    SELECT 1, substr(f.value, 1, 1)
                    UNION ALL SELECT place + 1, substr(f.value, place + 1, 1) FROM letters WHERE place < length(f.value)
                )
                SELECT group_concat(CASE WHEN unicode(letter) >= 11904 OR unicode(letter) BETWEEN 3584 AND 3839
                    OR unicode(letter) BETWEEN 4096 AND 4255 OR unicode(letter) BETWEEN 6016 AND 6143
                    THEN ' ' || letter || ' ' ELSE letter END, '') FROM letters
            ) END AS text
        FROM listings l, json_each(json_array(
            l.name, l.summary, (SELECT group_concat(value, ' ') FROM json_each(l.tags)), l.description,
            l.package_id || ' ' || l.developer_name || ' ' || l.category)) f
    ) GROUP BY number;
CREATE VIRTUAL TABLE listing_words USING fts5 (
    name, summary, tags, description, about,
    content='', tokenize='unicode61 remove_diacritics 2', prefix='1 2 3'
);
CREATE TRIGGER listings_inserted AFTER INSERT ON listings BEGIN
    INSERT INTO listing_words (rowid, name, summary, tags, description, about)
        SELECT number, name, summary, tags, description, about FROM listing_words_source WHERE number = NEW.number;
    INSERT INTO listing_tags (tag, number) SELECT DISTINCT value, NEW.number FROM json_each(NEW.tags);
END;
CREATE TRIGGER listings_deleted BEFORE DELETE ON listings BEGIN
    INSERT INTO listing_words (listing_words, rowid, name, summary, tags, description, about)
        SELECT 'delete', number, name, summary, tags, description, about FROM listing_words_source WHERE number = OLD.number;
    DELETE FROM listing_tags WHERE number = OLD.number;
END;
CREATE TRIGGER listings_words_before BEFORE UPDATE OF name, summary, description, tags, category, developer_name ON listings
WHEN (NEW.name, NEW.summary, NEW.description, NEW.tags, NEW.category, NEW.developer_name)
     IS NOT (OLD.name, OLD.summary, OLD.description, OLD.tags, OLD.category, OLD.developer_name) BEGIN
    INSERT INTO listing_words (listing_words, rowid, name, summary, tags, description, about)
        SELECT 'delete', number, name, summary, tags, description, about FROM listing_words_source WHERE number = OLD.number;
    DELETE FROM listing_tags WHERE number = OLD.number;
END;
CREATE TRIGGER listings_words_after AFTER UPDATE OF name, summary, description, tags, category, developer_name ON listings
WHEN (NEW.name, NEW.summary, NEW.description, NEW.tags, NEW.category, NEW.developer_name)
     IS NOT (OLD.name, OLD.summary, OLD.description, OLD.tags, OLD.category, OLD.developer_name) BEGIN
    INSERT INTO listing_words (rowid, name, summary, tags, description, about)
        SELECT number, name, summary, tags, description, about FROM listing_words_source WHERE number = NEW.number;
    INSERT INTO listing_tags (tag, number) SELECT DISTINCT value, NEW.number FROM json_each(NEW.tags);
END;

-- `INSERT INTO listings_due (app_id)` brings the listing of an app up to date; the triggers that follow do, on every change of
-- the three tables that listings are made of.
CREATE VIEW listings_due AS SELECT app_id FROM listings;
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
CREATE TRIGGER versions_listed_insert AFTER INSERT ON versions WHEN NEW.released = 1 BEGIN
    INSERT INTO listings_due (app_id) VALUES (NEW.app_id);
END;
CREATE TRIGGER versions_listed_update AFTER UPDATE ON versions WHEN NEW.released = 1 OR OLD.released = 1 BEGIN
    INSERT INTO listings_due (app_id) VALUES (NEW.app_id);
END;
CREATE TRIGGER versions_listed_delete AFTER DELETE ON versions WHEN OLD.released = 1 BEGIN
    INSERT INTO listings_due (app_id) VALUES (OLD.app_id);
END;
CREATE TRIGGER apps_listed_update AFTER UPDATE ON apps WHEN NEW.published = 1 OR OLD.published = 1 BEGIN
    INSERT INTO listings_due (app_id) VALUES (NEW.id);
END;
CREATE TRIGGER developers_listed_update AFTER UPDATE OF name, suspended ON developers
WHEN (NEW.name, NEW.suspended) IS NOT (OLD.name, OLD.suspended) BEGIN
    INSERT INTO listings_due (app_id) SELECT id FROM apps WHERE developer_id = NEW.id AND published = 1;
END;
CREATE TRIGGER downloads_counted_insert AFTER INSERT ON downloads BEGIN
    UPDATE listings SET downloads = downloads + NEW.count
        WHERE app_id = (SELECT app_id FROM versions WHERE id = NEW.version_id);
    UPDATE store_state SET counts = counts + 1;
END;
CREATE TRIGGER downloads_counted_update AFTER UPDATE OF count ON downloads BEGIN
    UPDATE listings SET downloads = downloads + NEW.count - OLD.count
        WHERE app_id = (SELECT app_id FROM versions WHERE id = NEW.version_id);
    UPDATE store_state SET counts = counts + 1;
END;
CREATE TRIGGER downloads_counted_delete AFTER DELETE ON downloads BEGIN
    UPDATE listings SET downloads = downloads - OLD.count
        WHERE app_id = (SELECT app_id FROM versions WHERE id = OLD.version_id);
    UPDATE store_state SET counts = counts + 1;
END;

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

-- The last change of each app that is or was in the store, in order: what a mirror follows. `added` is the number with which it
-- came in the last time.
CREATE TABLE store_changes (
    number          INTEGER PRIMARY KEY,
    package_id      TEXT NOT NULL UNIQUE,
    added           INTEGER NOT NULL,
    removed         INTEGER NOT NULL DEFAULT 0 CHECK (removed IN (0, 1))
) STRICT;
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

-- What store front ends, which read copies of this database, need to know of the primary: one row, updated while a replica is
-- configured.
CREATE TABLE heartbeat (
    id              INTEGER PRIMARY KEY CHECK (id = 1),
    beaten_at       TEXT NOT NULL,
    settings        TEXT NOT NULL CHECK (json_type(settings) = 'object'),   -- those that responses of the store depend on
    started         TEXT NOT NULL               -- another one for each start of the primary
) STRICT;

-- The newest signed index of each cooldown without its bytes, which follow from the rows: front ends make them again.
CREATE TABLE signed_indexes (
    min_age_days    INTEGER PRIMARY KEY,
    sequence        INTEGER NOT NULL,
    catalogue       INTEGER NOT NULL,           -- as in store_state
    created_at      TEXT NOT NULL,
    size_bytes      INTEGER NOT NULL,
    sha256          TEXT NOT NULL,
    signatures      TEXT NOT NULL,              -- content of index.json.sig
    keys            TEXT NOT NULL CHECK (json_type(keys) = 'array')         -- the public keys
) STRICT;

-- Download counts that front ends have sent, so that none is added twice.
CREATE TABLE download_batches (
    id              TEXT PRIMARY KEY,
    received_at     TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX download_batches_by_age ON download_batches (received_at);
