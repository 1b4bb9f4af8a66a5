-- Roles of certificate authorities that are programs, by mount and name.
CREATE TABLE pki_cel_roles (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
