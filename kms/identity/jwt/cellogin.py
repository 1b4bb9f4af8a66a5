"""Login under a role that is a program: the token is verified as ever, then its claims are judged by the program.

(1) the role and its program; (2) signature, issuer, audience, times; (3) the program, outside any transaction; (4) what
it answered becomes the terms of a token, held to what holds for those of every role: no root, no unknown kind, networks
that parse and that the caller is in; (5) the token, in a commit that finds the role unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from msgspec.structs import replace

from kms.cel import Outcome
from kms.errors import ErrorKind, KmsError, invalid
from kms.identity.creation import MAX_META
from kms.identity.jwt import claims, token
from kms.identity.jwt.celroles import DIALECT, CelRoles
from kms.identity.jwt.keys import KeySources
from kms.identity.jwt.store import CEL_ROLES, CONFIGS, CelRole, JwtConfig, JwtRole
from kms.identity.methods import params
from kms.identity.methods.logins import Logins, Proved, elsewhere
from kms.identity.methods.params import KeptParams, TokenParams
from kms.identity.networks import permits
from kms.operation import Call, Change, MountRef, Result
from kms.policy import ROOT
from kms.tables import Reader, Row, Store, Transaction

PREFIX: Final = "cel/"
"""Before the role's name in what a token remembers: an ordinary role of that name is another one."""
_NANO: Final = 1_000_000_000
_KINDS: Final = {0: "default", 1: "service", 2: "batch", 3: "service", 4: "batch"}
_FAILED: Final = "error executing cel program: "
# The server says these, never a program; the peer drops them in silence.
_NOT_ITS: Final = ("client_token", "accessor", "entity_id", "token_policies", "identity_policies")
_TYPES: Final = {
    "int64": "types.Int",
    "uint64": "types.Uint",
    "float64": "types.Double",
    "[]uint8": "types.Bytes",
    "structpb.NullValue": "types.Null",
    "time.Time": "types.Timestamp",
    "time.Duration": "types.Duration",
    "[]ref.Val": "*types.baseList",
    "map[ref.Val]ref.Val": "*types.baseMap",
}


class CelLogins:
    """Handlers. One per process, safe to use from several threads."""

    def __init__(self, store: Store, logins: Logins, sources: KeySources, roles: CelRoles) -> None:
        self._store = store
        self._logins = logins
        self._sources = sources
        self._roles = roles

    def login(self, call: Call) -> Change:
        config, row, name = self._role(call)  # (1)
        presented = str(call.args.get("jwt") or "")
        if not presented:
            raise invalid("missing token")
        keys = self._sources.keys(call.mount.id, config, token.key_id(presented))  # (2)
        said = token.verified(presented, keys, config.jwt_supported_algs)
        claims.check(said, config, _bounds(row.value), call.now, any_audience=not row.value.bound_audiences)
        now = datetime.fromtimestamp(call.now, UTC)
        seen = {"claims": _floating(said), "now": now, "operation": "update"}
        failing = f"{_FAILED}CEL auth program failed: "
        outcome = self._roles.programs.run(DIALECT, row.value.program, seen, failing)  # (3)
        who = _proved(call.mount, name, _granted(name, outcome))  # (4)
        if not permits(who.params.token_bound_cidrs, call.peer):
            raise elsewhere()

        def write(tx: Transaction) -> Result:  # (5)
            held = tx.get(CEL_ROLES, row.key)
            if held is None or held.revision != row.revision:
                raise KmsError(ErrorKind.CONFLICT, "the role was changed at the same time; log in again")
            return self._logins.issue(tx, call, who)

        return Change(write)

    def _role(self, call: Call) -> tuple[JwtConfig, Row[CelRole], str]:
        reader = self._store.reader()
        config_row = reader.get(CONFIGS, call.mount.id)
        if config_row is None:
            raise invalid("could not load configuration")
        name = str(call.args.get("role") or config_row.value.default_role).lower()
        if not name:
            raise invalid("missing role")
        row = self._roles.role(reader, call.mount, name)
        if row is None:
            raise invalid(f'role "{name}" could not be found')
        return config_row.value, row, name

    def params_of(self, reader: Reader, mount: MountRef, name: str) -> TokenParams | None:
        """For renewals: the role must still be there, and the token keeps its terms."""
        row = self._roles.role(reader, mount, name.removeprefix(PREFIX))
        return KeptParams() if row is not None else None


def _granted(name: str, outcome: Outcome) -> Mapping[str, Any]:
    """The program's pb.Auth. Raises KmsError(INVALID) for everything else that it may come to."""
    if outcome.kind == "bool" and not outcome.value:
        raise _blocked(name, "boolean false return")
    if outcome.kind == "string":
        raise _blocked(name, f"message: {outcome.value}")
    if outcome.kind != "message" or outcome.name != "pb.Auth":
        kind = {"bool": "types.Bool", "message": "*types.protoObj"}.get(outcome.kind)
        found = kind or _TYPES.get(outcome.name, outcome.name)
        raise invalid(f"{_FAILED}CEL program '{name}' returned unexpected type: {found}")
    granted: Mapping[str, Any] = outcome.value
    return granted


def _bounds(role: CelRole) -> JwtRole:
    """What is checked of a token before a program sees it."""
    return JwtRole(
        user_claim="",
        bound_audiences=role.bound_audiences,
        clock_skew_leeway=role.clock_skew_leeway,
        expiration_leeway=role.expiration_leeway,
        not_before_leeway=role.not_before_leeway,
    )


def _floating(value: Any) -> Any:
    """Numbers of a token are floating to programs, as in the peer."""
    if isinstance(value, dict):
        return {name: _floating(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_floating(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise invalid("error validating token: a claim has a number that is too large") from None
    return value


def _blocked(name: str, why: str) -> KmsError:
    return invalid(f"{_FAILED}CEL role '{name}' blocked authorization with {why}"[:2000])


def _proved(mount: MountRef, name: str, auth: Mapping[str, Any]) -> Proved:
    """What the program granted, checked. Raises KmsError(INVALID)."""
    for member in _NOT_ITS:
        if auth.get(member):
            raise invalid(f"pb.Auth.{member} is not a program's to say: leave it out, or use policies")
    terms = _params(auth)
    meta = _texts(auth.get("metadata", {}))
    # Where an alias is, its id and its namespace, the mount says.
    alias = auth.get("alias")
    if alias is not None and not alias.get("name"):
        raise invalid("missing name in alias")
    called = str(auth.get("display_name") or (alias or {}).get("name") or name)
    place = mount.path.removeprefix("auth/").strip("/").replace("/", "-")
    return Proved(
        f"{PREFIX}{name}",
        terms,
        meta,
        f"{place}-{called}"[:256],
        alias=alias["name"] if alias else "",
        alias_metadata=_texts(alias.get("metadata", {})) if alias else {},
        groups=tuple(str(each.get("name", "")) for each in auth.get("group_aliases", ()) if each.get("name")),
        renewable=bool(auth.get("lease_options", {}).get("renewable")),
    )


def _params(auth: Mapping[str, Any]) -> TokenParams:
    policies = list(auth.get("policies", ()))
    if ROOT in {str(policy).strip().lower() for policy in policies}:
        raise invalid("auth methods cannot create root tokens")
    lease = auth.get("lease_options", {})
    kind = _KINDS.get(auth.get("token_type", 0))
    if kind is None:
        raise invalid(f"pb.Auth.token_type {auth['token_type']} is no kind of token")
    longest = [
        each for each in (_whole(auth, "explicit_max_ttl"), _whole(lease, "MaxTTL")) if each
    ]  # of both, the shorter one
    given = {
        "token_policies": policies,
        "token_bound_cidrs": list(auth.get("bound_cidrs", ())),
        "token_num_uses": int(auth.get("num_uses", 0)),
        "token_period": _whole(auth, "period"),
        "token_ttl": _whole(lease, "TTL"),
        "token_explicit_max_ttl": min(longest, default=0),
        "token_no_default_policy": bool(auth.get("no_default_policy")),
        "token_type": kind,
    }
    return replace(TokenParams(), **params.changes(given, TokenParams()))


def _whole(message: Mapping[str, Any], member: str) -> int:
    """Nanoseconds as whole seconds."""
    value = int(message.get(member, 0))
    if value < 0:
        raise invalid(f"pb.Auth: {member} cannot be negative")
    if 0 < value < _NANO:
        raise invalid(f"pb.Auth: {member} is in nanoseconds, and at least one second: got {value}")
    return value // _NANO


def _texts(pairs: Mapping[str, str]) -> dict[str, str]:
    if len(pairs) > MAX_META:
        raise invalid(f"pb.Auth: metadata holds at most {MAX_META} pairs")
    return dict(pairs)
