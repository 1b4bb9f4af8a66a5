CREATE TABLE pki_mounts (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

CREATE TABLE pki_roles (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

-- A CA key is looked up by its public half: a leaf must never carry it.
CREATE TABLE pki_keys (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL,
    state TEXT NOT NULL, spki_hash TEXT NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX pki_keys_spki ON pki_keys (spki_hash);
CREATE INDEX pki_keys_state ON pki_keys (state);

CREATE TABLE pki_issuers (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

-- One row per serial, written before the signature is made.
CREATE TABLE pki_certificates (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL,
    mount_id TEXT NOT NULL, not_after INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX pki_certificates_expiry ON pki_certificates (mount_id, not_after);

CREATE TABLE pki_revocations (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL,
    mount_id TEXT NOT NULL, not_after INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX pki_revocations_expiry ON pki_revocations (mount_id, not_after);

CREATE TABLE pki_crl_numbers (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

-- Public documents, signed by the CA and served as they are: not sealed.
CREATE TABLE pki_public_issuers (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

CREATE TABLE pki_public_crls (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

CREATE TABLE pki_tidy (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
