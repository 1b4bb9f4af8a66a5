-- The HSM tokens that serve, or have served, where there are several. Key: the token's name.

CREATE TABLE hsm_tokens (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
