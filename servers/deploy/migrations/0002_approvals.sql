-- What people were asked to agree to, and what they answered.
--
-- Nothing here is believed: the terms are built again from the facts of the moment, and every signature is verified
-- again, before a deployment begins. What is relied on is `used_at`, which is set once.

CREATE TABLE approval_request (
    deployment_id TEXT PRIMARY KEY REFERENCES deployment (id),
    terms         TEXT NOT NULL,  -- the canonical bytes that are signed
    artifact      TEXT,           -- the path as it was asked for; NULL for a rollback
    role          TEXT,           -- the requester's
    nonce         TEXT NOT NULL,  -- 32 hexadecimal digits, so that no two requests have the same terms
    requested_at  TEXT NOT NULL,  -- RFC 3339, UTC
    expires_at    TEXT NOT NULL,  -- from when on no approval counts
    used_at       TEXT            -- when the deployment began; NULL until then
) STRICT, WITHOUT ROWID;

CREATE TABLE approval_vote (
    deployment_id TEXT NOT NULL REFERENCES approval_request (deployment_id),
    person        TEXT NOT NULL,  -- the principal of the approvers' file
    fingerprint   TEXT NOT NULL,  -- of the key that signed
    signature     TEXT NOT NULL,  -- SSHSIG, armoured
    at            TEXT NOT NULL,  -- RFC 3339, UTC
    PRIMARY KEY (deployment_id, person)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER approval_request_is_not_changed BEFORE UPDATE ON approval_request
WHEN OLD.used_at IS NOT NULL OR NEW.used_at IS NULL OR NEW.terms <> OLD.terms OR NEW.nonce <> OLD.nonce
    OR NEW.expires_at <> OLD.expires_at OR NEW.deployment_id <> OLD.deployment_id
BEGIN
    SELECT RAISE(ABORT, 'a request for approval is used once and never changed');
END;

CREATE TRIGGER approval_request_is_not_dropped BEFORE DELETE ON approval_request
BEGIN
    SELECT RAISE(ABORT, 'requests for approval are append-only');
END;

CREATE TRIGGER approval_vote_is_not_changed BEFORE UPDATE ON approval_vote
BEGIN
    SELECT RAISE(ABORT, 'votes are append-only');
END;

CREATE TRIGGER approval_vote_is_not_dropped BEFORE DELETE ON approval_vote
BEGIN
    SELECT RAISE(ABORT, 'votes are append-only');
END;
