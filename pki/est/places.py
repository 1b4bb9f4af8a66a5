"""What an EST path issues under.

est/                  default_path_policy
est/:label/           label_to_path_policy
roles/:role/est/      that role
"""

from __future__ import annotations

from dataclasses import dataclass

from kms.errors import KmsError, not_found
from kms.operation import Call
from kms.tables import Cache, Store
from pki.authority import Authorities, Authority
from pki.est.model import VERBATIM, EstConfig
from pki.est.store import CONFIG
from pki.model import Role
from pki.rolebook import RoleBook


@dataclass(frozen=True)
class Place:
    """One EST server as its clients see it. `role` is None for sign-verbatim."""

    config: EstConfig
    role_name: str
    role: Role | None


class Places:
    """One per process."""

    def __init__(self, store: Store, authorities: Authorities, roles: RoleBook) -> None:
        self._store = store
        self._configs: Cache[EstConfig] = Cache(store, CONFIG)
        self._authorities = authorities
        self._roles = roles

    def config(self, mount_id: str) -> EstConfig:
        """The mount's settings, defaults included."""
        row = self._configs.get(mount_id)
        return row.value if row is not None else EstConfig()

    def of(self, call: Call) -> Place:
        """The place of a request.

        Raises:
            KmsError(NOT_FOUND): EST, or this path of it, is not offered.
        """
        config = self.config(call.mount.id)
        if not config.enabled:
            raise not_found("EST is not enabled on this mount (config/est)")
        name, label = str(call.args.get("role") or ""), str(call.args.get("label") or "")
        if not name:
            policy = config.label_to_path_policy.get(label, "") if label else config.default_path_policy
            if not policy:
                what = f"the label {label}" if label else "a path without a label"
                raise not_found(f"config/est has no policy for {what}")
            if policy == VERBATIM:
                return Place(config, "", None)
            name = policy.removeprefix("role:")
        role = self._roles.role(call.mount.id, name)
        if role is None:
            raise not_found(f"role {name} does not exist")
        return Place(config, name, role)

    def authority(self, call: Call, place: Place) -> Authority:
        """Who signs there. Raises KmsError(NOT_FOUND)."""
        ref = place.role.issuer_ref if place.role is not None else "default"
        try:
            return self._authorities.get(call.mount.id, ref)
        except KmsError as error:
            raise not_found(error.detail) from None

    def labelled(self, label: str) -> str | None:
        """The id of the mount that answers /.well-known/est/ with this label ("" for none)."""
        for row in self._store.reader().scan(CONFIG):
            config = row.value
            if config.namespace or not config.enabled:
                continue
            if label in config.label_to_path_policy if label else config.default_mount:
                return row.key
        return None
