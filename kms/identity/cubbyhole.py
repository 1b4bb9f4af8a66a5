"""The cubbyhole: what a token keeps for itself. Nobody else reads it, root neither; it goes with the token.

Documents are kept as the JSON text that was sent, its keys sorted, so numbers come back as they were written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from kms.errors import invalid, not_found
from kms.identity.store import CUBBYHOLES, TOKENS, Kept
from kms.ids import check_name
from kms.operation import WHOLE_BODY, Call, Capability, Change, Effect, Field, Operation, Record, Result
from kms.tables import Store, Transaction

MAX_ITEMS: Final = 1024
"""Documents per token: any token may write, so there is an end to it."""

_encode = msgspec.json.Encoder(order="sorted", decimal_format="number").encode
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

_PATH = Field("path", record=Record.CLEAR)


def document(fields: Mapping[str, Any]) -> bytes:
    """As it is kept."""
    return _encode(fields)


def opened(text: bytes) -> dict[str, msgspec.Raw]:
    """A kept document, its values as they were sent."""
    return _decode(text)


def row_key(token: str, path: str) -> str:
    """Row key of one document of one token."""
    return f"{token}/{path}"


class Cubbyholes:
    """Handlers of the mount. One per process, safe to use from several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def exists(self, call: Call) -> bool:
        """Whether the document is there: creating and updating are different rights."""
        return self._store.reader().get(CUBBYHOLES, _key(call)) is not None

    def read(self, call: Call) -> Result:
        row = self._store.reader().get(CUBBYHOLES, _key(call))
        if row is None:
            raise not_found()
        return Result(data=opened(row.value.document))

    def listing(self, call: Call) -> Result:
        """Names directly below a folder; a folder's own name ends in '/'."""
        _demand_row(call)
        folder = str(call.args.get("path") or "").strip("/")
        prefix = row_key(_owner(call), f"{folder}/" if folder else "")
        below = (key[len(prefix) :] for key in self._store.reader().keys(CUBBYHOLES, prefix))
        names = sorted({name.partition("/")[0] + ("/" if "/" in name else "") for name in below})
        if not names:
            raise not_found()
        return Result(data={"keys": names})

    def write(self, call: Call) -> Change:
        key, fields = _key(call), call.args[WHOLE_BODY]
        if not fields:
            raise invalid("missing data fields")
        kept = Kept(token=call.principal.token_id, document=document(fields))

        def write(tx: Transaction) -> Result:
            # The token may have died, or used up its last use, since it was looked at.
            if tx.get(TOKENS, kept.token) is None:
                raise invalid("the token is not in force any more")
            row = tx.get(CUBBYHOLES, key)
            if row is not None:
                tx.replace(CUBBYHOLES, row, kept)
            elif tx.count(CUBBYHOLES, {"token": kept.token}) >= MAX_ITEMS:
                raise invalid(f"a cubbyhole holds at most {MAX_ITEMS} documents; delete some")
            else:
                tx.insert(CUBBYHOLES, key, kept)
            return Result()

        return Change(write)

    def delete(self, call: Call) -> Change:
        key = _key(call)

        def write(tx: Transaction) -> Result:
            row = tx.get(CUBBYHOLES, key)
            if row is not None:
                tx.delete(CUBBYHOLES, row)
            return Result()

        return Change(write)

    def table(self) -> list[Operation]:
        """The operations of the mount."""
        body = (_PATH, Field(WHOLE_BODY))
        return [
            Operation("cubbyhole.read", Capability.READ, self.read, fields=(_PATH,)),
            Operation("cubbyhole.list", Capability.LIST, self.listing, fields=(_PATH,)),
            Operation(
                "cubbyhole.write",
                Capability.UPDATE,
                self.write,
                effect=Effect.STATE,
                exists=self.exists,
                fields=body,
            ),
            Operation(
                "cubbyhole.delete", Capability.DELETE, self.delete, effect=Effect.STATE, fields=(_PATH,)
            ),
        ]


def _demand_row(call: Call) -> None:
    if call.principal.until:
        raise invalid("cubbyhole operations are only supported by 'service' type tokens")


def _key(call: Call) -> str:
    _demand_row(call)
    path = str(call.args["path"])
    for segment in path.split("/"):
        check_name(segment, "path")
    return row_key(_owner(call), path)


def _owner(call: Call) -> str:
    """What the keys of a cubbyhole begin with: a token has one in each namespace that it reaches, as on the peer."""
    own = call.principal.token_id
    return own if call.namespace == call.principal.namespace else f"{own}@{call.namespace.id}"
