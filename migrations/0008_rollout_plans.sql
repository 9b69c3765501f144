-- Rollouts that grow by a plan, and the plan that new versions of an app get.
ALTER TABLE apps ADD COLUMN rollout_plan TEXT CHECK (json_type(rollout_plan) = 'object');
CREATE TABLE rollout_plans (
    version_id      TEXT PRIMARY KEY REFERENCES versions (id) ON DELETE CASCADE,
    steps           TEXT NOT NULL CHECK (json_type(steps) = 'array'),
    halt_when       TEXT CHECK (json_type(halt_when) = 'object'),
    state           TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'paused', 'finished')),
    steps_taken     INTEGER NOT NULL DEFAULT 0,
    next_step_at    TEXT,
    watched_until   TEXT,
    round           INTEGER NOT NULL DEFAULT 0,
    looks           INTEGER NOT NULL DEFAULT 0,
    next_look       INTEGER NOT NULL DEFAULT 0,
    halted          TEXT CHECK (json_type(halted) = 'object')
) STRICT;
CREATE INDEX rollout_plans_active ON rollout_plans (version_id) WHERE state IN ('running', 'paused');
