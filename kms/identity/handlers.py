"""What the operations of auth/token/ do, between the road and `TokenService`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from msgspec.structs import replace

from kms.errors import KmsError, invalid, not_found
from kms.identity.batch import is_batch
from kms.identity.creation import Born, TokenRequest, born, renewed
from kms.identity.entities.entrance import enter
from kms.identity.entities.spelling import folded
from kms.identity.methods.logins import Logins
from kms.identity.model import Token, TokenRole
from kms.identity.roles import delete_role, describe, read_role, role_names, write_role
from kms.identity.service import TokenService
from kms.identity.shown import auth_object, lookup_object
from kms.identity.store import TOKENS
from kms.operation import Call, Change, NamespaceRef, Principal, Result
from kms.tables import Transaction


class Policies(Protocol):
    """What identity asks of policy."""

    def has_sudo(self, principal: Principal, path: str) -> bool:
        """Whether the principal's rule for `path` carries sudo."""
        ...

    def exists(self, name: str, namespace: NamespaceRef) -> bool:
        """Whether a canonical name has a policy in a namespace."""
        ...


class Handlers:
    """Handlers of the operation table; each takes a Call."""

    def __init__(self, tokens: TokenService, policies: Policies, logins: Logins) -> None:
        self._tokens = tokens
        self._policies = policies
        self._logins = logins

    # -- creation ---------------------------------------------------------------------------------

    def create(self, call: Call) -> Change:
        return self._create(call, _request(call), None)

    def create_orphan(self, call: Call) -> Change:
        return self._create(call, _request(call, orphan=True), None)

    def create_with_role(self, call: Call) -> Change:
        name = call.args["role_name"]
        role = read_role(self._tokens.reader(), name, call.namespace)
        if role is None:
            raise invalid(f"unknown role {name}")
        return self._create(call, _request(call), role)

    def _create(self, call: Call, request: TokenRequest, role: TokenRole | None) -> Change:
        sudo = self._policies.has_sudo(call.principal, call.path)
        own = self._tokens.own(call.principal)
        if own is not None and own.batch:
            raise invalid("batch tokens cannot create more tokens")
        if own is not None and own.num_uses:
            # Also when this request was its last use, and the row is gone.
            raise invalid("restricted use token cannot generate child tokens")

        def write(tx: Transaction) -> Result:
            parent = self._tokens.live(call.principal.token_id, tx)
            if parent is None:
                raise invalid("parent token lookup failed: no parent found")
            made = born(request, parent.key, parent.value, role=role, sudo=sudo, now=self._tokens.now())
            added = self._added(made.token)
            if request.entity_alias:
                who = enter(tx, call.mount, folded(request.entity_alias), {}, (), self._tokens.now())
                made = Born(replace(made.token, entity_id=who.entity.id), made.warnings)
                added = who.policies
            token = self._tokens.insert(tx, made.token, request.id)
            return self._answer(call, made, token, added)

        return Change(write)

    def _answer(self, call: Call, made: Born, token: str, added: tuple[str, ...]) -> Result:
        missing = [
            f'Policy "{name}" does not exist'
            for name in made.token.policies
            if not self._policies.exists(name, call.namespace)
        ]
        return Result(
            auth=auth_object(made.token, token, added),
            warnings=(*made.warnings, *missing),
            subject=_subject(made.token),
        )

    # -- looking ----------------------------------------------------------------------------------

    def lookup_self(self, call: Call) -> Result:
        token = self._tokens.own(call.principal)
        if token is None:
            raise _bad_token()
        return self._looked_up(token, call.credential)

    def lookup(self, call: Call) -> Result:
        asked = call.args.get("token") or ""
        if not asked:
            return self.lookup_self(call)
        found = self._tokens.presented(asked, within=call.namespace)
        if found is None:
            raise _bad_token()
        return self._looked_up(found[1], asked)

    def lookup_accessor(self, call: Call) -> Result:
        accessor = _accessor(call)
        key = self._tokens.key_of_accessor(accessor, call.namespace)
        row = self._tokens.live(key) if key else None
        if row is None:
            raise invalid("invalid accessor")
        return self._looked_up(row.value, "")

    def _looked_up(self, token: Token, shown: str) -> Result:
        here = self._tokens.namespace_of(token)
        data = lookup_object(token, shown, self._tokens.now(), self._added(token), here)
        return Result(data=data, subject={"accessor": token.accessor})

    def _added(self, token: Token) -> tuple[str, ...]:
        return () if token.bare else self._tokens.directory.policies(token.entity_id)

    def accessors(self, call: Call) -> Result:
        keys = self._tokens.accessors(call.namespace)
        return Result(data={"keys": keys}, items=len(keys))

    # -- renewal ----------------------------------------------------------------------------------

    def renew(self, call: Call) -> Change:
        asked = call.args.get("token") or ""
        if not asked:
            raise invalid("missing token ID")
        self._demand_row(asked, "renewed", call.namespace)
        return self._renew(call, lambda tx: self._tokens.key_within(asked, call.namespace, tx), asked)

    def _demand_row(self, asked: str, what: str, namespace: NamespaceRef) -> None:
        """Refuse to do to a batch token what needs a row."""
        if is_batch(asked) and self._tokens.presented(asked, within=namespace) is not None:
            raise invalid(f"batch tokens cannot be {what}")

    def renew_self(self, call: Call) -> Change:
        self._demand_row(call.credential, "renewed", call.principal.namespace)
        return self._renew(call, lambda _tx: call.principal.token_id, call.credential)

    def renew_accessor(self, call: Call) -> Change:
        accessor = _accessor(call)

        def find(tx: Transaction | None) -> str:
            key = self._tokens.key_of_accessor(accessor, call.namespace, tx)
            if key is None:
                raise invalid("invalid accessor")
            return key

        return self._renew(call, find, "")

    def _renew(self, call: Call, find: Callable[[Transaction | None], str], shown: str) -> Change:
        increment = call.args.get("increment") or 0
        held = self._tokens.live(find(None))
        groups = self._logins.prove_again(call, held.value) if held is not None else None

        def write(tx: Transaction) -> Result:
            row = self._tokens.live(find(tx), tx)
            if row is None:
                raise invalid("token not found")
            here = self._tokens.namespace_of(row.value)
            role = read_role(tx, row.value.role, here) if row.value.role else None
            granted = self._logins.renewal(tx, row.value, increment, groups) if row.value.login else None
            made = renewed(row.value, increment, role, self._tokens.now(), granted)
            tx.replace(TOKENS, row, made.token)
            return Result(
                auth=auth_object(made.token, shown, self._added(made.token)),
                warnings=made.warnings,
                subject=_subject(made.token),
            )

        return Change(write)

    # -- revocation -------------------------------------------------------------------------------

    def revoke(self, call: Call) -> Change:
        asked = call.args.get("token") or ""
        if not asked:
            raise invalid("missing token ID")
        self._demand_row(asked, "revoked", call.namespace)
        return self._revoke(lambda tx: self._tokens.key_within(asked, call.namespace, tx))

    def revoke_self(self, call: Call) -> Change:
        self._demand_row(call.credential, "revoked", call.principal.namespace)
        return self._revoke(lambda _tx: call.principal.token_id)

    def revoke_accessor(self, call: Call) -> Change:
        accessor = _accessor(call)

        def write(tx: Transaction) -> Result:
            key = self._tokens.key_of_accessor(accessor, call.namespace, tx)
            if key is None:
                return Result(warnings=("No token found with this accessor",))
            return Result(subject={"accessor": self._tokens.revoke(tx, key)})

        return Change(write)

    def revoke_orphan(self, call: Call) -> Change:
        asked = call.args.get("token") or ""
        if not asked:
            raise invalid("missing token ID")
        if not self._policies.has_sudo(call.principal, call.path):
            raise invalid("root or sudo privileges required to revoke and orphan")
        self._demand_row(asked, "revoked", call.namespace)

        def write(tx: Transaction) -> Result:
            key = self._tokens.key_within(asked, call.namespace, tx)
            accessor = self._tokens.revoke_orphan(tx, key)
            if not accessor:
                raise invalid("token to revoke not found")
            return Result(subject={"accessor": accessor})

        return Change(write)

    def _revoke(self, find: Callable[[Transaction], str]) -> Change:
        def write(tx: Transaction) -> Result:
            return Result(subject={"accessor": self._tokens.revoke(tx, find(tx))})

        return Change(write)

    def tidy(self, _call: Call) -> Change:
        def write(tx: Transaction) -> Result:
            gone = self._tokens.tidy(tx)
            return Result(
                warnings=("Tidy operation successfully started. Expired tokens are deleted step by step.",),
                subject={"deleted": gone},
            )

        return Change(write)

    # -- roles ------------------------------------------------------------------------------------

    def _role(self, call: Call) -> TokenRole | None:
        return read_role(self._tokens.reader(), call.args["role_name"], call.namespace)

    def role_exists(self, call: Call) -> bool:
        return self._role(call) is not None

    def role_list(self, call: Call) -> Result:
        names = role_names(self._tokens.reader(), call.namespace)
        if not names:
            raise not_found()
        return Result(data={"keys": names})

    def role_read(self, call: Call) -> Result:
        role = self._role(call)
        if role is None:
            raise not_found()
        return Result(data=describe(role))

    def role_write(self, call: Call) -> Change:
        given = {name: call.args[name] for name in call.given if name != "role_name"}

        def write(tx: Transaction) -> Result:
            return Result(warnings=write_role(tx, call.args["role_name"], given, call.namespace))

        return Change(write)

    def role_delete(self, call: Call) -> Change:
        def write(tx: Transaction) -> Result:
            delete_role(tx, call.args["role_name"], call.namespace)
            return Result()

        return Change(write)


def _request(call: Call, *, orphan: bool = False) -> TokenRequest:
    args = call.args
    meta = args.get("meta")
    return TokenRequest(
        path=call.path,
        policies=_wishes(args.get("policies")),
        ttl=args.get("ttl") or args.get("lease") or 0,
        explicit_max_ttl=args.get("explicit_max_ttl") or 0,
        period=args.get("period") or 0,
        num_uses=args.get("num_uses") or 0,
        renewable=args.get("renewable") is not False,
        meta={str(name): _text(value) for name, value in meta.items()} if meta is not None else None,
        display_name=args.get("display_name") or "",
        id=args.get("id") or "",
        type=args.get("type") or "",
        entity_alias=args.get("entity_alias") or "",
        no_parent=bool(args.get("no_parent")),
        orphan=orphan,
        no_default_policy=bool(args.get("no_default_policy")),
        namespace=call.namespace.id,
    )


def _wishes(value: object) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise invalid("'policies' must be a list of policy names")
    return tuple(names)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, dict | list):
        raise invalid("meta holds texts only")
    return "" if value is None else str(value)


def _accessor(call: Call) -> str:
    accessor: str = call.args.get("accessor") or ""
    if not accessor:
        raise invalid("missing accessor")
    return accessor


def _subject(token: Token) -> dict[str, str | int]:
    return {"accessor": token.accessor, "display_name": token.display_name, "ttl": token.lease_ttl}


def _bad_token() -> KmsError:
    error = invalid("bad token")
    error.status = 403
    return error
