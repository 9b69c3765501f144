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
    erased_at       TEXT
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
    end_reason      TEXT CHECK (end_reason IN ('logout', 'everywhere', 'reuse', 'password', 'suspended', 'erased', 'revoked'))
) STRICT;
CREATE INDEX sessions_by_developer ON sessions (developer_id, ended_at);

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
    UNIQUE (developer_id, public_key)
) STRICT;

-- An app: the name under which versions are published, owned by one developer.
CREATE TABLE apps (
    id              TEXT PRIMARY KEY,
    package_id      TEXT NOT NULL UNIQUE CHECK (length(package_id) <= 255),
    developer_id    TEXT NOT NULL REFERENCES developers (id),
    name            TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 50),
    summary         TEXT NOT NULL DEFAULT '',
    description     TEXT NOT NULL DEFAULT '',
    category        TEXT NOT NULL DEFAULT 'other',
    tags            TEXT NOT NULL DEFAULT '[]' CHECK (json_type(tags) = 'array'),
    homepage        TEXT,
    published       INTEGER NOT NULL DEFAULT 0 CHECK (published IN (0, 1)),  -- whether anything was ever published
    suspended       INTEGER NOT NULL DEFAULT 0 CHECK (suspended IN (0, 1)),
    created_at      TEXT NOT NULL,
    updated_at      TEXT NOT NULL
) STRICT;
CREATE INDEX apps_by_developer ON apps (developer_id, id);

-- One uploaded package and where it stands. `released` is 1 once devices were ever offered it: its version string is spent.
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
    findings          TEXT NOT NULL DEFAULT '[]' CHECK (json_type(findings) = 'array'),
    permissions       TEXT NOT NULL DEFAULT '[]' CHECK (json_type(permissions) = 'array'),
    min_mosis_version TEXT NOT NULL,
    release_notes     TEXT NOT NULL DEFAULT '',
    manifest          TEXT NOT NULL CHECK (json_type(manifest) = 'object'),
    files             TEXT NOT NULL CHECK (json_type(files) = 'object'),    -- name: {size_bytes, sha256}
    size_bytes        INTEGER NOT NULL,
    sha256            TEXT NOT NULL CHECK (length(sha256) = 64),
    signing_key_id    TEXT NOT NULL REFERENCES signing_keys (id),
    rollout_percent   REAL NOT NULL DEFAULT 100 CHECK (rollout_percent BETWEEN 0 AND 100),
    publish_at        TEXT,
    yank_reason       TEXT,
    created_at        TEXT NOT NULL,
    submitted_at      TEXT,
    decided_at        TEXT,
    published_at      TEXT CHECK (published_at IS NOT NULL OR state NOT IN ('published', 'halted', 'yanked'))
) STRICT;
-- A version string belongs to one living version: failed, rejected and withdrawn ones give it back, unless it was released.
CREATE UNIQUE INDEX versions_living ON versions (app_id, version)
    WHERE state NOT IN ('failed', 'rejected', 'withdrawn') OR released = 1;
CREATE INDEX versions_by_app ON versions (app_id, id);
CREATE INDEX versions_published ON versions (app_id, channel, version_code) WHERE state = 'published';

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
    submitted_at    TEXT NOT NULL,
    decided_at      TEXT
) STRICT;
CREATE INDEX reviews_by_version ON reviews (version_id, id);
CREATE INDEX reviews_open ON reviews (submitted_at, id) WHERE state IN ('waiting', 'claimed');
CREATE INDEX reviews_decided ON reviews (decided_at) WHERE decided_at IS NOT NULL;

-- How often each version was fetched, by day. Written in batches; a kill can lose the last few seconds of counting.
CREATE TABLE downloads (
    version_id      TEXT NOT NULL REFERENCES versions (id) ON DELETE CASCADE,
    day             TEXT NOT NULL,
    count           INTEGER NOT NULL,
    PRIMARY KEY (version_id, day)
) STRICT, WITHOUT ROWID;

-- Work that follows from a change, added in the transaction of the change. Handlers may run twice and must not mind.
CREATE TABLE jobs (
    id              TEXT PRIMARY KEY,
    kind            TEXT NOT NULL,
    arguments       TEXT NOT NULL DEFAULT '{}' CHECK (json_type(arguments) = 'object'),
    unique_key      TEXT,                       -- at most one unfinished job carries it
    state           TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'done', 'dead')),
    attempts        INTEGER NOT NULL DEFAULT 0,
    run_at          TEXT NOT NULL,
    lease_until     TEXT CHECK ((lease_until IS NULL) = (state <> 'running')),
    lease_token     TEXT,                       -- who holds it: an outlived worker cannot finish what was given to another
    last_error      TEXT,
    created_at      TEXT NOT NULL,
    finished_at     TEXT
) STRICT;
CREATE INDEX jobs_due ON jobs (run_at, id) WHERE state = 'waiting';
CREATE INDEX jobs_leased ON jobs (lease_until) WHERE state = 'running';
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE state IN ('done', 'dead');
CREATE UNIQUE INDEX jobs_unique ON jobs (unique_key) WHERE unique_key IS NOT NULL AND state IN ('waiting', 'running');

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
