"""identity/mfa/: methods, their secrets, and which logins need them."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from kms.errors import KmsError, invalid, not_found
from kms.identity.entities import groups, records
from kms.identity.mfa.codes import ALGORITHMS, picture_of, url_of
from kms.identity.mfa.gate import secret_key
from kms.identity.mfa.store import ENFORCEMENTS, METHODS, SECRETS, TOTP, Enforcement, Method, Secret
from kms.identity.within import Within, Writing, shown_id
from kms.ids import check_name, new_uuid
from kms.operation import Call, Change, MountRef, NamespaceRef, Result
from kms.tables import Reader, Row, Store, Transaction

_SETTINGS: Final = (
    "issuer",
    "algorithm",
    "digits",
    "period",
    "skew",
    "key_size",
    "qr_size",
    "max_validation_attempts",
)
_MAX: Final = {"period": 86_400, "key_size": 64, "qr_size": 2_000, "max_validation_attempts": 100}
_CLOSED: Final[Mapping[str, tuple[Collection[Any], str]]] = {
    "algorithm": (ALGORITHMS, "unrecognized algorithm"),
    "digits": ({6, 8}, "digits can only be 6 or 8"),
    "skew": ({0, 1}, "skew must be 0 or 1"),
}
_MAX_TEXT: Final = 256
_LISTS: Final = ("auth_method_accessors", "auth_method_types", "identity_entity_ids", "identity_group_ids")


class MfaAdmin:
    """Handlers. One per process.

    Args:
        with_accessor: (accessor, namespace) -> the mount there that has it.
        living: ID of a namespace -> the namespace.
        types: types of the auth methods there are.
    """

    def __init__(
        self,
        store: Store,
        with_accessor: Callable[[str, NamespaceRef], MountRef | None],
        types: Callable[[], Iterable[str]],
        living: Callable[[str], NamespaceRef | None],
    ) -> None:
        self._store = store
        self._with_accessor = with_accessor
        self._types = types
        self._living = living

    # -- methods -----------------------------------------------------------------------------------------

    def methods(self, call: Call) -> Result:
        """All methods of the namespace and of those above it, which may be used in it."""
        found = [(row.value, self._of(row.value)) for row in self._store.reader().scan(METHODS)]
        info = {
            method.id: _shown_method(method, of)
            for method, of in found
            if of is not None and of.covers(call.namespace)
        }
        if not info:
            raise not_found()
        return Result(data={"key_info": info, "keys": list(info)}, items=len(info))

    def _of(self, method: Method) -> NamespaceRef | None:
        return self._living(method.namespace)

    def _visible(self, rows: Reader, method_id: str, namespace: NamespaceRef) -> Row[Method] | None:
        """The method with this ID, unless it is of a namespace beside: that is what none is."""
        row = rows.get(METHODS, method_id)
        of = self._of(row.value) if row is not None else None
        return row if of is not None and (of.covers(namespace) or namespace.covers(of)) else None

    def _own(self, rows: Reader, method_id: str, namespace: NamespaceRef) -> Row[Method] | None:
        """The method with this ID, which can be changed here. Raises KmsError(INVALID) for one that others own."""
        row = self._visible(rows, method_id, namespace)
        if row is not None and row.value.namespace != namespace.id:
            raise invalid("request namespace does not match method namespace")
        return row

    def read_method(self, call: Call) -> Result:
        """One method."""
        row = self._visible(self._store.reader(), str(call.args["method_id"]), call.namespace)
        of = self._of(row.value) if row is not None else None
        if row is None or of is None:
            raise not_found()
        return Result(data=_shown_method(row.value, of))

    def write_method(self, call: Call) -> Change:
        """A new method, or other settings for the one of this ID or name."""
        given = {name: call.args[name] for name in _SETTINGS if name in call.given}
        method_id, name = str(call.args.get("method_id") or ""), str(call.args.get("method_name") or "")

        def write(tx: Transaction) -> Result:
            row = self._own(tx, method_id, call.namespace) if method_id else _named(tx, name, call.namespace)
            if row is None and method_id:
                raise _no_method(method_id)
            before = row.value if row is not None else Method(id=new_uuid(), namespace=call.namespace.id)
            changes = given | ({"name": name} if "method_name" in call.given else {})
            after = replace(before, **changes)
            _check(after)
            other = _named(tx, after.name, call.namespace)
            if other is not None and other.key != after.id:
                raise invalid(f"another method has the name {after.name!r}")
            if row is None:
                tx.insert(METHODS, after.id, after)
            else:
                tx.replace(METHODS, row, after)
            facts = {"method": after.id}
            return Result(data=None if method_id else {"method_id": after.id}, subject=facts)

        return Change(write)

    def delete_method(self, call: Call) -> Change:
        """Remove a method that no enforcement names, and its secrets."""
        method_id = str(call.args["method_id"])

        def write(tx: Transaction) -> Result:
            row = self._own(tx, method_id, call.namespace)
            if row is None:
                return Result(subject={"method": method_id})
            for rule in tx.scan(ENFORCEMENTS):
                if method_id in rule.value.mfa_method_ids:
                    raise invalid(
                        "methodID is still used by an enforcement configuration with ID: " + rule.value.id
                    )
            tx.delete(METHODS, row)
            for secret in tx.scan(SECRETS, f"{method_id}/"):
                tx.delete(SECRETS, secret)
            return Result(subject={"method": method_id})

        return Change(write)

    # -- secrets -----------------------------------------------------------------------------------------

    def generate(self, call: Call) -> Change:
        """The caller's own secret, shown once."""
        return self._generate(call, call.principal.entity_id)

    def admin_generate(self, call: Call) -> Change:
        """Somebody's secret, shown once."""
        return self._generate(call, str(call.args.get("entity_id") or ""))

    def _generate(self, call: Call, entity_id: str) -> Change:
        method_id = _asked(call, entity_id)

        def write(tx: Transaction) -> Result:
            method = self._usable(tx, method_id, entity_id, call.namespace)
            key = secret_key(method.id, entity_id)
            facts: dict[str, str | int] = {"method": method.id, "entity": entity_id}
            if tx.get(SECRETS, key) is not None:
                said = f'Entity already has a secret for MFA method "{method.name}"'
                return Result(warnings=(said,), subject=facts)
            raw = os.urandom(method.key_size)
            tx.insert(SECRETS, key, Secret(secret=raw))
            url = url_of(method, raw, entity_id)
            return Result(data={"barcode": picture_of(url, method.qr_size), "url": url}, subject=facts)

        return Change(write)

    def admin_destroy(self, call: Call) -> Change:
        """Forget somebody's secret; one that is not there is no error."""
        entity_id = str(call.args.get("entity_id") or "")
        method_id = _asked(call, entity_id, "missing entity ID")

        def write(tx: Transaction) -> Result:
            method = self._usable(tx, method_id, entity_id, call.namespace)
            row = tx.get(SECRETS, secret_key(method.id, entity_id))
            if row is not None:
                tx.delete(SECRETS, row)
            return Result(subject={"method": method.id, "entity": entity_id})

        return Change(write)

    def _usable(self, rows: Reader, method_id: str, entity_id: str, namespace: NamespaceRef) -> Method:
        row = self._visible(rows, method_id, namespace)
        of = self._of(row.value) if row is not None else None
        if row is None or of is None:
            raise _no_method(method_id)
        if records.find(Within(rows, namespace), entity_id) is None:
            raise invalid("invalid entity ID")
        if not of.covers(namespace):
            raise invalid(f"entity namespace {namespace.path} outside of the config namespace {of.path}")
        return row.value

    # -- enforcements ------------------------------------------------------------------------------------

    def enforcements(self, call: Call) -> Result:
        """All of the namespace."""
        rows = Within(self._store.reader(), call.namespace).scan(ENFORCEMENTS)
        if not rows:
            raise not_found()
        info = {row.key: _shown_enforcement(row, call.namespace) for row in rows}
        return Result(data={"key_info": info, "keys": list(info)}, items=len(rows))

    def read_enforcement(self, call: Call) -> Result:
        """One of them."""
        row = Within(self._store.reader(), call.namespace).get(ENFORCEMENTS, str(call.args["name"]))
        if row is None:
            raise not_found()
        return Result(data=_shown_enforcement(row, call.namespace))

    def enforcement_exists(self, call: Call) -> bool:
        """Whether it is there: creating and updating are different rights."""
        return (
            Within(self._store.reader(), call.namespace).get(ENFORCEMENTS, str(call.args["name"])) is not None
        )

    def write_enforcement(self, call: Call) -> Change:
        """A new one, or changes to one."""
        name = check_name(str(call.args["name"]), "name")
        given: dict[str, Any] = {
            field: tuple(call.args[field] or ())
            for field in ("mfa_method_ids", *_LISTS)
            if field in call.given
        }

        def write(rows: Transaction) -> Result:
            tx = Writing(rows, call.namespace)
            row = tx.get(ENFORCEMENTS, name)
            before = row.value if row is not None else Enforcement(id=new_uuid(), mfa_method_ids=())
            after = replace(before, **given)
            self._check_enforcement(tx, after)
            if row is None:
                tx.insert(ENFORCEMENTS, name, after)
            else:
                tx.replace(ENFORCEMENTS, row, after)
            return Result(subject={"enforcement": name})

        return Change(write)

    def _check_enforcement(self, tx: Writing, rule: Enforcement) -> None:
        if not rule.mfa_method_ids:
            raise invalid("missing method ids")
        methods = [tx.rows.get(METHODS, method_id) for method_id in rule.mfa_method_ids]
        of = [self._of(row.value) if row is not None else None for row in methods]
        if not all(one is not None and one.covers(tx.namespace) for one in of):
            raise invalid("one of the provided method ids doesn't exist")
        if not any(getattr(rule, field) for field in _LISTS):
            raise invalid(
                "One of auth_method_accessors, auth_method_types, identity_group_ids, identity_entity_ids must be"
                " specified"
            )
        mounts = [self._with_accessor(accessor, tx.namespace) for accessor in rule.auth_method_accessors]
        if any(mount is None or not mount.place.startswith("auth/") for mount in mounts):
            raise invalid("one of the auth method accessors provided is invalid")
        if not set(rule.auth_method_types) <= set(self._types()):
            raise invalid("one of the auth method types provided is invalid")
        if any(groups.find(tx, group_id) is None for group_id in rule.identity_group_ids):
            raise invalid("one of the provided group ids doesn't exist")
        if any(records.find(tx, entity_id) is None for entity_id in rule.identity_entity_ids):
            raise invalid("one of the provided entity ids doesn't exist")

    def delete_enforcement(self, call: Call) -> Change:
        """Remove it; one that is not there is no error."""
        name = str(call.args["name"])

        def write(rows: Transaction) -> Result:
            tx = Writing(rows, call.namespace)
            row = tx.get(ENFORCEMENTS, name)
            if row is not None:
                tx.delete(ENFORCEMENTS, row)
            return Result(subject={"enforcement": name})

        return Change(write)


def _shown_method(method: Method, of: NamespaceRef) -> dict[str, Any]:
    shown = msgspec.structs.asdict(method)
    shown.pop("namespace")
    return {**shown, "type": TOTP, "namespace_id": shown_id(of), "namespace_path": of.path}


def _shown_enforcement(row: Row[Enforcement], of: NamespaceRef) -> dict[str, Any]:
    lists = {field: list(getattr(row.value, field)) for field in ("mfa_method_ids", *_LISTS)}
    return {
        **lists,
        "id": row.value.id,
        "name": row.key,
        "namespace_id": shown_id(of),
        "namespace_path": of.path,
    }


def _asked(call: Call, entity_id: str, missing: str = "missing entityID") -> str:
    method_id = str(call.args.get("method_id") or "")
    if not method_id:
        raise invalid("missing method ID")
    if not entity_id:
        raise invalid(missing)
    return method_id


def _no_method(method_id: str) -> KmsError:
    return invalid(f'configuration for method ID "{method_id}" does not exist')


def _named(rows: Reader, name: str, namespace: NamespaceRef) -> Row[Method] | None:
    """The method of this name in a namespace, and none for no name."""
    found = (row for row in rows.scan(METHODS) if name and row.value.name == name)
    return next((row for row in found if row.value.namespace == namespace.id), None)


def _check(method: Method) -> None:
    """Refuse settings that no authenticator knows, with the peer's words."""
    values: Mapping[str, Any] = msgspec.structs.asdict(method)
    if not method.issuer:
        raise invalid("issuer must be set")
    if any(len(text) > _MAX_TEXT or not text.isprintable() for text in (method.issuer, method.name)):
        raise invalid(f"issuer and method_name have at most {_MAX_TEXT} printable characters")
    if ":" in method.issuer:
        raise invalid("issuer must not contain a colon: it ends there for authenticators")
    for name, (allowed, refusal) in _CLOSED.items():
        if values[name] not in allowed:
            raise invalid(refusal)
    for name in ("period", "key_size", "max_validation_attempts"):
        if values[name] <= 0:
            raise invalid(f"{name} must be greater than zero")
    for name, most in _MAX.items():
        if values[name] > most:
            raise invalid(f"{name} must be at most {most}")
