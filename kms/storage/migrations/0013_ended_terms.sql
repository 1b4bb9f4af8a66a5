-- Keyring terms that were ended after a theft: nothing is sealed under them, not even by a process that lags behind.

ALTER TABLE keyring_usage ADD COLUMN ended INTEGER NOT NULL DEFAULT 0;
