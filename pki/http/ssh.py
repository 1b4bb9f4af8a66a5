"""Routes of mount type "ssh". `tidy/dynamic-keys` is for keys that the peer no longer makes, and we never did."""

from __future__ import annotations

from kms.http.vault.route import Route

ROUTES: tuple[Route, ...] = (
    # -- certificate authorities
    Route("POST", "config/ca", "ssh.ca-write"),
    Route("GET", "config/ca", "ssh.ca-read"),
    Route("DELETE", "config/ca", "ssh.ca-delete"),
    Route("GET", "config/issuers", "ssh.config-issuers-read"),
    Route("POST", "config/issuers", "ssh.config-issuers-write"),
    Route("LIST", "issuers", "ssh.issuers-list"),
    Route("POST", "issuers/import", "ssh.issuer-import"),
    Route("POST", "issuers/import/{issuer_name}", "ssh.issuer-import"),
    Route("GET", "issuer/{issuer_ref}", "ssh.issuer-read"),
    Route("POST", "issuer/{issuer_ref}", "ssh.issuer-write"),
    Route("DELETE", "issuer/{issuer_ref}", "ssh.issuer-delete"),
    Route("GET", "issuer/{issuer_ref}/public_key", "ssh.issuer-public-key"),
    Route("GET", "public_key", "ssh.public-key"),
    # -- certificates
    Route("POST", "sign/{role}", "ssh.sign"),
    Route("POST", "issue/{role}", "ssh.issue"),
    Route("LIST", "certs", "ssh.certs-list"),
    Route("GET", "cert/{serial}", "ssh.cert-read"),
    Route("POST", "revoke", "ssh.revoke"),
    Route("LIST", "certs/revoked", "ssh.revoked-list"),
    Route("GET", "krl", "ssh.krl"),
    Route("POST", "tidy", "ssh.tidy"),
    # -- roles
    Route("LIST", "roles", "ssh.roles-list"),
    Route("GET", "roles/{role}", "ssh.role-read"),
    Route("POST", "roles/{role}", "ssh.role-write"),
    Route("DELETE", "roles/{role}", "ssh.role-delete"),
    # -- one-time passwords
    Route("POST", "creds/{role}", "ssh.creds"),
    Route("POST", "lookup", "ssh.lookup"),
    Route("POST", "verify", "ssh.verify"),
    Route("GET", "config/zeroaddress", "ssh.config-zeroaddress-read"),
    Route("POST", "config/zeroaddress", "ssh.config-zeroaddress-write"),
    Route("DELETE", "config/zeroaddress", "ssh.config-zeroaddress-delete"),
)
