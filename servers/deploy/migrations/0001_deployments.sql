-- Deployments and how they went: the record that a restart completes or undoes unfinished work from.
--
-- `deployment` has the present state, `transition` every state that was ever reached, in order. Both are
-- written in one transaction, before the effect that the new state stands for.

CREATE TABLE deployment (
    number       INTEGER PRIMARY KEY AUTOINCREMENT, -- the order in which they were begun
    id           TEXT NOT NULL UNIQUE,              -- UUIDv7
    kind         TEXT NOT NULL CHECK (kind IN ('deploy', 'rollback')),
    environment  TEXT NOT NULL,
    service      TEXT NOT NULL,
    version      TEXT NOT NULL,
    digest       TEXT NOT NULL CHECK (length(digest) = 64), -- SHA-256 over the released files
    release      TEXT NOT NULL,                     -- the folder's name, <version>-<first twelve digits of digest>
    folder       TEXT NOT NULL,                     -- where it is released to, as the configuration said then
    previous     TEXT,                              -- the release that was current before; NULL when none was
    state        TEXT NOT NULL CHECK (state IN (
        'requested', 'validated', 'awaiting_approval', 'approved', 'deploying', 'verifying', 'live',
        'rolling_back', 'rolled_back', 'failed', 'cancelled', 'expired', 'superseded')),
    agent        TEXT NOT NULL,                     -- on whose behalf
    task_id      TEXT,                              -- for which task
    requested_at TEXT NOT NULL,                     -- RFC 3339, UTC
    updated_at   TEXT NOT NULL,                     -- when `state` was reached
    switched_at  TEXT                               -- when the release became current; NULL when it never did
) STRICT;

CREATE INDEX deployment_by_service ON deployment (environment, service, number);
CREATE INDEX deployment_by_state ON deployment (state, environment);

-- Whatever a program gets wrong, one thing is live and one is under way at a time.
CREATE UNIQUE INDEX deployment_live_once ON deployment (environment, service) WHERE state = 'live';
CREATE UNIQUE INDEX deployment_under_way_once ON deployment (environment, service)
WHERE state IN ('deploying', 'verifying', 'rolling_back');

CREATE TABLE transition (
    deployment_id TEXT NOT NULL REFERENCES deployment (id),
    seq           INTEGER NOT NULL,                 -- 1, 2, 3, … without a gap
    event         TEXT NOT NULL,                    -- what happened
    state         TEXT NOT NULL,                    -- the state that it led to
    at            TEXT NOT NULL,                    -- RFC 3339, UTC
    detail        TEXT,                             -- for people: why, and the end of what a check printed
    fence         INTEGER NOT NULL,                 -- the token of the process that wrote it
    PRIMARY KEY (deployment_id, seq)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER transition_is_not_changed BEFORE UPDATE ON transition
BEGIN
    SELECT RAISE(ABORT, 'transitions are append-only');
END;

CREATE TRIGGER transition_is_not_dropped BEFORE DELETE ON transition
BEGIN
    SELECT RAISE(ABORT, 'transitions are append-only');
END;

-- Who may write: every process that takes a turn raises the token, and one with an older token is refused.
CREATE TABLE fence (
    environment TEXT NOT NULL,
    service     TEXT NOT NULL,
    token       INTEGER NOT NULL,
    PRIMARY KEY (environment, service)
) STRICT, WITHOUT ROWID;

-- What is read: the present state, and what the transition to it said.
CREATE VIEW deployment_with_reason AS
SELECT deployment.*, (
    SELECT detail FROM transition WHERE deployment_id = deployment.id ORDER BY seq DESC LIMIT 1
) AS reason
FROM deployment;
