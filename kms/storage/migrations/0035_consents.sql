-- Requests that wait for the consent of others, by the row key of their wrapping token.
CREATE TABLE consents (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
