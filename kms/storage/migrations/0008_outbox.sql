-- Event ids grow with time, so rows go in at one end and out at the other: the key's order is the table's
-- order, and nothing else is indexed.
CREATE TABLE audit_outbox_ordered (
    key TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    term INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO audit_outbox_ordered (key, revision, term, body) SELECT key, revision, term, body FROM audit_outbox;

DROP TABLE audit_outbox;

ALTER TABLE audit_outbox_ordered RENAME TO audit_outbox;
