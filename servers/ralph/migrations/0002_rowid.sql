-- A table with rowids: in one without, long results lie where keys are compared, and looking up any of them reads them too.
-- What was in it is found again.
DROP TABLE result;

CREATE TABLE result (
    key     BLOB NOT NULL UNIQUE CHECK (length(key) = 32), -- SHA-256 of content, language, check, its rules and its tool
    value   TEXT NOT NULL,                                 -- the result as JSON
    digest  BLOB NOT NULL CHECK (length(digest) = 32),     -- SHA-256 of key and value: a damaged entry is not used
    used_at INTEGER NOT NULL                               -- seconds since 1970; raised at most once an hour
) STRICT;

CREATE INDEX result_by_use ON result (used_at);
