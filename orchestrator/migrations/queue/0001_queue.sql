-- The work queue. Read by SQLite and PostgreSQL alike: TEXT and BIGINT are all the types there are; instants are
-- milliseconds since 1970, and where something is not there it is '' or 0.
CREATE TABLE queue_task (
    id TEXT PRIMARY KEY,
    -- In which order tasks were added: the last word when two are equally urgent and old.
    position BIGINT NOT NULL,
    -- The task as it was written, unknown fields and all, as JSON. What changes afterwards is in the columns below.
    body TEXT NOT NULL,
    -- The feature that a grouped file had it under, as JSON.
    feature TEXT NOT NULL,
    status TEXT NOT NULL,
    -- 0 is P0.
    priority BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    -- How many of the tasks that it depends on are not completed; kept up when one is, so that a claim counts nothing.
    open_dependencies BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    -- Why it is where it is.
    reason TEXT NOT NULL,
    -- The checkpoint that whoever claims it goes on from: a session, and the state folder that has it.
    session TEXT NOT NULL,
    place TEXT NOT NULL,
    -- Grows with every claim; a write with an older one is refused.
    token BIGINT NOT NULL,
    worker TEXT NOT NULL,
    lease_until BIGINT NOT NULL,
    -- How often in this attempt a lease ran out.
    lost BIGINT NOT NULL,
    -- What it cost altogether, and since somebody last gave it new attempts; US dollars.
    cost_usd TEXT NOT NULL,
    spent_usd TEXT NOT NULL,
    branch TEXT NOT NULL,
    commit_id TEXT NOT NULL,
    -- What the router decided, as JSON, and whether a person let it run all the same.
    routing TEXT NOT NULL,
    released BIGINT NOT NULL,
    import TEXT NOT NULL,
    updated_at BIGINT NOT NULL
);
-- These two are all that a claim reads: the next task is the first of the index, whatever waits behind it.
CREATE INDEX queue_task_ready ON queue_task (priority, created_at, position) WHERE status = 'pending' AND open_dependencies = 0;
CREATE INDEX queue_task_leased ON queue_task (lease_until) WHERE status = 'in_progress';
CREATE INDEX queue_task_position ON queue_task (position);
CREATE INDEX queue_task_import ON queue_task (import);

CREATE TABLE queue_dependency (
    task TEXT NOT NULL,
    depends_on TEXT NOT NULL,
    PRIMARY KEY (task, depends_on)
);
CREATE INDEX queue_dependency_reverse ON queue_dependency (depends_on);

-- What happened to a task, in order; the latest are kept.
CREATE TABLE queue_checkpoint (
    task TEXT NOT NULL,
    number BIGINT NOT NULL,
    at BIGINT NOT NULL,
    token BIGINT NOT NULL,
    session TEXT NOT NULL,
    -- A word, and a sentence.
    what TEXT NOT NULL,
    note TEXT NOT NULL,
    PRIMARY KEY (task, number)
);

CREATE TABLE queue_import (
    id TEXT PRIMARY KEY,
    at BIGINT NOT NULL,
    source TEXT NOT NULL,
    tasks BIGINT NOT NULL,
    -- Where the files lie as they were, in the state folder of whoever imported them.
    backup TEXT NOT NULL,
    undone BIGINT NOT NULL
);
