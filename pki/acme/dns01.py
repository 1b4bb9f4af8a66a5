"""dns-01 (RFC 8555 8.4): the digest of the key authorization in a TXT record."""

from __future__ import annotations

import hashlib
import hmac

from pki.acme.jwk import base64url
from pki.acme.network import Fleeting
from pki.acme.problems import AcmeProblem
from pki.acme.resolving import Resolver


def validate(host: str, key_authorization: str, resolver: Resolver) -> None:
    """Raise AcmeProblem unless one of the records is right."""
    name = f"_acme-challenge.{host}"
    wanted = base64url(hashlib.sha256(key_authorization.encode()).digest()).encode()
    found = resolver.texts(name)
    if not found:
        raise Fleeting("dns", f"{name} has no TXT record")
    if not any(hmac.compare_digest(wanted, text) for text in found):
        raise AcmeProblem(
            "incorrectResponse", f"no TXT record of {name} holds the digest of the key authorization"
        )
