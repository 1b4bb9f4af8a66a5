"""One question to a validator."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Literal

PURPOSES = {
    "server": "1.3.6.1.5.5.7.3.1",
    "client": "1.3.6.1.5.5.7.3.2",
    "code": "1.3.6.1.5.5.7.3.3",
    "email": "1.3.6.1.5.5.7.3.4",
    "ocsp": "1.3.6.1.5.5.7.3.9",
}
Use = Literal["server", "client", "code", "email", "ocsp", "ca", ""]


@dataclass(frozen=True)
class Case:
    """A leaf, and how a relying party would look at it. Documents are DER.

    Args:
        chain: intermediates as a server sends them, the leaf's issuer first.
        crls: when there are any, the status of every certificate of the chain must be known from them.
        ocsp: an answer about the leaf; then its status must be known from it.
        host: the DNS name that it must be good for; "" asks for none.
        at: Unix seconds of the check.
        purpose: "" asks for none.
        leaf_only: the CRLs need to know the status of the leaf alone.
        listing: another question: is the one CRL by the certificate `leaf`, whole and current? Nothing else counts.
    """

    name: str
    leaf: bytes
    chain: tuple[bytes, ...]
    roots: tuple[bytes, ...]
    at: int
    crls: tuple[bytes, ...] = ()
    ocsp: bytes = b""
    host: str = ""
    purpose: Use = ""
    leaf_only: bool = False
    listing: bool = False

    def as_json(self) -> dict[str, Any]:
        """For the programs in Java and Go."""

        def text(data: bytes) -> str:
            return base64.b64encode(data).decode("ascii")

        return {
            "name": self.name,
            "leaf": text(self.leaf),
            "chain": [text(one) for one in self.chain],
            "roots": [text(one) for one in self.roots],
            "crls": [text(one) for one in self.crls],
            "ocsp": text(self.ocsp),
            "host": self.host,
            "at": self.at,
            "purpose": PURPOSES.get(self.purpose, ""),
            "leaf_only": int(self.leaf_only),
            "listing": int(self.listing),
        }
