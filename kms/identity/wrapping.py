"""Response wrapping: the answer stays here, and a token that opens it once goes out instead.

Whoever carries the token to the one who needs the answer sees nothing of it, and who unwraps it and finds it
gone knows that somebody else was there first. The answer lies in the wrapping token's cubbyhole, sealed like every
row; unwrapping reads it and revokes the token in one commit, so it succeeds once, over all workers, and a killed
worker leaves either the token and the answer or neither. The token authenticates nothing but that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from kms.clock import rfc3339
from kms.errors import invalid
from kms.identity.cubbyhole import document, opened, row_key
from kms.identity.keys import new_accessor
from kms.identity.model import Token
from kms.identity.service import TokenService
from kms.identity.store import CUBBYHOLES, Kept
from kms.operation import (
    WHOLE_BODY,
    Call,
    Caller,
    Capability,
    Change,
    Effect,
    Field,
    Leased,
    NamespaceRef,
    Operation,
    Result,
)
from kms.policy import RESPONSE_WRAPPING
from kms.tables import Row, Store, Transaction

_ANSWER: Final = "response"
_NOT_VALID: Final = "wrapping token is not valid or does not exist"
_TOKEN: Final = (Field("token"),)
_decode_lease = msgspec.json.Decoder(tuple[str, int, bool] | None).decode


class Wrapping:
    """Wraps answers, and opens them. One per process, safe to use from several threads."""

    def __init__(self, store: Store, tokens: TokenService) -> None:
        self._store = store
        self._tokens = tokens

    # -- for the road --------------------------------------------------------------------------------

    def wrap(self, tx: Transaction, call: Call, result: Result) -> Result:
        """Put an answer away, in the commit that carries its record; what goes out instead.

        An answer without content is left as it is: there is nothing to put away.

        Raises:
            KmsError(INVALID): the answer is a document, not data.
        """
        if result.raw is not None:
            raise invalid("this answer cannot be wrapped; send the request without X-Vault-Wrap-TTL")
        if result.data is None and result.auth is None:
            return result
        lease = result.lease
        kept = [lease.id, lease.seconds, lease.renewable] if lease is not None else None
        parts = {"data": result.data, "auth": result.auth, "warnings": result.warnings, "lease": kept}
        answer = document(parts)
        accessor = str(result.auth["accessor"]) if result.auth is not None else ""
        facts = (accessor, result.subject, result.items)
        return self._issue(tx, answer, (call.path, call.namespace), call.wrap_ttl, facts)

    def _issue(
        self,
        tx: Transaction,
        answer: bytes,
        origin: tuple[str, NamespaceRef],
        ttl: int,
        facts: tuple[str, Mapping[str, str | int], int],
    ) -> Result:
        wrapped_accessor, subject, items = facts
        path, namespace = origin
        now = self._tokens.now()
        born = Token(
            accessor=new_accessor(namespace.id),
            parent="",
            expires_at=now + ttl,
            policies=(RESPONSE_WRAPPING,),
            path=path,
            display_name="",
            created=now,
            creation_ttl=ttl,
            lease_ttl=ttl,
            explicit_max_ttl=ttl,
            namespace=namespace.id,
        )
        token = self._tokens.insert(tx, born)
        key = self._tokens.key_of(token)
        tx.insert(CUBBYHOLES, row_key(key, _ANSWER), Kept(token=key, document=answer))
        info: dict[str, Any] = {
            "token": token,
            "accessor": born.accessor,
            "ttl": ttl,
            "creation_time": rfc3339(now),
            "creation_path": path[len(namespace.path) :],
        }
        if wrapped_accessor:
            info["wrapped_accessor"] = wrapped_accessor
        return Result(wrap=info, subject={**subject, "wrapped_in": born.accessor}, items=items)

    # -- handlers ------------------------------------------------------------------------------------

    def wrap_given(self, call: Call) -> Result:
        """Wrap what the caller sent; the road does it."""
        if not call.wrap_ttl:
            raise invalid("endpoint requires response wrapping to be used")
        return Result(data=call.args[WHOLE_BODY])

    def lookup(self, call: Call) -> Result:
        """When and where the answer was wrapped, and for how long."""
        asked = self._asked(call)
        if not asked:
            error = invalid("error validating wrapping token: token is empty")
            error.status = 403
            raise error
        row = self._tokens.live(self._tokens.key_of(asked))
        if row is None or row.value.policies != (RESPONSE_WRAPPING,):
            raise invalid(_NOT_VALID)
        if self._store.reader().get(CUBBYHOLES, row_key(row.key, _ANSWER)) is None:
            raise invalid(_NOT_VALID)  # it stands for a request that waits, and for no answer
        held = row.value
        return Result(
            data={
                "creation_ttl": held.creation_ttl,
                "creation_time": rfc3339(held.created),
                "creation_path": held.path[len(self._tokens.namespace_of(held).path) :],
            },
            subject={"accessor": held.accessor},
        )

    def unwrap(self, call: Call) -> Change:
        """The answer, once."""
        asked = self._asked(call)

        def write(tx: Transaction) -> Result:
            token, answer = self._take(tx, asked)
            held = opened(answer)
            return Result(
                data=_part(held["data"]),
                auth=_part(held["auth"]),
                warnings=tuple(msgspec.json.decode(held["warnings"])),
                lease=_lease(held.get("lease")),
                subject={"accessor": token.accessor},
            )

        return Change(write)

    def rewrap(self, call: Call) -> Change:
        """A new token for the answer of an old one, for as long as that had in all."""
        asked = self._asked(call)

        def write(tx: Transaction) -> Result:
            token, answer = self._take(tx, asked)
            facts = ("", {"accessor": token.accessor}, 1)
            origin = (token.path, self._tokens.namespace_of(token))
            return self._issue(tx, answer, origin, token.creation_ttl, facts)

        return Change(write)

    def _asked(self, call: Call) -> str:
        return str(call.args.get("token") or call.credential)

    def _take(self, tx: Transaction, asked: str) -> tuple[Token, bytes]:
        row = self._tokens.live(self._tokens.key_of(asked), tx)
        if row is None or row.value.policies != (RESPONSE_WRAPPING,):
            raise invalid(_NOT_VALID)
        kept: Row[Kept] | None = tx.get(CUBBYHOLES, row_key(row.key, _ANSWER))
        if kept is None:
            raise invalid(_NOT_VALID)
        self._tokens.revoke(tx, row.key)
        return row.value, kept.value.document

    def table(self) -> list[Operation]:
        """The operations below sys/wrapping/."""
        update = Capability.UPDATE
        return [
            Operation("sys.wrapping.wrap", update, self.wrap_given, fields=(Field(WHOLE_BODY),)),
            Operation("sys.wrapping.lookup", update, self.lookup, caller=Caller.PUBLIC, fields=_TOKEN),
            Operation(
                "sys.wrapping.unwrap",
                update,
                self.unwrap,
                effect=Effect.STATE,
                fields=_TOKEN,
                no_credential=_NOT_VALID,
                of_itself=True,
            ),
            Operation("sys.wrapping.rewrap", update, self.rewrap, effect=Effect.STATE, fields=_TOKEN),
        ]


def _lease(text: msgspec.Raw | None) -> Leased | None:
    kept = _decode_lease(text) if text is not None else None
    return Leased(kept[0], kept[1], renewable=kept[2]) if kept is not None else None


def _part(text: msgspec.Raw) -> dict[str, msgspec.Raw] | None:
    return opened(bytes(text)) if bytes(text) != b"null" else None
