CREATE TABLE policies (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

CREATE TABLE tokens (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL,
    parent TEXT NOT NULL, expires_at REAL NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX tokens_by_parent ON tokens (parent);
CREATE INDEX tokens_by_expiry ON tokens (expires_at);

CREATE TABLE token_accessors (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

CREATE TABLE token_roles (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
