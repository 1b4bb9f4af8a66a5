"""Attempts that a quorum of custodians completes share by share: generate-root, rekey.

An attempt lives in a slot of the shared page: every worker sees it, no disk does, and a restart forgets
it. Nothing of it is durable until the quorum is complete; then one transaction does everything.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol

import msgspec

from kms.clock import Clock, SystemClock
from kms.errors import invalid
from kms.ids import new_uuid
from kms.system.shares import parse_share

LAPSE_SECONDS: Final = 1800
"""After this time another attempt may take the place of one that no quorum has completed: anybody may begin one
where nobody has a token any more, and what a stranger began must not stand in the way of a rescue for ever."""


class SlotBytes(Protocol):
    """The bytes of a slot inside `Slots.edit`."""

    value: bytes


class Slots(Protocol):
    """Slots of the shared page (kms.shared.Shared)."""

    def edit(self, name: str) -> AbstractContextManager[SlotBytes]:
        """Read and replace one slot as a single step."""
        ...

    def read(self, name: str) -> bytes:
        """The bytes of a slot."""
        ...


class Attempt(msgspec.Struct, kw_only=True):
    """One attempt under way. Secrets are in it: it must never leave memory.

    Args:
        nonce: names this attempt; every share is given for it. Whoever knows it can spend the shares that were given
            and end the attempt, so it is told to whoever began it, and shown to callers with a token alone.
        began: on the monotonic clock, which all processes of a host share; `Attempts.start` sets it.
        shares: given so far.
        otp: generate-root: what the token will be XORed with.
        new_shares, new_threshold: rekey: the numbers wanted.
        verify: rekey: the new shares must be given back before they count.
        secret: rekey with verification: the new secret, until it is verified.
        verify_nonce, verify_shares: rekey: the verification under way.
    """

    nonce: str = msgspec.field(default_factory=new_uuid)
    began: float = 0
    shares: list[bytes] = []
    otp: str = ""
    new_shares: int = 0
    new_threshold: int = 0
    verify: bool = False
    secret: bytes = b""
    verify_nonce: str = ""
    verify_shares: list[bytes] = []


class Attempts:
    """The attempts of one kind, in one slot."""

    def __init__(self, slots: Slots, slot: str, what: str, clock: Clock | None = None) -> None:
        self._slots = slots
        self._slot = slot
        self._what = what
        self._clock = clock or SystemClock()

    def current(self) -> Attempt | None:
        """The attempt under way, or None."""
        return _decode(self._slots.read(self._slot))

    def start(self, attempt: Attempt) -> Attempt:
        """Begin. Raises KmsError(INVALID) when one is under way that has not lapsed."""
        with self._slots.edit(self._slot) as slot:
            before = _decode(slot.value)
            if before is not None and not self._lapsed(before):
                raise invalid(f"{self._what} already in progress; cancel it first")
            begun = msgspec.structs.replace(attempt, began=self._clock.monotonic())
            slot.value = msgspec.msgpack.encode(begun)
        return begun

    def _lapsed(self, attempt: Attempt) -> bool:
        """Old, and no quorum stands behind it (new shares that wait for their verification have one)."""
        return not attempt.secret and self._clock.monotonic() - attempt.began > LAPSE_SECONDS

    def cancel(self) -> None:
        """Forget the attempt; its bytes are overwritten."""
        with self._slots.edit(self._slot) as slot:
            slot.value = b""

    def demand(self, nonce: str, *, verifying: bool = False) -> None:
        """Raise KmsError(INVALID) unless it is the nonce of the attempt, or of its verification."""
        attempt = self.current()
        if attempt is None:
            return
        expected = attempt.verify_nonce if verifying else attempt.nonce
        if not expected or not hmac.compare_digest(nonce.encode(), expected.encode()):
            raise invalid(f"give the nonce of this {self._what} to cancel it, or cancel with a token")

    def cancel_by_nonce(self, nonce: str) -> None:
        """Forget the attempt of this nonce.

        Raises:
            KmsError(INVALID): it has another nonce.
        """
        self.demand(nonce)
        self.cancel()

    @contextmanager
    def change(self, nonce: str, *, verifying: bool = False) -> Iterator[Attempt]:
        """The attempt of this nonce, written back at the end of the block.

        Raises:
            KmsError(INVALID): none is under way, or it has another nonce.
        """
        with self._slots.edit(self._slot) as slot:
            attempt = _decode(slot.value)
            if attempt is None:
                raise invalid(f"no {self._what} in progress")
            expected = attempt.verify_nonce if verifying else attempt.nonce
            if not expected or not hmac.compare_digest(nonce.encode(), expected.encode()):
                raise invalid(f"incorrect nonce supplied; whoever began this {self._what} was told it")
            yield attempt
            slot.value = msgspec.msgpack.encode(attempt)


def add_share(shares: list[bytes], text: str) -> None:
    """Add a share as a client wrote it; the same one twice counts once."""
    share = parse_share(text)
    if not any(hmac.compare_digest(share, other) for other in shares):
        shares.append(share)


_decode_attempt = msgspec.msgpack.Decoder(Attempt).decode


def _decode(packed: bytes) -> Attempt | None:
    return _decode_attempt(packed) if packed else None
