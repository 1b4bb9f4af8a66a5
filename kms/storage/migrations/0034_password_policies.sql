-- Rules by which passwords are generated, by name.
CREATE TABLE password_policies (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
