-- Identity tokens: named keys (their signing keys are keys as any others), roles, the issuer. The OIDC provider:
-- assignments, scopes, clients, providers, and codes that were not spent yet.
CREATE TABLE oidc_keys (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, due REAL NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX oidc_keys_by_due ON oidc_keys (due);

CREATE TABLE oidc_roles (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

CREATE TABLE oidc_config (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

CREATE TABLE oidc_assignments (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

CREATE TABLE oidc_scopes (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

CREATE TABLE oidc_clients (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, client_id TEXT NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX oidc_clients_by_id ON oidc_clients (client_id);

CREATE TABLE oidc_providers (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

CREATE TABLE oidc_codes (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, expires_at REAL NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX oidc_codes_by_end ON oidc_codes (expires_at);
