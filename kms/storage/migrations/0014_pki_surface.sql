-- Private halves of CA keys of protection software. Never read but for a signature.
CREATE TABLE pki_material (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
