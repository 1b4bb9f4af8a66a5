-- Login MFA: methods, who must use them, the shared secrets, and logins that wait for a second factor.
CREATE TABLE mfa_methods (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

CREATE TABLE mfa_enforcements (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

CREATE TABLE mfa_secrets (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

CREATE TABLE mfa_logins (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL,
    expires_at REAL NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX mfa_logins_by_end ON mfa_logins (expires_at);
