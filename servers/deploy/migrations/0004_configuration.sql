-- The configuration that goes with a release is one of its files, so that the digest of the release covers it; the digest
-- of the artifact alone is what one environment has in common with the next.

ALTER TABLE deployment ADD COLUMN artifact_digest TEXT; -- NULL where it is `digest`
ALTER TABLE approval_request ADD COLUMN configuration TEXT; -- the text of the file; NULL where there is none
