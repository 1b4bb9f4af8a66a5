-- Audit devices: copies of what happens, in Vault's form, for collectors that know it.
CREATE TABLE audit_devices (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
