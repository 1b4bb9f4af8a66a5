"""Assignments and scopes of the provider: small documents with names."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from kms.errors import invalid, not_found
from kms.identity.oidc.model import (
    ALLOW_ALL,
    ANY,
    ASSIGNMENTS,
    CLIENTS,
    PROVIDERS,
    SCOPES,
    Assignment,
    Scope,
)
from kms.identity.oidc.templates import check
from kms.identity.within import Within, Writing
from kms.operation import Call, Change, Result
from kms.tables import Reader, Store, Transaction

OPENID = "openid"


def assignment_of(reader: Reader, name: str) -> Assignment | None:
    """An assignment; `allow_all` is there without being written."""
    if name == ALLOW_ALL:
        return Assignment((ANY,), (ANY,))
    row = reader.get(ASSIGNMENTS, name)
    return row.value if row is not None else None


def _spelled(identifier: str) -> str:
    """An ID in its one spelling: the UUID in lower case, the namespace's ID, if there is one, as it is."""
    uuid, dot, namespace_id = identifier.partition(".")
    return uuid.lower() + dot + namespace_id


class Assignments:
    """One per process, safe to use from several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def exists(self, call: Call) -> bool:
        """Whether the assignment is there: creating and updating are different rights."""
        return assignment_of(Within(self._store.reader(), call.namespace), call.args["name"]) is not None

    def read(self, call: Call) -> Result:
        """One assignment."""
        held = assignment_of(Within(self._store.reader(), call.namespace), call.args["name"])
        if held is None:
            raise not_found()
        return Result(data={"entity_ids": list(held.entity_ids), "group_ids": list(held.group_ids)})

    def listing(self, call: Call) -> Result:
        """All names."""
        own = Within(self._store.reader(), call.namespace)
        names = sorted({*own.keys(ASSIGNMENTS), ALLOW_ALL})
        return Result(data={"keys": names}, items=len(names))

    def write(self, call: Call) -> Change:
        """Make or change an assignment."""
        name = call.args["name"]
        if name == ALLOW_ALL:
            raise invalid(f'modification of assignment "{ALLOW_ALL}" not allowed')
        given = {
            field: tuple(sorted({_spelled(one) for one in call.args[field]}))
            for field in ("entity_ids", "group_ids")
            if field in call.given
        }

        def write(rows: Transaction) -> Result:
            tx = Writing(rows, call.namespace)
            row = tx.get(ASSIGNMENTS, name)
            if row is None:
                tx.insert(ASSIGNMENTS, name, Assignment(**given))
            else:
                tx.replace(ASSIGNMENTS, row, replace(row.value, **given))
            return Result(subject={"assignment": name})

        return Change(write)

    def delete(self, call: Call) -> Change:
        """Delete an assignment that no client refers to."""
        name = call.args["name"]
        if name == ALLOW_ALL:
            raise invalid(f'deletion of assignment "{ALLOW_ALL}" not allowed')

        def write(rows: Transaction) -> Result:
            tx = Writing(rows, call.namespace)
            users = [row.key for row in tx.scan(CLIENTS) if name in row.value.assignments]
            if users:
                raise invalid(
                    f'unable to delete assignment "{name}" because it is currently referenced by these clients: '
                    f"{', '.join(users)}"
                )
            row = tx.get(ASSIGNMENTS, name)
            if row is not None:
                tx.delete(ASSIGNMENTS, row)
            return Result(subject={"assignment": name})

        return Change(write)


class Scopes:
    """One per process, safe to use from several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def exists(self, call: Call) -> bool:
        """Whether the scope is there: creating and updating are different rights."""
        return Within(self._store.reader(), call.namespace).get(SCOPES, call.args["name"]) is not None

    def read(self, call: Call) -> Result:
        """One scope."""
        row = Within(self._store.reader(), call.namespace).get(SCOPES, call.args["name"])
        if row is None:
            raise not_found()
        return Result(data={"template": row.value.template, "description": row.value.description})

    def listing(self, call: Call) -> Result:
        """All names."""
        names = Within(self._store.reader(), call.namespace).keys(SCOPES)
        if not names:
            raise not_found()
        return Result(data={"keys": names}, items=len(names))

    def write(self, call: Call) -> Change:
        """Make or change a scope."""
        name = call.args["name"]
        if name == OPENID:
            raise invalid(f'the "{OPENID}" scope name is reserved')
        given: dict[str, Any] = {
            field: call.args[field] for field in ("template", "description") if field in call.given
        }
        if "template" in given:
            given["template"] = check(given["template"])

        def write(rows: Transaction) -> Result:
            tx = Writing(rows, call.namespace)
            row = tx.get(SCOPES, name)
            if row is None:
                tx.insert(SCOPES, name, Scope(**given))
            else:
                tx.replace(SCOPES, row, replace(row.value, **given))
            return Result(subject={"scope": name})

        return Change(write)

    def delete(self, call: Call) -> Change:
        """Delete a scope that no provider refers to."""
        name = call.args["name"]

        def write(rows: Transaction) -> Result:
            tx = Writing(rows, call.namespace)
            users = [row.key for row in tx.scan(PROVIDERS) if name in row.value.scopes_supported]
            if users:
                raise invalid(
                    f'unable to delete scope "{name}" because it is currently referenced by these providers: '
                    f"{', '.join(users)}"
                )
            row = tx.get(SCOPES, name)
            if row is not None:
                tx.delete(SCOPES, row)
            return Result(subject={"scope": name})

        return Change(write)
