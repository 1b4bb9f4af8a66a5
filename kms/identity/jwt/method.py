"""Configuration, roles and login of the auth method jwt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec.structs import replace

from kms.cel import Sandbox
from kms.errors import ErrorKind, KmsError, invalid, not_found
from kms.identity.jwt import claims, token
from kms.identity.jwt.cellogin import PREFIX, CelLogins
from kms.identity.jwt.celroles import CelRoles
from kms.identity.jwt.configuring import configuration, shown_config
from kms.identity.jwt.fields import check_bounds, role_changes, shown_role
from kms.identity.jwt.grouping import regrouped
from kms.identity.jwt.keys import KeySources
from kms.identity.jwt.store import CEL_ROLES, CONFIGS, ROLES, JwtRole
from kms.identity.jwt.workspace import check_place
from kms.identity.methods.logins import Logins, Proved, elsewhere
from kms.identity.methods.params import TokenParams
from kms.identity.networks import permits
from kms.ids import check_name
from kms.operation import Call, Change, MountRef, Result
from kms.tables import Reader, Row, Store, Transaction

_NEVER_LOGGED: Final = (
    "verbose_oidc_logging has no effect: tokens and claims are never written to a log here."
)


class JwtMethod:
    """Handlers. One per process, safe to use from several threads."""

    def __init__(self, store: Store, logins: Logins, sources: KeySources, programs: Sandbox) -> None:
        self.cel_roles = CelRoles(store, programs)
        self.cel = CelLogins(store, logins, sources, self.cel_roles)
        self._store = store
        self._logins = logins
        self._sources = sources

    # -- configuration -----------------------------------------------------------------------------------

    def read_config(self, call: Call) -> Result:
        row = self._store.reader().get(CONFIGS, call.mount.id)
        if row is None:
            raise not_found()
        return Result(data=shown_config(row.value))

    def write_config(self, call: Call) -> Change:
        """The configuration, whole; keys that are to be fetched are fetched once, so that a typo shows now."""
        config, warnings = configuration(call.args, call.given)
        check_place(config, call.namespace)
        if not config.jwt_validation_pubkeys:
            try:
                self._sources.fetch(config)
            except KmsError as error:
                if not call.args.get("skip_jwks_validation"):
                    raise
                warnings = (*warnings, error.detail)

        def write(tx: Transaction) -> Result:
            row = tx.get(CONFIGS, call.mount.id)
            if row is None:
                tx.insert(CONFIGS, call.mount.id, config)
            elif "namespace_in_state" in call.given:
                tx.replace(CONFIGS, row, config)
            else:  # alone of all fields it stays when it is not sent again, as on the peer
                kept = row.value.namespace_in_state
                tx.replace(CONFIGS, row, replace(config, namespace_in_state=kept))
            return Result(subject={"bound_issuer": config.bound_issuer}, warnings=warnings)

        return Change(write)

    # -- roles -------------------------------------------------------------------------------------------

    def exists(self, call: Call) -> bool:
        """Whether the role is there: creating and updating are different rights."""
        return self.role(self._store.reader(), call.mount, call.args["name"]) is not None

    def read(self, call: Call) -> Result:
        row = self.role(self._store.reader(), call.mount, call.args["name"])
        if row is None:
            raise not_found()
        return Result(data=shown_role(row.value))

    def listing(self, call: Call) -> Result:
        prefix = f"{call.mount.id}/"
        names = [key.removeprefix(prefix) for key in self._store.reader().keys(ROLES, prefix)]
        if not names:
            raise not_found()
        return Result(data={"keys": names})

    def write(self, call: Call) -> Change:
        given = {name: call.args[name] for name in call.given if name != "name"}

        def write(tx: Transaction) -> Result:
            row = self.role(tx, call.mount, call.args["name"])
            before = row.value if row is not None else JwtRole(user_claim="")
            role = replace(before, **role_changes(given, before))
            if not role.user_claim:
                raise invalid("a user claim must be defined on the role")
            check_bounds(role)
            if row is None:
                tx.insert(ROLES, _key(call.mount, call.args["name"]), role)
            else:
                tx.replace(ROLES, row, role)
            notes = (_NEVER_LOGGED,) if role.verbose_oidc_logging else ()
            return Result(subject={"role": call.args["name"]}, warnings=notes)

        return Change(write)

    def delete(self, call: Call) -> Change:
        def write(tx: Transaction) -> Result:
            row = self.role(tx, call.mount, call.args["name"])
            if row is not None:
                tx.delete(ROLES, row)
            return Result(subject={"role": call.args["name"]})

        return Change(write)

    def role(self, reader: Reader, mount: MountRef, name: str) -> Row[JwtRole] | None:
        """The role, or None."""
        return reader.get(ROLES, _key(mount, name))

    # -- login -------------------------------------------------------------------------------------------

    def login(self, call: Call) -> Change:
        """Signature, then claims, then networks; the token in the commit that finds the role unchanged."""
        reader = self._store.reader()
        config_row = reader.get(CONFIGS, call.mount.id)
        if config_row is None:
            raise invalid("could not load configuration")
        config = config_row.value
        name = str(call.args.get("role") or config.default_role)
        if not name:
            raise invalid("missing role")
        row = self.role(reader, call.mount, name)
        if row is None:
            raise invalid(f'role "{name}" could not be found')
        if row.value.role_type == "oidc":
            raise invalid("role with oidc role_type is not allowed")
        presented = str(call.args.get("jwt") or "")
        if not presented:
            raise invalid("missing token")
        if not permits(row.value.token_bound_cidrs, call.peer):
            raise elsewhere()
        keys = self._sources.keys(call.mount.id, config, token.key_id(presented))
        said: Mapping[str, Any] = token.verified(presented, keys, config.jwt_supported_algs)
        claims.check(said, config, row.value, call.now)
        said = regrouped(said, config, row.value, self._sources.clock)
        claims.check_bound(said, row.value)
        who = proved(call.mount, row.key.removeprefix(f"{call.mount.id}/"), row.value, said)

        def write(tx: Transaction) -> Result:
            self.unchanged(tx, row)
            return self._logins.issue(tx, call, who)

        return Change(write)

    def unchanged(self, tx: Transaction, row: Row[JwtRole]) -> None:
        """Raise KmsError(CONFLICT) unless the role is still the one that a proof was checked against."""
        now = tx.get(ROLES, row.key)
        if now is None or now.revision != row.revision:
            raise KmsError(ErrorKind.CONFLICT, "the role was changed at the same time; log in again")

    # -- the mount ---------------------------------------------------------------------------------------

    def params_of(self, reader: Reader, mount: MountRef, name: str) -> TokenParams | None:
        """For renewals (`Logins`)."""
        if name.startswith(PREFIX):
            return self.cel.params_of(reader, mount, name)
        row = self.role(reader, mount, name)
        return row.value if row is not None else None

    def retire_mount(self, tx: Transaction, mount_id: str) -> int:
        """Delete what a mount that is being removed holds, and end its tokens; how many roles."""
        self._logins.retire_mount(tx, mount_id)
        config = tx.get(CONFIGS, mount_id)
        if config is not None:
            tx.delete(CONFIGS, config)
        rows = tx.scan(ROLES, f"{mount_id}/")
        for row in rows:
            tx.delete(ROLES, row)
        programs = tx.scan(CEL_ROLES, f"{mount_id}/")
        for program in programs:
            tx.delete(CEL_ROLES, program)
        return len(rows) + len(programs)


def proved(mount: MountRef, name: str, role: JwtRole, said: Mapping[str, Any]) -> Proved:
    """Who it is, by claims that were checked. Raises KmsError(INVALID) when they do not say."""
    user = claims.user(said, role)
    meta = {**claims.metadata(said, role), "role": name}
    place = mount.path.removeprefix("auth/").strip("/").replace("/", "-")
    return Proved(
        name,
        role,
        meta,
        f"{place}-{user}"[:256],
        alias=user,
        alias_metadata=meta,
        groups=claims.groups(said, role),
    )


def _key(mount: MountRef, name: str) -> str:
    return f"{mount.id}/{check_name(name, 'role name').lower()}"
