-- A pre-authorization (RFC 8555 7.4.1) is free for the first order of its account that names its identifier:
-- `free_for` is a digest of both while it is, and empty for all others.
ALTER TABLE acme_authorizations ADD COLUMN free_for TEXT NOT NULL DEFAULT '';
CREATE INDEX acme_authorizations_free ON acme_authorizations (free_for) WHERE free_for <> '';
