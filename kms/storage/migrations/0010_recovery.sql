-- Objects of an HSM that was lost: what a recovery found bound to it. Key: hex CKA_ID.

CREATE TABLE lost_objects (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
