-- The audit log: announced segments, events committed with the state they describe, open intents, and the tree's head.

CREATE TABLE audit_segments (
    key TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    term INTEGER NOT NULL,
    state TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT;

CREATE INDEX audit_segments_state ON audit_segments (state);

CREATE TABLE audit_outbox (
    key TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    term INTEGER NOT NULL,
    segment TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT;

CREATE INDEX audit_outbox_segment ON audit_outbox (segment);

CREATE TABLE audit_intents (
    key TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    term INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;

CREATE TABLE audit_log (
    key TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    term INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
