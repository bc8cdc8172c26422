-- What happened, for whoever watches: in order, and only for so long (`[queue] events_days_max`, `events_max`).
CREATE TABLE queue_event (
    -- The instant by the database's clock when it was written, a count and a random end: as text in the order of time.
    id TEXT PRIMARY KEY,
    at BIGINT NOT NULL,
    -- '' where it is about no task.
    task TEXT NOT NULL,
    -- Who of a team; '' where nobody in particular.
    member TEXT NOT NULL,
    -- A kind, a word of that kind, and a sentence.
    kind TEXT NOT NULL,
    what TEXT NOT NULL,
    note TEXT NOT NULL,
    -- US dollars, where it is about costs.
    cost_usd TEXT NOT NULL,
    -- Everything else, as JSON.
    data TEXT NOT NULL
);
CREATE INDEX queue_event_task ON queue_event (task, id);

-- How far an attempt is that is under way, or was given back.
CREATE TABLE queue_progress (
    task TEXT PRIMARY KEY,
    -- Which attempt; '' when none is.
    session TEXT NOT NULL,
    -- In a few words.
    phase TEXT NOT NULL,
    -- What the attempt cost as far as events say, US dollars; nothing when it is over, since the task has it then.
    spent_usd TEXT NOT NULL,
    -- Whether it was said that the budget is nearly used up.
    warned BIGINT NOT NULL
);
