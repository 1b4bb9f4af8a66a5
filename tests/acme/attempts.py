"""Orders of one name each, whose challenges are answered rightly or wrongly, many at a time."""

from __future__ import annotations

import hashlib
import ipaddress
from typing import Any

from cryptography import x509

from tests.acme.client import Client, b64, csr, new_key
from tests.acme.site import Site

HTTP, DNS, TLS = "http-01", "dns-01", "tls-alpn-01"
Verdict = tuple[str, str]


def is_address(name: str) -> bool:
    """Whether it is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Attempt:
    """One order with one name, and its challenges."""

    def __init__(self, site: Site, client: Client, name: str = "", *addresses: str) -> None:
        self.client = client
        self.name = name or site.name(*addresses)
        self.kind = "ip" if is_address(self.name) else "dns"
        identifiers = [{"type": self.kind, "value": self.name}]
        self.order = client.post(client.directory["newOrder"], {"identifiers": identifiers}).ok(201)
        self.offered = client.challenges(self.order)[0]

    def token(self, way: str) -> str:
        """Of a challenge."""
        token: str = self.offered[way]["token"]
        return token

    def right(self, way: str) -> str:
        """The key authorization."""
        return self.client.key_authorization(self.token(way))

    def begin(self, way: str) -> None:
        """Say that the challenge is ready."""
        self.client.post(self.offered[way]["url"], {}).ok()

    def verdict(self, way: str) -> Verdict:
        """(status, problem type) in the end; the order's and the authorization's agree with it."""
        authorization = self.client.settled(self.offered["url"])
        challenge = next(one for one in authorization["challenges"] if one["type"] == way)
        assert challenge["status"] == authorization["status"]
        error = challenge.get("error", {})
        if challenge["status"] == "invalid":
            assert error["identifier"] == {"type": self.kind, "value": self.name.removeprefix("*.")}
            order = self.client.post(self.order.headers["Location"]).ok().json
            assert (order["status"], order["error"]["type"]) == ("invalid", error["type"])
            refused = self.client.finalize(self.order, self.csr())
            assert (refused.status, refused.problem) == (403, "orderNotReady")
        return challenge["status"], error.get("type", "").rpartition(":")[2]

    def csr(self) -> bytes:
        """For the name of the order."""
        if self.kind == "ip":
            return csr(new_key(), addresses=(ipaddress.ip_address(self.name),))
        return csr(new_key(), self.name)

    def issued(self, way: str) -> list[x509.GeneralName]:
        """It ends valid, and in a certificate: the names in it."""
        assert self.verdict(way) == ("valid", "")
        done = self.client.finalize(self.order, self.csr()).ok()
        assert done.json["status"] == "valid"
        made = self.client.chain(done)[0]
        return list(made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)


def verdicts(way: str, attempts: dict[Any, Attempt]) -> dict[Any, Verdict]:
    """Begin all, then wait for all."""
    for attempt in attempts.values():
        attempt.begin(way)
    return {case: attempt.verdict(way) for case, attempt in attempts.items()}


def digest(text: str) -> str:
    """What a TXT record of dns-01 holds."""
    return b64(hashlib.sha256(text.encode()).digest())
