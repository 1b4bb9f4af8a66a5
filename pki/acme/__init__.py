"""ACME (RFC 8555) with IP identifiers (RFC 8738), tls-alpn-01 (RFC 8737), renewal information (RFC 9773) and profiles.

A mount is one ACME server with several directories: its own, and one for each role, issuer and role of an issuer.
A request proves itself by its signature (`jws`); what it may have is decided by the role of its directory
(`directories`), by the validation of each name (`validation`, off the request's path) and at last by issuance.
"""
