CREATE TABLE ssh_mounts (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

CREATE TABLE ssh_roles (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

CREATE TABLE ssh_issuers (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

-- One row per serial. The intent to sign it is a record of the log.
CREATE TABLE ssh_certificates (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL,
    mount_id TEXT NOT NULL, valid_before INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX ssh_certificates_expiry ON ssh_certificates (mount_id, valid_before);

CREATE TABLE ssh_revocations (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL,
    mount_id TEXT NOT NULL, valid_before INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX ssh_revocations_expiry ON ssh_revocations (mount_id, valid_before);

-- One-time passwords by their hash.
CREATE TABLE ssh_otps (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL,
    mount_id TEXT NOT NULL, expires_at INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX ssh_otps_expiry ON ssh_otps (mount_id, expires_at);

CREATE TABLE est_config (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

CREATE TABLE est_users (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
