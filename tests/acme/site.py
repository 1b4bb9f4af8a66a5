"""A mount that is an ACME server: an EC root, a role for example.test, names of its own."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.acme.names import Names
from tests.harness.api import Api
from tests.harness.dev import DevServer

ROLE = {
    "allowed_domains": ["example.test"],
    "allow_subdomains": True,
    "allow_bare_domains": True,
    "key_type": "any",
    "ttl": "1h",
    "max_ttl": "24h",
}


@dataclass(frozen=True)
class Site:
    """One mount of the shared server, and what clients need to know of it."""

    server: DevServer
    api: Api
    mount: str
    names: Names
    folder: Path
    front: str = ""  # of a TLS proxy before the server

    @property
    def base(self) -> str:
        """External URL of the mount."""
        return f"{self.front or self.server.address}/v1/{self.mount}"

    @property
    def directory(self) -> str:
        """Of the role."""
        return f"{self.base}/roles/web/acme/directory"

    def configure(self, **changes: Any) -> None:
        """config/acme."""
        self.api.ok("POST", f"{self.mount}/config/acme", changes)

    def name(self, *addresses: str) -> str:
        """A host name that nobody else uses, at these addresses (loopback)."""
        return self.names.host(f"h{secrets.token_hex(4)}.example.test", *(addresses or ("127.0.0.1",)))


def make_site(server: DevServer, api: Api, mount: str, names: Names, folder: Path) -> Site:
    """Root, role, and ACME turned on."""
    site = Site(server, api, mount, names, folder)
    root = {"common_name": "Test Root", "key_type": "ec", "ttl": "8760h"}
    api.ok("POST", f"{mount}/root/generate/internal", root)
    api.ok("POST", f"{mount}/roles/web", ROLE)
    api.ok("POST", f"{mount}/config/cluster", {"path": site.base})
    unlimited = {"accounts_per_address": 0, "orders_per_account": 0, "failed_validations": 0}
    site.configure(enabled=True, dns_resolver=names.address, **unlimited)
    return site
