"""Keys that are born for several tokens: the wrapping roots that tokens with keys of their own have in common.

For each purpose there is one such root at a time, put into every token by kms.hsm.joint under one CKA_ID. A key that is
made with `multi_token` is wrapped under it, wherever it is born, and opens in each token from that moment on; a token that
is away then holds the root already. Which tokens hold it is fixed when it is made, as nothing takes it out again: when a token
is enrolled, or the root is rotated, or a token is given up, a new one follows, and what was wrapped before stays under the
old one, in the tokens that have that.

    (1) begin      a planned row for each purpose, with its CKA_ID and the tokens
    (2) make       each root, in all of the tokens; then a sentinel blob of each token opens in each other one
    (3) conclude   one commit: these are active, those before them retired
    (-) abandon    discarded; what may be in a token is destroyed (`tidy`), when the token answers

The jobs process does it when it is due, so that a token which was away is waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Final

import msgspec

from kms.clock import Clock
from kms.errors import ErrorKind, KmsError, invalid
from kms.hsm import Hsm, Purpose, lacks_for_joint, make_joint
from kms.ids import CkaId, new_cka_id, new_id
from kms.keys.copies import load_sentinel
from kms.keys.model import JointRoot, NamedKey
from kms.keys.roots import ACTIVE, DISCARDED, PLANNED, RETIRED, SETTLING_SECONDS, Roots
from kms.keys.rotation import COMPLETE, ROTATIONS
from kms.keys.store import JOINT_ROOTS, KEY_VERSIONS, version_key
from kms.keys.tokens import ENROLLED, HSM_TOKENS, OWN_KEYS
from kms.operation import External, Result
from kms.tables import Reader, Row, Store, Transaction

SHARED: Final = (Purpose.ROOT_WRAP_ENC, Purpose.ROOT_WRAP_MAC, Purpose.ROOT_WRAP_SIGN)
QUICK_ATTEMPTS: Final = 5  # a token that comes and goes disturbs a few; then 1 s, doubling, to:
REST_SECONDS: Final = 900.0


def sharing(reader: Reader) -> tuple[str, ...]:
    """The names of the enrolled tokens with keys of their own."""
    rows = reader.scan(HSM_TOKENS)
    return tuple(
        sorted(row.key for row in rows if row.value.state == ENROLLED and row.value.relation == OWN_KEYS)
    )


def active_joint(reader: Reader, purpose: Purpose) -> Row[JointRoot] | None:
    """The root of this purpose that new keys are wrapped under."""
    rows = reader.find(JOINT_ROOTS, {"purpose": purpose.value, "state": ACTIVE})
    return rows[0] if rows else None


def shared_roots(reader: Reader) -> dict[str, Any]:
    """Whether keys can be born for several tokens, and for which; what sys/hsm/tokens and doctor say."""
    rows = [active_joint(reader, purpose) for purpose in SHARED]
    found = [row.value for row in rows if row is not None]
    whole = len(found) == len(SHARED)
    tokens = set(found[0].tokens).intersection(*(root.tokens for root in found)) if whole else set()
    serving = set(sharing(reader))
    return {
        "ready": whole,
        "tokens": sorted(tokens & serving),
        "not_in": sorted(serving - tokens) if len(serving) > 1 else [],
    }


def in_each(reader: Reader, key: NamedKey, tokens: Sequence[str]) -> bool:
    """Whether the newest version of a key opens in each of these tokens."""
    version = reader.get(KEY_VERSIONS, version_key(key.id, key.latest_version))
    root = reader.get(JOINT_ROOTS, version.value.wrapping) if version is not None else None
    return root is not None and set(tokens) <= set(root.value.tokens)


class JointRoots:
    """What the birth of a key asks."""

    def __init__(self, store: Store, hsm: Callable[[], Hsm]) -> None:
        self._store = store
        self._hsm = hsm

    def current(self, purpose: Purpose, *, first: bool) -> CkaId | None:
        """The root that the tokens share; None for a further version of a key while one token is left, which makes do.

        Args:
            purpose: ROOT_WRAP_*.
            first: the key is being created, and must not be less than what was asked for.

        Raises:
            KmsError(INVALID): there is one token only, or one cannot take part; says why.
            KmsError(HSM_UNAVAILABLE): the root is not made yet.
        """
        reader = self._store.reader()
        tokens = sharing(reader)
        if len(tokens) < 2 and first:
            raise invalid(
                "multi_token needs two enrolled HSM tokens with keys of their own: enrol another (sys/hsm/tokens); a copy"
                " of a token holds every key that is wrapped in any case"
            )
        row = active_joint(reader, purpose)
        if row is not None:
            return CkaId(bytes.fromhex(row.key))
        if len(tokens) < 2:
            return None
        away = self._hsm().away()
        for name in tokens:
            lacks = "" if name in away else lacks_for_joint(self._hsm().at(name))
            if lacks:
                raise invalid(f'the HSM token "{name}" has no {lacks}, so it shares no keys with another')
        waits = f'; the HSM token "{min(away)}" does not answer' if away else ""
        error = KmsError(
            ErrorKind.HSM_UNAVAILABLE,
            f"the wrapping key that the HSM tokens share is not made yet{waits}; try again",
        )
        error.for_caller = True
        raise error


@dataclass(frozen=True)
class Joiner:
    """Makes the shared roots when they are due."""

    store: Store
    hsm: Callable[[], Hsm]
    roots: Roots
    clock: Clock

    def due(self) -> list[External[Any]]:
        """The steps, if tokens could share roots and do not, and all of them answer."""
        reader = self.store.reader()
        tokens = sharing(reader)
        if len(tokens) < 2 or self._whole(reader, tokens):
            return []
        if any(row.value.state != COMPLETE for row in reader.scan(ROTATIONS)):
            return []  # the root that is coming would make these old at once
        if set(tokens) & set(self.hsm().away()):
            return []
        if self._resting(reader) or any(lacks_for_joint(self.hsm().at(name)) for name in tokens):
            return []
        return [self._steps(tokens)]

    def _resting(self, reader: Reader) -> bool:
        """Whether attempts failed so often of late that the next one has to wait; each leaves records and rows."""
        failed = {
            row.value.attempt: row.value.created
            for row in reader.find(JOINT_ROOTS, {"purpose": SHARED[0].value, "state": DISCARDED})
        }
        over = len(failed) - QUICK_ATTEMPTS
        return over >= 0 and self.clock.now() < max(failed.values()) + min(2.0**over, REST_SECONDS)

    def resume(self, intent: Mapping[str, str | int]) -> External[Any] | None:
        """What closes an intent that a crash left open: the attempt is given up, and another is due."""
        attempt = str(intent["attempt"])

        def conclude(tx: Transaction, _done: None) -> Result:
            _discard(tx, attempt)
            return Result(partial=True, subject=intent)

        return External(intent, lambda _tx: None, lambda: None, conclude, lambda _tx, _error: None)

    def tidy(self) -> int:
        """Destroy the objects of attempts that failed; returns how many rows were looked at.

        A row goes only after a while, as a token that hangs may still make the object.
        """
        rows = [
            row
            for purpose in SHARED
            for row in self.store.reader().find(JOINT_ROOTS, {"purpose": purpose.value, "state": DISCARDED})
        ]
        away = self.hsm().away()
        for row in rows:
            serving = set(sharing(self.store.reader()))
            for name in set(row.value.tokens) & serving - set(away):
                self.hsm().at(name).destroy(CkaId(bytes.fromhex(row.key)))
            settled = self.clock.now() - row.value.created >= SETTLING_SECONDS
            if settled and not set(row.value.tokens) & serving & set(away):
                with self.store.transaction() as tx:
                    tx.delete(JOINT_ROOTS, row)
        return len(rows)

    # -- the steps -----------------------------------------------------------------------------------

    def _whole(self, reader: Reader, tokens: Sequence[str]) -> bool:
        version = self.roots.newest(Purpose.ROOT_SEAL).version
        rows = [active_joint(reader, purpose) for purpose in SHARED]
        return all(
            row is not None and (row.value.tokens, row.value.version) == (tokens, version) for row in rows
        )

    def _steps(self, tokens: tuple[str, ...]) -> External[Any]:
        version = self.roots.newest(Purpose.ROOT_SEAL).version
        ids = {purpose: new_cka_id() for purpose in SHARED}
        making = _Making(self.hsm, tokens, version, new_id(), self.clock.now(), ids)
        intent = {"attempt": making.attempt, "tokens": ",".join(tokens)}
        return External(
            intent,
            making.begin,
            making.perform,
            making.conclude,
            lambda tx, _error: _discard(tx, making.attempt),
        )


@dataclass(frozen=True)
class _Making:
    """The steps of one attempt."""

    hsm: Callable[[], Hsm]
    tokens: tuple[str, ...]
    version: int
    attempt: str
    now: float
    ids: Mapping[Purpose, CkaId]

    def begin(self, tx: Transaction) -> None:
        for purpose, cka_id in self.ids.items():
            planned = JointRoot(
                purpose=purpose.value,
                state=PLANNED,
                version=self.version,
                created=self.now,
                attempt=self.attempt,
                tokens=self.tokens,
            )
            tx.insert(JOINT_ROOTS, cka_id.hex(), planned)

    def perform(self) -> None:
        places = [self.hsm().at(name) for name in self.tokens]
        for purpose, cka_id in self.ids.items():
            make_joint(places, purpose, cka_id, f"keystead {purpose.value} v{self.version} shared")
            for giver, taker in permutations(places, 2):
                load_sentinel(giver, taker, purpose, cka_id, joint=True)

    def conclude(self, tx: Transaction, _done: None) -> Result:
        if sharing(tx) != self.tokens:
            raise KmsError(ErrorKind.CONFLICT, "a token was enrolled or removed meanwhile")
        for purpose, cka_id in self.ids.items():
            _activate(tx, purpose, cka_id.hex())
        subject: dict[str, str | int] = {"tokens": ",".join(self.tokens), "root_version": self.version}
        return Result(data=dict(subject), subject=subject)


def _activate(tx: Transaction, purpose: Purpose, key: str) -> None:
    fresh = tx.get(JOINT_ROOTS, key)
    if fresh is None or fresh.value.state != PLANNED:
        raise KmsError(
            ErrorKind.CONFLICT, "this attempt to make a shared wrapping key was given up meanwhile"
        )
    for row in tx.find(JOINT_ROOTS, {"purpose": purpose.value, "state": ACTIVE}):
        tx.replace(JOINT_ROOTS, row, msgspec.structs.replace(row.value, state=RETIRED))
    tx.replace(JOINT_ROOTS, fresh, msgspec.structs.replace(fresh.value, state=ACTIVE))


def _discard(tx: Transaction, attempt: str) -> None:
    for purpose in SHARED:
        for row in tx.find(JOINT_ROOTS, {"purpose": purpose.value, "state": PLANNED}):
            if row.value.attempt == attempt:
                tx.replace(JOINT_ROOTS, row, msgspec.structs.replace(row.value, state=DISCARDED))
