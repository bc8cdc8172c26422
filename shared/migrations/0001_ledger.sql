-- The ledger: receipts and decisions in the order in which they were written.
--
-- Each entry carries the hash of the one before, so a changed, dropped or moved entry is found by
-- `orchestrator audit verify`. The triggers keep honest programs honest; the hashes find the others.

CREATE TABLE entry (
    seq  INTEGER PRIMARY KEY CHECK (seq > 0), -- 1, 2, 3, … without a gap
    id   TEXT NOT NULL UNIQUE,                -- UUIDv7 of the receipt or decision; counts once
    kind TEXT NOT NULL CHECK (kind IN ('receipt', 'audit')),
    body TEXT NOT NULL,                       -- the receipt or decision, as JSON
    prev BLOB NOT NULL CHECK (length(prev) = 32), -- SHA-256 of the entry before; zeros for the first
    hash BLOB NOT NULL CHECK (length(hash) = 32)  -- SHA-256 over seq, prev, id, kind and body
) STRICT;

-- The end of the chain, so that entries cut off its end are missed.
CREATE TABLE head (
    one  INTEGER PRIMARY KEY CHECK (one = 1),
    seq  INTEGER NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

INSERT INTO head VALUES (1, 0, zeroblob(32));

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
