"""The Vault HTTP API: the primary door."""
