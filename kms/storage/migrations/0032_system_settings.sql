-- What sys/config, sys/remount and sys/version-history keep.
CREATE TABLE cors_settings (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

CREATE TABLE ui_headers (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

CREATE TABLE audited_headers (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

CREATE TABLE remounts (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;

CREATE TABLE versions (
    key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
