-- A row of the outbox holds an outcome and its intent: more than a quarter of a page, and so, in a table that is ordered
-- by its key, a page of its own beside the table. In a table of rows two or three share one.
CREATE TABLE audit_outbox_rows (
    key TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    term INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;

INSERT INTO audit_outbox_rows (key, revision, term, body)
    SELECT key, revision, term, body FROM audit_outbox ORDER BY key;

DROP TABLE audit_outbox;

ALTER TABLE audit_outbox_rows RENAME TO audit_outbox;
