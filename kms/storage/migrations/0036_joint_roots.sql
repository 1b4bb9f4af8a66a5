-- Wrapping roots that several HSM tokens hold. Key: hex CKA_ID, the same in each.

CREATE TABLE joint_roots (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL,
    purpose TEXT NOT NULL, state TEXT NOT NULL
) STRICT;

CREATE INDEX joint_roots_state ON joint_roots (purpose, state);
