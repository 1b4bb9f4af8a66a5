-- The recovery from a stolen storage keyring that is running, or the newest one. One row.

CREATE TABLE compromises (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
