"""What a client reads first: the directory (RFC 8555 7.1.1) and nonces (7.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kms.operation import Call, Result
from pki.acme.directories import Directories
from pki.acme.model import EabPolicy
from pki.acme.nonces import Nonces

_RESOURCES = {
    "newNonce": "new-nonce",
    "newAccount": "new-account",
    "newOrder": "new-order",
    "revokeCert": "revoke-cert",
    "keyChange": "key-change",
    "renewalInfo": "renewal-info",
}


@dataclass(frozen=True)
class Entrance:
    """One per process."""

    directories: Directories
    nonces: Nonces

    def directory(self, call: Call) -> Result:
        """acme/directory."""
        found = self.directories.of(call)
        config = found.config
        meta: dict[str, Any] = {"externalAccountRequired": config.eab_policy != EabPolicy.NOT_REQUIRED}
        if config.terms_of_service:
            meta["termsOfService"] = config.terms_of_service
        if config.website:
            meta["website"] = config.website
        if config.caa_identities:
            meta["caaIdentities"] = list(config.caa_identities)
        if found.default and config.profiles:
            meta["profiles"] = {name: f"role {role}" for name, role in config.profiles.items()}
        resources = _RESOURCES | ({"newAuthz": "new-authz"} if config.pre_authorization else {})
        return Result(data={name: found.url(path) for name, path in resources.items()} | {"meta": meta})

    def nonce(self, call: Call) -> Result:
        """acme/new-nonce: an empty answer; the nonce is in its header."""
        found = self.directories.of(call)
        headers = (
            ("Replay-Nonce", self.nonces.make(call.mount.id, call.now)),
            ("Link", f'<{found.url("directory")}>;rel="index"'),
        )
        return Result(headers=headers)
