"""Relying parties of the provider: who they are, and which of their users they are for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec.structs import replace

from kms.errors import invalid, not_found
from kms.identity.entities.model import Standing
from kms.identity.oidc.keyadmin import OidcKeys, named
from kms.identity.oidc.model import ALLOW_ALL, CLIENTS, Client
from kms.identity.oidc.shelf import assignment_of
from kms.identity.within import Within, Writing
from kms.ids import base62
from kms.operation import Call, Change, Outcome, Result
from kms.tables import Reader, Store, Transaction

_ID: Final = 32  # base62 characters
_SECRET: Final = 64
_PREFIX: Final = "hvo_secret_"
_PUBLIC: Final = "public"
_CONFIDENTIAL: Final = "confidential"


def by_id(reader: Reader, client_id: str) -> Client | None:
    """The client with this ID."""
    rows = reader.find(CLIENTS, {"client_id": client_id}, limit=1) if client_id else []
    return rows[0].value if rows else None


def assigned(reader: Reader, client: Client, standing: Standing) -> bool:
    """Whether an entity may use a client: it, or a group that it is in, is assigned."""
    if standing.entity.disabled:
        return False
    groups = {group.id for group in standing.groups}
    for name in client.assignments:
        held = assignment_of(reader, name)
        if held is None:
            continue
        if name == ALLOW_ALL or standing.entity.id in held.entity_ids or groups & set(held.group_ids):
            return True
    return False


class Clients:
    """One per process, safe to use from several threads."""

    def __init__(self, store: Store, keys: OidcKeys) -> None:
        self._store = store
        self._keys = keys

    def exists(self, call: Call) -> bool:
        """Whether the client is there: creating and updating are different rights."""
        return Within(self._store.reader(), call.namespace).get(CLIENTS, call.args["name"]) is not None

    def read(self, call: Call) -> Result:
        """One client, its secret too: the operator hands it on."""
        row = Within(self._store.reader(), call.namespace).get(CLIENTS, call.args["name"])
        if row is None:
            raise not_found()
        secret = {} if row.value.public else {"client_secret": row.value.secret}
        return Result(data={**_shown(row.value), **secret}, subject={"client_id": row.value.client_id})

    def listing(self, call: Call) -> Result:
        """All clients, without secrets."""
        rows = Within(self._store.reader(), call.namespace).scan(CLIENTS)
        if not rows:
            raise not_found()
        info = {row.key: _shown(row.value) for row in rows}
        return Result(data={"keys": list(info), "key_info": info}, items=len(rows))

    def write(self, call: Call) -> Outcome:
        """Make or change a client."""
        name, reader = call.args["name"], Within(self._store.reader(), call.namespace)
        row = reader.get(CLIENTS, name)
        client = _changed(row.value if row is not None else None, name, call.args, call.given)

        def write(rows: Transaction) -> Result:
            tx = Writing(rows, call.namespace)
            for assignment in client.assignments:
                if assignment_of(tx, assignment) is None:
                    raise invalid(f'assignment "{assignment}" does not exist')
            key = named(tx, client.key)
            if key is None:
                raise invalid(f'key "{client.key}" does not exist')
            if client.id_token_ttl > key.verification_ttl:
                raise invalid(
                    "a client's id_token_ttl cannot be greater than the verification_ttl of the key it references"
                )
            if row is None:
                tx.insert(CLIENTS, name, client)
            else:
                tx.replace(CLIENTS, row, client)
            return Result(subject={"client": name, "client_id": client.client_id})

        return self._keys.needed(reader, client.key, Change(write))

    def delete(self, call: Call) -> Change:
        """Delete a client; its codes are good for nothing from the commit on."""

        def write(rows: Transaction) -> Result:
            tx = Writing(rows, call.namespace)
            row = tx.get(CLIENTS, call.args["name"])
            if row is not None:
                tx.delete(CLIENTS, row)
            return Result(subject={"client": call.args["name"]})

        return Change(write)


def _changed(before: Client | None, name: str, args: Mapping[str, Any], given: frozenset[str]) -> Client:
    client = before or Client(name=name, client_id=base62(_ID))
    if before is not None and "key" in given and args["key"] != before.key:
        raise invalid("key modification is not allowed")
    kind = args["client_type"] if "client_type" in given else _type_of(client)
    if before is not None and kind != _type_of(before):
        raise invalid("client_type modification is not allowed")
    if kind not in {_PUBLIC, _CONFIDENTIAL}:
        raise invalid(f'invalid client_type "{kind}"')
    plain = ("key", "id_token_ttl", "access_token_ttl", "authorization_code", "client_credentials")
    changes: dict[str, Any] = {field: args[field] for field in plain if field in given}
    for field in ("redirect_uris", "assignments"):
        if field in given:
            changes[field] = tuple(sorted(set(args[field])))
    secret = client.secret or (_PREFIX + base62(_SECRET) if kind == _CONFIDENTIAL else "")
    return replace(client, **changes, public=kind == _PUBLIC, secret=secret)


def _type_of(client: Client) -> str:
    return _PUBLIC if client.public else _CONFIDENTIAL


def _shown(client: Client) -> dict[str, Any]:
    return {
        "access_token_ttl": client.access_token_ttl,
        "assignments": list(client.assignments),
        "authorization_code": client.authorization_code,
        "client_credentials": client.client_credentials,
        "client_id": client.client_id,
        "client_type": _type_of(client),
        "id_token_ttl": client.id_token_ttl,
        "key": client.key,
        "redirect_uris": list(client.redirect_uris),
    }
