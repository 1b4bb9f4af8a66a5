"""Which directory a request came to, and what it may issue under which role.

acme/                                  default_directory_policy decides: forbid, role:NAME, sign-verbatim
roles/:role/acme/                      that role
issuer/:issuer_ref/acme/               as the first, by that issuer
issuer/:issuer_ref/roles/:role/acme/   that role, by that issuer
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from kms.errors import ErrorKind, KmsError
from kms.operation import Call, MountRef
from kms.tables import Cache, Row, Store
from pki.acme.model import AcmeConfig
from pki.acme.problems import AcmeProblem, malformed
from pki.acme.store import CONFIG
from pki.authority import Authorities, Authority
from pki.model import Role
from pki.rolebook import ReadyRole, RoleBook

_ROLES_KEPT = 4096
_VERBATIM = Role(
    allow_any_name=True, allow_glob_domains=True, key_type="any", require_cn=False, allow_subdomains=True
)
"""sign-verbatim: any name that was validated."""


@dataclass(frozen=True, slots=True)
class Directory:
    """One ACME server as its clients see it.

    Args:
        prefix: path below the mount, ending in "acme/".
        base: external URL of the mount, no slash at its end.
        role: "" for sign-verbatim.
        issuer_ref: from the path, "" for the role's.
    """

    mount: MountRef
    prefix: str
    base: str
    config: AcmeConfig
    role: str
    issuer_ref: str
    default: bool

    def url(self, rest: str) -> str:
        """Where clients find something of this directory."""
        return f"{self.base}/{self.prefix}{rest}"

    def below(self, url: str, kind: str) -> str | None:
        """The id in a URL of ours such as .../account/ID, or None."""
        start = self.url(kind + "/")
        name = url.removeprefix(start)
        return name if url.startswith(start) and name and "/" not in name else None


class Directories:
    """One per process."""

    def __init__(self, store: Store, authorities: Authorities, roles: RoleBook) -> None:
        self._configs: Cache[AcmeConfig] = Cache(store, CONFIG)
        self._authorities = authorities
        self._roles = roles
        self._adapted: dict[tuple[str, str, bool], tuple[Row[Role] | None, Row[Role]]] = {}

    def config(self, mount_id: str) -> AcmeConfig:
        """The mount's settings, defaults included."""
        row = self._configs.get(mount_id)
        return row.value if row is not None else AcmeConfig()

    def of(self, call: Call) -> Directory:
        """The directory of a request.

        Raises:
            AcmeProblem: ACME or this directory is not offered.
        """
        config = self.config(call.mount.id)
        if not config.enabled:
            raise malformed("ACME is not enabled on this mount (config/acme)", 404)
        base = self._authorities.config(call.mount.id).cluster_path
        if not base:
            raise AcmeProblem("serverInternal", "config/cluster of this mount names no path")
        role, issuer_ref = str(call.args.get("role") or ""), str(call.args.get("issuer_ref") or "")
        prefix = (
            (f"issuer/{issuer_ref}/" if issuer_ref else "") + (f"roles/{role}/" if role else "") + "acme/"
        )
        default = not role
        if default:
            role = _default_role(config)
        directory = Directory(call.mount, prefix, base.rstrip("/"), config, role, issuer_ref, default)
        self.check_role(directory, role)
        return directory

    def check_role(self, directory: Directory, role: str) -> None:
        """Raise AcmeProblem unless a directory may issue under this role."""
        config, mount_id = directory.config, directory.mount.id
        if role:
            found = self._roles.role(mount_id, role)
            if found is None:
                raise malformed(f"role {role} does not exist", 404)
            if config.allowed_roles != ("*",) and role not in config.allowed_roles:
                raise AcmeProblem("unauthorized", f"config/acme does not allow the role {role}")
            if found.no_store:
                raise AcmeProblem("unauthorized", f"role {role} stores no certificates (no_store)")
        self.authority(directory, role)

    def authority(self, directory: Directory, role: str) -> Authority:
        """The issuer that signs. Raises AcmeProblem."""
        mount_id = directory.mount.id
        kept = self._roles.role(mount_id, role) if role else None
        ref = directory.issuer_ref or (kept.issuer_ref if kept is not None else "default")
        try:
            authority = self._authorities.get(mount_id, ref)
            allowed = directory.config.allowed_issuers
            if allowed != ("*",) and authority.issuer.id not in {
                self._authorities.issuer(mount_id, name).id for name in allowed
            }:
                raise AcmeProblem("unauthorized", f"config/acme does not allow the issuer {ref}")
        except KmsError as error:
            if error.kind is not ErrorKind.INVALID:
                raise
            raise malformed(f"this directory has no issuer that can sign: {error.detail}") from None
        return authority

    def ready(self, directory: Directory, role: str) -> tuple[ReadyRole, Authority, Row[Role]]:
        """The rules of a role as ACME applies them, and who signs."""
        authority = self.authority(directory, role)
        row = self._adapt(directory, role)
        return self._roles.ready(row, authority), authority, row

    def _adapt(self, directory: Directory, role: str) -> Row[Role]:
        """The role with what ACME fixes: a common name is never demanded, usages are a server's unless allowed."""
        own_usages = directory.config.allow_role_ext_key_usage
        key = (directory.mount.id, role, own_usages)
        source = self._roles.known(directory.mount.id, role) if role else None
        kept = self._adapted.get(key)
        if kept is not None and kept[0] is source:
            return kept[1]
        adapted = msgspec.structs.replace(
            source.value if source is not None else _VERBATIM, require_cn=False, no_store=False
        )
        if not own_usages or source is None:
            adapted = msgspec.structs.replace(
                adapted,
                ext_key_usage=(),
                ext_key_usage_oids=(),
                server_flag=True,
                client_flag=False,
                code_signing_flag=False,
                email_protection_flag=False,
            )
        # A name that no stored role has, so that the templates of both are kept.
        row = Row(f"{directory.mount.id}/acme:{role}:{int(own_usages)}", 1, adapted)
        if len(self._adapted) >= _ROLES_KEPT:
            self._adapted.clear()
        self._adapted[key] = (source, row)
        return row


def _default_role(config: AcmeConfig) -> str:
    policy = config.default_directory_policy
    if policy == "forbid":
        raise AcmeProblem("unauthorized", "config/acme forbids the directory without a role")
    return policy.removeprefix("role:") if policy.startswith("role:") else ""
