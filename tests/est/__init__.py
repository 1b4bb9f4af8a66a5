"""EST with real clients: strongSwan's `pki`, curl and openssl, over TLS."""
