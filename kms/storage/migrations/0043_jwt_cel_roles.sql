-- Roles of the method jwt that are programs, by mount and name.
CREATE TABLE jwt_cel_roles (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
