-- A call waits for the commit of its entry, and each page of a commit costs as much as the rest of it: so the ids are
-- no index of `entry` any more, which each commit would write to, but are indexed afterwards, a thousand at a time.

CREATE TABLE entry_without_index (
    seq  INTEGER PRIMARY KEY CHECK (seq > 0), -- 1, 2, 3, … without a gap
    id   TEXT NOT NULL,                       -- UUIDv7 of the receipt or decision; counts once
    kind TEXT NOT NULL CHECK (kind IN ('receipt', 'audit')),
    body TEXT NOT NULL,                       -- the receipt or decision, as JSON
    prev BLOB NOT NULL CHECK (length(prev) = 32), -- SHA-256 of the entry before; zeros for the first
    hash BLOB NOT NULL CHECK (length(hash) = 32)  -- SHA-256 over seq, prev, id, kind and body
) STRICT;
INSERT INTO entry_without_index SELECT seq, id, kind, body, prev, hash FROM entry;
DROP TABLE entry; -- its triggers too
ALTER TABLE entry_without_index RENAME TO entry;

-- Where the entry with an id is, of all entries up to `indexed.seq`.
CREATE TABLE entry_id (
    id  TEXT PRIMARY KEY,
    seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE indexed (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    seq INTEGER NOT NULL
) STRICT;
INSERT INTO entry_id SELECT id, seq FROM entry;
INSERT INTO indexed SELECT 1, coalesce(max(seq), 0) FROM entry;

CREATE TRIGGER entry_follows_head BEFORE INSERT ON entry
WHEN NOT EXISTS (SELECT 1 FROM head WHERE head.seq = NEW.seq - 1 AND head.hash = NEW.prev)
BEGIN
    SELECT RAISE(ABORT, 'entry does not follow the head');
END;

CREATE TRIGGER entry_becomes_head AFTER INSERT ON entry
BEGIN
    UPDATE head SET seq = NEW.seq, hash = NEW.hash;
END;

CREATE TRIGGER entry_is_not_changed BEFORE UPDATE ON entry
BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;

CREATE TRIGGER entry_is_not_dropped BEFORE DELETE ON entry
BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;
