-- Namespaces, by their full path: tenants with their own mounts, policies, tokens and identities.
CREATE TABLE namespaces (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
