-- Announcements of writes to cached tables: what a process must forget (kms.tables.Store.refresh).
CREATE TABLE changes (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    tbl TEXT NOT NULL,
    key TEXT NOT NULL
) STRICT;

-- Sum mod 2^256 of the keyed hashes of all rows of a security domain, one row per writer.
CREATE TABLE state_digests (
    domain TEXT NOT NULL,
    writer TEXT NOT NULL,
    sum BLOB NOT NULL,
    PRIMARY KEY (domain, writer)
) STRICT;

-- How often rows were sealed under each keyring term: AES-GCM with random nonces is good for 2^32 uses.
CREATE TABLE keyring_usage (
    term INTEGER PRIMARY KEY,
    sealed INTEGER NOT NULL
) STRICT;
