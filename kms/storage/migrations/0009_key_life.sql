-- Changes of a key's state, with time, actor and reason; key = key id / number. Kept for ever.
CREATE TABLE key_transitions (
    key TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    term INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;

-- A second name of a key, which can be moved to another; key = mount id / alias.
CREATE TABLE key_aliases (
    key TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    term INTEGER NOT NULL,
    key_id TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX key_aliases_key_id ON key_aliases (key_id);
