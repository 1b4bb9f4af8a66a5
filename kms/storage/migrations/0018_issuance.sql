-- What was answered to a request with an Idempotency-Key, for an hour.
CREATE TABLE pki_idempotency (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL,
    expires_at INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX pki_idempotency_expiry ON pki_idempotency (expires_at);

-- Where certificates are found by name, key, issuer and expiry: the key of a row is
-- mount/keyed digest of what is looked for/notAfter/serial. Nothing in it is readable, so nothing is sealed.
CREATE TABLE pki_index (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Certificates that are new, changed or gone, as mount/serial/notAfter: the jobs process reads them and writes their
-- lines of the index, so that issuing does not wait for it. An empty struct is x'80'. (A statement here ends with its
-- line, so a trigger's END stands in the line of its last semicolon.)
CREATE TABLE pki_unindexed (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TRIGGER pki_certificates_new AFTER INSERT ON pki_certificates BEGIN
    INSERT INTO pki_unindexed (key, revision, term, body)
    VALUES (new.key || printf('/%012d', new.not_after), 1, 0, x'80')
    ON CONFLICT (key) DO UPDATE SET revision = revision + 1; END;
CREATE TRIGGER pki_certificates_changed AFTER UPDATE ON pki_certificates BEGIN
    INSERT INTO pki_unindexed (key, revision, term, body)
    VALUES (new.key || printf('/%012d', new.not_after), 1, 0, x'80')
    ON CONFLICT (key) DO UPDATE SET revision = revision + 1; END;
CREATE TRIGGER pki_certificates_gone AFTER DELETE ON pki_certificates BEGIN
    INSERT INTO pki_unindexed (key, revision, term, body)
    VALUES (old.key || printf('/%012d', old.not_after), 1, 0, x'80')
    ON CONFLICT (key) DO UPDATE SET revision = revision + 1; END;
INSERT INTO pki_unindexed (key, revision, term, body)
    SELECT key || printf('/%012d', not_after), 1, 0, x'80' FROM pki_certificates;
