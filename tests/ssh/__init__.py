"""The SSH CA against OpenSSH itself, and against the real server's ssh engine."""
