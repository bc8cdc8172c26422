-- What checks found, by the hash of everything that the finding depends on.
CREATE TABLE result (
    key     BLOB PRIMARY KEY CHECK (length(key) = 32), -- SHA-256 of content, language, check, its rules and its tool
    value   TEXT NOT NULL,                             -- the result as JSON
    digest  BLOB NOT NULL CHECK (length(digest) = 32), -- SHA-256 of key and value: a damaged entry is not used
    used_at INTEGER NOT NULL                           -- seconds since 1970; raised at most once an hour
) STRICT, WITHOUT ROWID;

CREATE INDEX result_by_use ON result (used_at);
