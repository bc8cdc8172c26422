-- What is not as it should be with all tasks. Nothing is claimed while one of these stops work.
CREATE TABLE queue_alarm (
    name TEXT PRIMARY KEY,
    at BIGINT NOT NULL,
    stops_work BIGINT NOT NULL,
    -- A sentence.
    note TEXT NOT NULL
);

-- What was spent on a day (UTC) by all tasks, US dollars.
CREATE TABLE queue_day (
    day TEXT PRIMARY KEY,
    spent_usd TEXT NOT NULL
);

-- How attempts ended, for the rates; the latest are kept.
CREATE TABLE queue_outcome (
    -- As an event's: as text in the order of time.
    id TEXT PRIMARY KEY,
    task TEXT NOT NULL,
    -- 'completed', 'blocked' or, with another attempt to come, 'failed'.
    what TEXT NOT NULL,
    -- 'single', 'team' or 'fallback': one agent after a team gave up.
    who TEXT NOT NULL,
    -- Which attempt of its task it was.
    attempts BIGINT NOT NULL,
    cost_usd TEXT NOT NULL
);
CREATE INDEX queue_outcome_ended ON queue_outcome (id) WHERE what <> 'failed';
CREATE INDEX queue_outcome_team ON queue_outcome (id) WHERE who <> 'single';

-- What is to be sent to webhooks, written with the event that it tells of.
CREATE TABLE queue_delivery (
    event TEXT NOT NULL,
    webhook TEXT NOT NULL,
    body TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    -- When it is tried next, or whoever tries it now counts as gone; -1 when nobody tries it again.
    next_at BIGINT NOT NULL,
    -- Why the last try failed.
    error TEXT NOT NULL,
    PRIMARY KEY (webhook, event)
);
CREATE INDEX queue_delivery_due ON queue_delivery (next_at) WHERE next_at >= 0;
