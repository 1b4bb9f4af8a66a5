"""A root and an intermediate made through the API, as an operator makes them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.harness.api import Api
from tests.harness.nginx import Nginx

DOMAIN = "svc.example.test"


@dataclass(frozen=True)
class Authority:
    """Two mounts, ready to issue by the role `mesh`."""

    api: Api
    root: str
    issuing: str

    def issue(self, name: str, **more: object) -> dict[str, Any]:
        """A certificate with its key from the role."""
        return self.api.ok("POST", f"{self.issuing}/issue/mesh", {"common_name": f"{name}.{DOMAIN}", **more})

    def revoke(self, serial: str) -> dict[str, Any]:
        """Revoke by the serial number that issuing answered."""
        return self.api.ok("POST", f"{self.issuing}/revoke", {"serial_number": serial})

    def roots(self) -> str:
        """The root certificate in PEM."""
        return self.api.get(f"{self.root}/ca/pem").content.decode().rstrip() + "\n"

    def crls(self) -> str:
        """The CRLs of both authorities in PEM."""
        texts = [
            self.api.get(f"{path}/crl/pem").content.decode().rstrip() for path in (self.root, self.issuing)
        ]
        return "\n".join(texts) + "\n"


def build(api: Api, label: str = "") -> Authority:
    """Mount, generate, sign, set, and make a role."""
    label = label or secrets.token_hex(4)
    root, issuing = f"pki-root-{label}", f"pki-{label}"
    for path, ttl in ((root, "87600h"), (issuing, "43800h")):
        api.ok("POST", f"sys/mounts/{path}", {"type": "pki", "config": {"max_lease_ttl": ttl}})
    api.ok(
        "POST",
        f"{root}/root/generate/internal",
        {"common_name": "Example Root", "key_type": "ec", "ttl": "87600h"},
    )
    csr = api.ok(
        "POST",
        f"{issuing}/intermediate/generate/internal",
        {"common_name": "Example Issuing", "key_type": "ec"},
    )["csr"]
    signed = api.ok("POST", f"{root}/root/sign-intermediate", {"csr": csr, "ttl": "43800h"})
    chain = signed["certificate"].rstrip() + "\n" + signed["issuing_ca"].rstrip() + "\n"
    api.ok("POST", f"{issuing}/intermediate/set-signed", {"certificate": chain})
    api.ok(
        "POST",
        f"{issuing}/roles/mesh",
        {
            "allowed_domains": DOMAIN,
            "allow_subdomains": True,
            "allow_localhost": True,
            "key_type": "ec",
            "max_ttl": "72h",
        },
    )
    return Authority(api, root, issuing)


@dataclass(frozen=True)
class Identity:
    """Files of a client: certificate with its chain, and key."""

    serial: str
    certificate: Path
    key: Path


def save(issued: dict[str, Any], folder: Path, name: str) -> Identity:
    """Write what issuing answered, as curl and nginx want it: leaf first, then the intermediate."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.write_text(issued["certificate"].rstrip() + "\n" + issued["issuing_ca"].rstrip() + "\n")
    key.write_text(issued["private_key"])
    key.chmod(0o600)
    return Identity(issued["serial_number"], certificate, key)


def serve(authority: Authority, nginx: Nginx, folder: Path) -> Path:
    """Start nginx with a certificate of ours, asking clients for one; returns the CA file for curl."""
    own = authority.api.ok(
        "POST", f"{authority.issuing}/issue/mesh", {"common_name": "localhost", "ttl": "1h"}
    )
    files = save(own, folder, "nginx-own")
    nginx.put(
        server_pem=files.certificate.read_text(),
        server_key=files.key.read_text(),
        clients_pem=authority.roots(),
        crl_pem=authority.crls(),
    )
    nginx.start()
    ca = folder / "roots.pem"
    ca.write_text(authority.roots())
    return ca
