"""Authorizations and challenges (RFC 8555 7.5): read, given up, and said to be ready for validation."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Sequence

import msgspec

from kms.operation import Call, Change, Outcome, Result
from kms.tables import Reader, Row, Store, Transaction
from pki.acme import answers, identifiers
from pki.acme import jwk as keys
from pki.acme.callers import Callers, Proven
from pki.acme.directories import Directory
from pki.acme.model import (
    AUTHORIZATION_LIFETIME,
    AcmeConfig,
    Authorization,
    Challenge,
    Identifier,
    Status,
)
from pki.acme.problems import AcmeProblem, malformed, not_found, rate_limited
from pki.acme.store import AUTHORIZATIONS

DUE = "due"
_RETRY = 60


class Authorizations:
    """One per process."""

    def __init__(self, store: Store, callers: Callers) -> None:
        self._store = store
        self._callers = callers

    def read(self, call: Call) -> Outcome:
        """authorization/:id; with {"status": "deactivated"} its owner gives it up (7.5.2)."""
        proven = self._callers.account(call)
        directory, now = proven.directory, int(call.now)
        found = seen(self._own(self._store.reader(), call, proven).value, now)
        if not proven.payload:
            return answers.answer(
                answers.authorization(directory, found), headers=_retry(found.status == Status.PENDING)
            )
        if proven.object() != {"status": Status.DEACTIVATED}:
            raise malformed('the only change that a client can ask for is {"status": "deactivated"}')

        def write(tx: Transaction) -> Result:
            row = self._own(tx, call, proven)
            changed = row.value
            if seen(changed, now).status in {Status.PENDING, Status.VALID}:
                changed = msgspec.structs.replace(changed, status=Status.DEACTIVATED, queue="", free_for="")
                tx.replace(AUTHORIZATIONS, row, changed)
            subject: dict[str, str | int] = {"authorization": changed.id, "status": changed.status}
            return answers.answer(answers.authorization(directory, seen(changed, now)), subject=subject)

        return Change(write)

    def challenge(self, call: Call) -> Outcome:
        """challenge/:id/:type: {} says that the client is ready (7.5.1); an empty payload reads."""
        proven = self._callers.account(call)
        directory, now, way = proven.directory, int(call.now), str(call.args["type"])
        found = seen(self._own(self._store.reader(), call, proven).value, now)
        challenge = _of(found, way)
        if not proven.payload:
            return _shown(directory, found, challenge)
        if proven.object():
            raise malformed("a challenge is answered with an empty JSON object")
        if challenge.status != Status.PENDING or found.status != Status.PENDING:
            return _shown(directory, found, challenge)

        def write(tx: Transaction) -> Result:
            row = self._own(tx, call, proven)
            held = seen(row.value, now)
            mine = _of(held, way)
            # One at a time: the validation of another challenge of this authorization decides about it as well.
            if held.status == Status.PENDING and not held.queue and mine.status == Status.PENDING:
                mine = msgspec.structs.replace(mine, status=Status.PROCESSING)
                held = msgspec.structs.replace(
                    with_challenge(held, mine), queue=DUE, next_at=now, thumbprint=keys.thumbprint(proven.jwk)
                )
                tx.replace(AUTHORIZATIONS, row, held)
            subject: dict[str, str | int] = {"authorization": held.id, "challenge": way}
            return dataclasses.replace(_shown(directory, held, mine), subject=subject)

        return Change(write)

    def _own(self, reader: Reader, call: Call, proven: Proven) -> Row[Authorization]:
        row = reader.get(AUTHORIZATIONS, f"{call.mount.id}/{call.args['authorization']}")
        if row is None or row.value.account_id != proven.owner().id:
            raise not_found()
        return row


def new_authorization(
    owner: tuple[str, str, str], name: str, identifier: Identifier, offered: Sequence[str], now: int
) -> Authorization:
    """A pending one; `owner` is (mount id, account id, order id or "").

    Raises:
        AcmeProblem(rejectedIdentifier): the mount offers no way to prove it.
    """
    ways = identifiers.ways(identifier, offered)
    if not ways:
        raise AcmeProblem(
            "rejectedIdentifier",
            f"this mount offers no challenge by which {identifier.value} could be validated",
        )
    mount_id, account_id, order_id = owner
    return Authorization(
        mount_id=mount_id,
        id=name,
        account_id=account_id,
        order_id=order_id,
        identifier=Identifier(identifier.type, identifier.base),
        wildcard=identifier.wildcard,
        status=Status.PENDING,
        expires_at=now + AUTHORIZATION_LIFETIME,
        challenges=tuple(Challenge(type=way, token=keys.base64url(secrets.token_bytes(32))) for way in ways),
    )


def check_pending(tx: Transaction, account_id: str, more: int, config: AcmeConfig) -> None:
    """Raise AcmeProblem(rateLimited) if an account had too many pending ones with so many more."""
    open_now = tx.count(AUTHORIZATIONS, {"account_id": account_id, "status": Status.PENDING})
    if more and config.pending_authorizations and open_now + more > config.pending_authorizations:
        raise rate_limited(
            "too many pending authorizations of this account: finish or deactivate some", _RETRY
        )


def seen(authorization: Authorization, now: int) -> Authorization:
    """With the status `expired` where its time is up (RFC 8555 7.1.6)."""
    if now >= authorization.expires_at and authorization.status in {Status.PENDING, Status.VALID}:
        expired = Status.EXPIRED if authorization.status == Status.VALID else Status.INVALID
        return msgspec.structs.replace(authorization, status=expired)
    return authorization


def with_challenge(authorization: Authorization, changed: Challenge) -> Authorization:
    """The same with one challenge replaced."""
    challenges = tuple(changed if one.type == changed.type else one for one in authorization.challenges)
    return msgspec.structs.replace(authorization, challenges=challenges)


def _of(authorization: Authorization, way: str) -> Challenge:
    found = next((one for one in authorization.challenges if one.type == way), None)
    if found is None:
        raise not_found()
    return found


def _shown(directory: Directory, owner: Authorization, challenge: Challenge) -> Result:
    up = (("Link", f'<{directory.url(f"authorization/{owner.id}")}>;rel="up"'),)
    waiting = challenge.status == Status.PROCESSING
    return answers.answer(answers.challenge(directory, owner, challenge), headers=(*up, *_retry(waiting)))


def _retry(waiting: bool) -> answers.Headers:
    return (("Retry-After", "1"),) if waiting else ()
