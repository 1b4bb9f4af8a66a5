CREATE TABLE acme_config (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

CREATE TABLE acme_accounts (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

-- An account key belongs to one account of a directory: the primary key says so.
CREATE TABLE acme_account_keys (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

CREATE TABLE acme_bindings (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL,
    delete_after INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX acme_bindings_expiry ON acme_bindings (delete_after);

CREATE TABLE acme_orders (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL,
    mount_id TEXT NOT NULL, account_id TEXT NOT NULL, serial TEXT NOT NULL, delete_after INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX acme_orders_account ON acme_orders (account_id);
CREATE INDEX acme_orders_serial ON acme_orders (mount_id, serial);
CREATE INDEX acme_orders_expiry ON acme_orders (delete_after);

-- `queue` is not empty while a challenge waits for its validation.
CREATE TABLE acme_authorizations (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL,
    account_id TEXT NOT NULL, status TEXT NOT NULL, queue TEXT NOT NULL, next_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX acme_authorizations_account ON acme_authorizations (account_id, status);
CREATE INDEX acme_authorizations_queue ON acme_authorizations (queue, next_at);
CREATE INDEX acme_authorizations_expiry ON acme_authorizations (expires_at);

CREATE TABLE acme_replacements (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL,
    delete_after INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX acme_replacements_expiry ON acme_replacements (delete_after);

-- Nonces that were used, until they would have expired: a second use cannot be inserted.
CREATE TABLE acme_nonces (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL,
    delete_after INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX acme_nonces_expiry ON acme_nonces (delete_after);

CREATE TABLE acme_tallies (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL,
    delete_after INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX acme_tallies_expiry ON acme_tallies (delete_after);
