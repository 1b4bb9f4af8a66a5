"""Configuration, roles and login of the auth method jwt."""

from __future__ import annotations

from typing import Any

from msgspec.structs import asdict, replace

from kms.errors import ErrorKind, KmsError, invalid, not_found
from kms.identity.jwt import claims, token
from kms.identity.jwt.fields import role_changes, shown_role
from kms.identity.jwt.keys import KeySources, given_keys
from kms.identity.jwt.store import CONFIGS, ROLES, JwtConfig, JwtRole
from kms.identity.methods.logins import Logins, Proved, elsewhere
from kms.identity.methods.params import TokenParams
from kms.identity.networks import permits
from kms.identity.outward import check_url
from kms.ids import check_name
from kms.operation import Call, Change, MountRef, Result
from kms.tables import Reader, Row, Store, Transaction

_ONE_SOURCE = "exactly one of 'jwt_validation_pubkeys', 'jwks_url' or 'oidc_discovery_url' must be set"
_SOURCES = ("jwt_validation_pubkeys", "jwks_url", "oidc_discovery_url")


class JwtMethod:
    """Handlers. One per process, safe to use from several threads."""

    def __init__(self, store: Store, logins: Logins, sources: KeySources) -> None:
        self._store = store
        self._logins = logins
        self._sources = sources

    # -- configuration -----------------------------------------------------------------------------------

    def read_config(self, call: Call) -> Result:
        row = self._store.reader().get(CONFIGS, call.mount.id)
        if row is None:
            raise not_found()
        data = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(row.value).items()
        }
        return Result(data={**data, "status": "valid"})

    def write_config(self, call: Call) -> Change:
        """The configuration, whole; keys that are to be fetched are fetched once, so that a typo shows now."""
        for name in ("oidc_client_id", "oidc_client_secret", "provider_config"):
            if call.args.get(name):
                raise invalid(f"{name}: logins in a browser are not available; clients send a token to login")
        given = {name: call.args[name] for name in JwtConfig.__struct_fields__ if name in call.given}
        for name in ("jwt_supported_algs", "jwt_validation_pubkeys"):
            given[name] = tuple(given.get(name) or ())
        config = JwtConfig(**given)
        if sum(bool(getattr(config, name)) for name in _SOURCES) != 1:
            raise invalid(_ONE_SOURCE)
        unknown = set(config.jwt_supported_algs) - set(token.ALGORITHMS)
        if unknown:
            raise invalid(f"unsupported signing algorithm: {min(unknown)[:32]}")
        given_keys(config.jwt_validation_pubkeys)
        if not config.jwt_validation_pubkeys:
            check_url(config.jwks_url or config.oidc_discovery_url)
            self._sources.fetch(config)

        def write(tx: Transaction) -> Result:
            row = tx.get(CONFIGS, call.mount.id)
            if row is None:
                tx.insert(CONFIGS, call.mount.id, config)
            else:
                tx.replace(CONFIGS, row, config)
            return Result(subject={"bound_issuer": config.bound_issuer})

        return Change(write)

    # -- roles -------------------------------------------------------------------------------------------

    def exists(self, call: Call) -> bool:
        """Whether the role is there: creating and updating are different rights."""
        return self._role(self._store.reader(), call.mount, call.args["name"]) is not None

    def read(self, call: Call) -> Result:
        row = self._role(self._store.reader(), call.mount, call.args["name"])
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
            row = self._role(tx, call.mount, call.args["name"])
            before = row.value if row is not None else JwtRole(user_claim="")
            if row is None and given.get("role_type") != "jwt":
                raise invalid("role_type must be 'jwt': logins in a browser (oidc) are not available")
            role = replace(before, **role_changes(given, before))
            if not role.user_claim:
                raise invalid("a user claim must be defined on the role")
            if not (
                role.bound_audiences or role.bound_subject or role.bound_claims or role.token_bound_cidrs
            ):
                raise invalid("must have at least one bound constraint when creating/updating a role")
            if row is None:
                tx.insert(ROLES, _key(call.mount, call.args["name"]), role)
            else:
                tx.replace(ROLES, row, role)
            return Result(subject={"role": call.args["name"]})

        return Change(write)

    def delete(self, call: Call) -> Change:
        def write(tx: Transaction) -> Result:
            row = self._role(tx, call.mount, call.args["name"])
            if row is not None:
                tx.delete(ROLES, row)
            return Result(subject={"role": call.args["name"]})

        return Change(write)

    def _role(self, reader: Reader, mount: MountRef, name: str) -> Row[JwtRole] | None:
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
        row = self._role(reader, call.mount, name)
        if row is None:
            raise invalid(f'role "{name}" could not be found')
        presented = str(call.args.get("jwt") or "")
        if not presented:
            raise invalid("missing token")
        keys = self._sources.keys(call.mount.id, config, token.key_id(presented))
        said = token.verified(presented, keys, config.jwt_supported_algs)
        claims.check(said, config, row.value, call.now)
        who = self._proved(call, row, said)
        if not permits(row.value.token_bound_cidrs, call.peer):
            raise elsewhere()

        def write(tx: Transaction) -> Result:
            now = tx.get(ROLES, row.key)
            if now is None or now.revision != row.revision:
                raise KmsError(ErrorKind.CONFLICT, "the role was changed at the same time; log in again")
            return self._logins.issue(tx, call, who)

        return Change(write)

    def _proved(self, call: Call, row: Row[JwtRole], said: dict[str, Any]) -> Proved:
        user = claims.user(said, row.value)
        name = row.key.removeprefix(f"{call.mount.id}/")
        mount = call.mount.path.removeprefix("auth/").strip("/").replace("/", "-")
        meta = {**claims.metadata(said, row.value), "role": name}
        return Proved(
            name,
            row.value,
            meta,
            f"{mount}-{user}"[:256],
            alias=user,
            alias_metadata=meta,
            groups=claims.groups(said, row.value),
        )

    # -- the mount ---------------------------------------------------------------------------------------

    def params_of(self, reader: Reader, mount: MountRef, name: str) -> TokenParams | None:
        """For renewals (`Logins`)."""
        row = self._role(reader, mount, name)
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
        return len(rows)


def _key(mount: MountRef, name: str) -> str:
    return f"{mount.id}/{check_name(name, 'role name').lower()}"
