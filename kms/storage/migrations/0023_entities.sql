-- Entities with their aliases, groups, who is a member of what, and how they are found by name.
CREATE TABLE identity_entities (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

CREATE TABLE identity_groups (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

CREATE TABLE identity_memberships (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL,
    group_id TEXT NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX identity_memberships_by_group ON identity_memberships (group_id);

CREATE TABLE identity_pointers (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
