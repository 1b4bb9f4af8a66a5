-- A name of a transit mount and what it stands for now; key = mount id / name. rotate_at: when the jobs
-- process makes its next version (Unix seconds).
CREATE TABLE named_keys (
    key TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    term INTEGER NOT NULL,
    rotate_at REAL NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX named_keys_rotate_at ON named_keys (rotate_at);

-- The material of one version; key = key id / version. The wrapping columns hold the hex CKA_ID of
-- the root objects that the blobs need, so that a retired root knows when it is needed no more.
CREATE TABLE key_versions (
    key TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    term INTEGER NOT NULL,
    key_id TEXT NOT NULL,
    state TEXT NOT NULL,
    wrapping TEXT NOT NULL,
    mac_wrapping TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX key_versions_key_id ON key_versions (key_id);
CREATE INDEX key_versions_state ON key_versions (state);
CREATE INDEX key_versions_wrapping ON key_versions (wrapping);
CREATE INDEX key_versions_mac_wrapping ON key_versions (mac_wrapping);

-- Material that waits for its destruction, and records of what was destroyed; key = mount id / pending id.
CREATE TABLE retired_keys (
    key TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    term INTEGER NOT NULL,
    destroy_after REAL NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX retired_keys_destroy_after ON retired_keys (destroy_after);

-- Per-mount settings; key = mount id.
CREATE TABLE key_mount_settings (
    key TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    term INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;

-- The pair that keys are wrapped with to be imported into a mount; key = mount id.
CREATE TABLE import_keys (
    key TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    term INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;

-- Uses of AEAD keys handed out to workers; key = key id / version.
CREATE TABLE key_usage (
    key TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    term INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
