"""Idempotency-Key: a request that is sent again gets the same certificate (draft-ietf-httpapi-idempotency-key-header).

    first request          row "being made", in the commit of the intent; answer beside the certificate, in its commit
    again, the same        the stored answer; nothing is signed
    again, another body    422
    while being made       409: try again shortly
    it failed              the row goes with the failure; the next one begins anew
    the process died       resolving the intent revokes what may have been signed, and lets the row go

A key belongs to whoever sent it and to one mount, and is kept for `KEPT_SECONDS`. The answer of `issue` holds
a private key that is stored nowhere else: it is encrypted under a key that is made of the Idempotency-Key, which
is not stored. Database and HSM together do not give it back; a key that can be guessed helps nobody, so send
a random one (a UUID).
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kms.errors import ErrorKind, KmsError, integrity, invalid
from kms.operation import Call, External, Leased, Outcome, Result
from kms.sensitive import ACCESS, Sensitive
from kms.tables import Row, Store, Table, Transaction

KEPT_SECONDS = 3600
_NONCE = 12
_REAPED_AT_ONCE = 200

Facts = Mapping[str, str | int]
Derive = Callable[[str], Sensitive]
"""A stable 32-byte key of this instance for one named use."""


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """One Idempotency-Key of one caller. `answer` is sealed, and empty while the certificate is being made."""

    request: bytes  # SHA-256 of what was asked for
    serial: str
    expires_at: int
    answer: bytes = b""


class _Answer(msgspec.Struct, frozen=True):
    data: dict[str, Any]
    warnings: tuple[str, ...]
    subject: dict[str, str | int]
    lease: tuple[str, int, bool] | None = None


REMEMBERED = Table(
    tag="pki.idempotency", name="pki_idempotency", model=Remembered, index=("expires_at",)
)  # mount/HMAC of caller and key

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Answer).decode
_canonical = msgspec.json.Encoder(order="sorted").encode


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one caller's key is kept, and what its answer is sealed under."""

    row: str
    secret: bytes
    request: bytes


@dataclass(frozen=True)
class Idempotency:
    """One per process.

    Args:
        derive: keys of this instance; called while it is unsealed.
    """

    store: Store
    derive: Derive

    def guard(self, act: Callable[[Call], External[Any]]) -> Callable[[Call], Outcome]:
        """`act`, done once for each Idempotency-Key; requests without one pass as they are."""

        def guarded(call: Call) -> Outcome:
            return self._once(call, act) if call.idempotency_key else act(call)

        return guarded

    def closing(
        self, resolve: Callable[[Facts], External[Any] | None]
    ) -> Callable[[Facts], External[Any] | None]:
        """`resolve`, which also forgets the key of a request whose process died."""

        def close(intent: Facts) -> External[Any] | None:
            external = resolve(intent)
            if external is None or "idempotency" not in intent:
                return external
            whole = external

            def conclude(tx: Transaction, done: Any) -> Result:
                _forget(tx, str(intent["idempotency"]))
                return whole.conclude(tx, done)

            return dataclasses.replace(external, conclude=conclude)

        return close

    def reap(self, now: int) -> int:
        """Delete what is past its time; returns how many. For the jobs process."""
        gone = 0
        while True:
            with self.store.transaction() as tx:
                rows = tx.find(REMEMBERED, {}, below=("expires_at", now), limit=_REAPED_AT_ONCE)
                for row in rows:
                    tx.delete(REMEMBERED, row)
            gone += len(rows)
            if len(rows) < _REAPED_AT_ONCE:
                return gone

    def _once(self, call: Call, act: Callable[[Call], External[Any]]) -> Outcome:
        place = self._place(call)
        row = self.store.reader().get(REMEMBERED, place.row)
        if row is not None and row.value.expires_at > call.now:
            return _again(row.value, place)
        return _remembering(act(call), place, int(call.now))

    def _place(self, call: Call) -> _Place:
        principal = call.principal
        who = principal.entity_id or principal.accessor or principal.token_id
        if not who:
            raise invalid("an Idempotency-Key needs a caller that can be told from others")
        name = _canonical([call.mount.id, who, call.idempotency_key])
        given = {name: call.args.get(name) for name in call.given | call.bound}
        asked = _canonical([call.operation.name, call.path, given])
        return _Place(
            row=f"{call.mount.id}/{_mac(self.derive('pki-idempotency'), name).hex()}",
            secret=_mac(self.derive("pki-idempotency-answer"), name),
            request=hashlib.sha256(asked).digest(),
        )


def _again(kept: Remembered, place: _Place) -> Result:
    if kept.request != place.request:
        raise KmsError(
            ErrorKind.INVALID,
            "this Idempotency-Key was sent with another request: use a new key for each new request",
            status=422,
        )
    if not kept.answer:
        raise _being_made()
    try:
        plain = AESGCM(place.secret).decrypt(kept.answer[:_NONCE], kept.answer[_NONCE:], place.row.encode())
    except InvalidTag:
        raise integrity("a remembered answer does not verify") from None
    answer = _decode(plain)
    lease = None
    if answer.lease is not None:
        lease_id, granted, renewable = answer.lease
        lease = Leased(lease_id, granted, renewable=renewable)
    return Result(
        data=answer.data, warnings=answer.warnings, subject={**answer.subject, "repeated": 1}, lease=lease
    )


def _being_made() -> KmsError:
    return KmsError(
        ErrorKind.CONFLICT,
        "a request with this Idempotency-Key is being worked on: send it again in a few seconds",
        status=409,
    )


def _remembering(external: External[Any], place: _Place, now: int) -> External[Any]:
    """`external` with the row of its key: planned with it, answered with it, gone with it."""
    serial = str(external.intent.get("serial", ""))
    # Of a certificate that no row is kept of, the remembered answer is the row.
    without_row = external.answer if external.begin is None else None

    def begin(tx: Transaction) -> None:
        row = tx.get(REMEMBERED, place.row)
        if row is not None:
            if row.value.expires_at > now:
                raise _being_made()
            tx.delete(REMEMBERED, row)
        value = Remembered(request=place.request, serial=serial, expires_at=now + KEPT_SECONDS)
        tx.insert(REMEMBERED, place.row, value)
        if external.begin is not None:
            external.begin(tx)

    def conclude(tx: Transaction, done: Any) -> Result:
        row = tx.get(REMEMBERED, place.row)
        if row is None or row.value.serial != serial or row.value.answer:
            raise _being_made()
        result = without_row(done) if without_row is not None else external.conclude(tx, done)
        tx.replace(REMEMBERED, row, msgspec.structs.replace(row.value, answer=_seal(result, place)))
        return result

    def abandon(tx: Transaction, error: KmsError) -> None:
        _forget(tx, place.row, serial)
        external.abandon(tx, error)

    return dataclasses.replace(
        external,
        intent={**external.intent, "idempotency": place.row},
        begin=begin,
        conclude=conclude,
        abandon=abandon,
        answer=None,
    )


def _forget(tx: Transaction, key: str, serial: str = "") -> None:
    row: Row[Remembered] | None = tx.get(REMEMBERED, key)
    if row is not None and not row.value.answer and (not serial or row.value.serial == serial):
        tx.delete(REMEMBERED, row)


def _seal(result: Result, place: _Place) -> bytes:
    lease = result.lease
    kept = (lease.id, lease.seconds, lease.renewable) if lease is not None else None
    plain = _encode(_Answer(dict(result.data or {}), result.warnings, dict(result.subject), kept))
    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(place.secret).encrypt(nonce, plain, place.row.encode())


def _mac(key: Sensitive, message: bytes) -> bytes:
    return hmac.digest(key.reveal(ACCESS), message, "sha256")
