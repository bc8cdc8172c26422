-- What people were asked through their host, and that each question was answered once.
--
-- An answer is believed only by the process that heard it; what stands here makes sure that it is heard once.

CREATE TABLE question (
    nonce         TEXT PRIMARY KEY, -- 32 hexadecimal digits; sealed into what the client sends back
    deployment_id TEXT NOT NULL REFERENCES approval_request (deployment_id),
    asked_at      TEXT NOT NULL,    -- RFC 3339, UTC
    answered_at   TEXT,             -- NULL until then
    answer        TEXT CHECK (answer IN ('accepted', 'declined', 'dismissed'))
) STRICT, WITHOUT ROWID;

CREATE INDEX question_by_deployment ON question (deployment_id);

CREATE TRIGGER question_is_answered_once BEFORE UPDATE ON question
WHEN OLD.answered_at IS NOT NULL OR NEW.answered_at IS NULL OR NEW.nonce <> OLD.nonce
    OR NEW.deployment_id <> OLD.deployment_id
BEGIN
    SELECT RAISE(ABORT, 'a question is answered once');
END;

CREATE TRIGGER question_is_not_dropped BEFORE DELETE ON question
BEGIN
    SELECT RAISE(ABORT, 'questions are append-only');
END;
