-- Users of userpass; roles, secret IDs and their accessors of approle; and names that were tried too often.
CREATE TABLE userpass_users (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

CREATE TABLE approle_roles (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

CREATE TABLE approle_role_ids (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

CREATE TABLE approle_secret_ids (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL,
    expires_at REAL NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX approle_secret_ids_by_expiry ON approle_secret_ids (expires_at);

CREATE TABLE approle_accessors (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

CREATE TABLE login_failures (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL,
    forget_at REAL NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX login_failures_by_end ON login_failures (forget_at);
