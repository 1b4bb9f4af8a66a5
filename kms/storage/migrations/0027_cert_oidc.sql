-- The auth method cert: whom to trust, one configuration a mount, and revocation lists.
CREATE TABLE cert_certs (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

CREATE TABLE cert_configs (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

CREATE TABLE cert_crls (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL,
    valid_until REAL NOT NULL
) STRICT;
CREATE INDEX cert_crls_valid_until ON cert_crls (valid_until);

-- Logins in a browser that have begun, keyed by the hash of their state; each is answered once.
CREATE TABLE oidc_attempts (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL,
    expires_at REAL NOT NULL
) STRICT;
CREATE INDEX oidc_attempts_expires_at ON oidc_attempts (expires_at);
