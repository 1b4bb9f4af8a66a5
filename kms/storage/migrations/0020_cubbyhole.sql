-- What each token keeps for itself; a wrapped answer lies in the cubbyhole of its wrapping token. Gone with the token.
CREATE TABLE cubbyholes (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL,
    token TEXT NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX cubbyholes_by_token ON cubbyholes (token);
