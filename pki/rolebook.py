"""Stored roles, ready for use: checked rules, and the certificate template per issuer."""

from __future__ import annotations

from dataclasses import dataclass

from kms.errors import invalid
from kms.tables import Cache, Row, Store
from pki.authority import Authority
from pki.model import Role
from pki.profiles import LeafTemplate
from pki.profiles.draft import CA_PROFILE
from pki.profiles.leaf import leaf_template
from pki.roles import RoleRules
from pki.store import ROLES

_READY_KEPT = 4096


@dataclass(frozen=True, slots=True)
class ReadyRole:
    """One role under one issuer."""

    rules: RoleRules
    template: LeafTemplate

    @property
    def role(self) -> Role:
        """The settings."""
        return self.rules.role


class RoleBook:
    """One per process."""

    def __init__(self, store: Store) -> None:
        self._roles: Cache[Role] = Cache(store, ROLES)
        self._ready: dict[str, tuple[Row[Role], Authority, ReadyRole]] = {}

    def role(self, mount_id: str, name: str) -> Role | None:
        """The stored settings, or None."""
        row = self._roles.get(f"{mount_id}/{name}")
        return row.value if row is not None else None

    def known(self, mount_id: str, name: str) -> Row[Role]:
        """The stored row. Raises KmsError(INVALID) as the peer does."""
        row = self._roles.get(f"{mount_id}/{name}")
        if row is None:
            raise invalid(f"unknown role: {name}")
        return row

    def ready(self, row: Row[Role], authority: Authority) -> ReadyRole:
        """Rules and template; made anew when the role or the issuer changed."""
        kept = self._ready.get(row.key)
        if kept is not None and kept[0] is row and kept[1] is authority:
            return kept[2]
        role = row.value
        # Shards are for leaves: the certificate of a CA names the whole CRL, as those of sign-intermediate do.
        whole = role.profile == CA_PROFILE
        template = leaf_template(
            authority.certificate.subject,
            authority.common if whole else authority.leaf_common,
            authority.hash_name(role.signature_bits, pss=role.use_pss),
            role,
            () if whole else authority.points,
            authority.usages,
        )
        ready = ReadyRole(RoleRules(role), template)
        if len(self._ready) >= _READY_KEPT:
            self._ready.clear()
        self._ready[row.key] = (row, authority, ready)
        return ready
