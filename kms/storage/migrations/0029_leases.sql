-- What was issued for a time: one row a lease, found by its owner and by its end. Each token has one as well.
CREATE TABLE leases (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL,
    token TEXT NOT NULL, expires_at REAL NOT NULL, irrevocable INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX leases_by_token ON leases (token);
CREATE INDEX leases_by_expiry ON leases (expires_at);
CREATE INDEX leases_irrevocable ON leases (irrevocable);

-- Prefixes of which everything issued before a moment is out of force.
CREATE TABLE revoked_prefixes (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL,
    pending INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
