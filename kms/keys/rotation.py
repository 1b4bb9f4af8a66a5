"""Rotating the root: new wrapping keys for what is born from now on, keyring terms sealed anew.

No user data is read or written and no stored ciphertext changes. Blobs under the old wrapping keys
stay loadable: retired roots unwrap, and wrap nothing. Every step can be repeated, so a rotation that
a crash cut off is finished at the next start:

    (1) plan        rotation row `running`, in the commit of the intent
    (2) generate    each new root, in each token that answers: planned row, object, public part (kms.keys.roots.Roots.ensure)
    (3) reseal      every keyring term, in memory, by the HSM
    (4) switch      one commit: terms, active roots, rotation `complete`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from kms.clock import Clock
from kms.errors import ErrorKind, KmsError
from kms.hsm import AwayError, Hsm, Purpose
from kms.ids import CkaId, new_id
from kms.keys.keyring import TERMS, Term, reseal
from kms.keys.roots import RETIRED, ROOTS, ROTATED, Root, Roots, activate, active_row, active_rows, discard
from kms.keys.store import JOINT_ROOTS
from kms.keys.tokens import lacking
from kms.operation import External, Result
from kms.tables import Row, Store, Table, Transaction

RUNNING, COMPLETE = "running", "complete"
WAITING = "waiting"  # the new roots are made; a copy of the HSM does not hold them yet
_NEWEST = "root"


class RootRotation(msgspec.Struct, frozen=True, kw_only=True):
    """The newest rotation of the root; the one row of its table."""

    state: str
    from_version: int
    to_version: int
    started: float
    finished: float = 0.0
    terms_resealed: int = 0
    failure: str = ""
    waits_for: tuple[str, ...] = ()  # copies that the vendor's tool has to be run for
    attempt: str = ""  # of the roots that wait


ROTATIONS = Table("root-rotation", "root_rotations", RootRotation, sealed=False)
_Resealed = list[tuple[Row[Term], Term]] | tuple[str, ...]  # or the copies that it waits for


@dataclass(frozen=True)
class _Steps:
    """The four steps of one rotation to `version`."""

    store: Store
    hsm: Callable[[], Hsm]
    roots: Roots
    instance: Callable[[], str]
    clock: Clock
    version: int
    attempt: str  # another thread's attempt at this version makes other objects
    tokens: tuple[str, ...]  # that get new roots now; others follow when they answer (kms.keys.enrolment)

    def begin(self, tx: Transaction) -> None:
        self._not_overtaken(tx)
        row = tx.get(ROTATIONS, _NEWEST)
        running = RootRotation(
            state=RUNNING, from_version=self.version - 1, to_version=self.version, started=self.clock.now()
        )
        if row is None:
            tx.insert(ROTATIONS, _NEWEST, running)
        elif row.value.state == COMPLETE:
            tx.replace(ROTATIONS, row, running)
        elif row.value.state == WAITING:
            tx.replace(ROTATIONS, row, msgspec.structs.replace(row.value, state=RUNNING))

    def perform(self) -> _Resealed:
        new = {
            purpose: [self.roots.ensure(purpose, self.version, self.attempt, token) for token in self.tokens]
            for purpose in ROTATED
        }
        reader = self.store.reader()
        made = [root.cka_id for roots in new.values() for root in roots if not self._unneeded(root)]
        if waits_for := lacking(self.hsm(), reader, made):
            return waits_for
        before = [row.key for row in active_rows(reader, Purpose.ROOT_SEAL) if row.value.home in self.tokens]
        return reseal(self.hsm(), self.instance(), reader, new[Purpose.ROOT_SEAL], before)

    def _not_overtaken(self, tx: Transaction) -> None:
        if active_row(tx, Purpose.ROOT_SEAL).value.version >= self.version:
            raise KmsError(ErrorKind.CONFLICT, "another rotation of the root overtook this one")

    def conclude(self, tx: Transaction, resealed: _Resealed) -> Result:
        self._not_overtaken(tx)
        if isinstance(resealed, tuple):
            return self._wait(tx, resealed)
        for old, term in resealed:
            tx.replace(TERMS, old, term)
        for purpose in ROTATED:
            activate(tx, purpose, self.version, self.attempt)
        row = tx.get(ROTATIONS, _NEWEST)
        if row is None or row.value.to_version != self.version:
            raise KmsError(ErrorKind.CONFLICT, "another rotation of the root overtook this one")
        done = msgspec.structs.replace(
            row.value,
            state=COMPLETE,
            finished=self.clock.now(),
            terms_resealed=len(resealed),
            failure="",
            waits_for=(),
            attempt="",
        )
        tx.replace(ROTATIONS, row, done)
        return Result(
            data={"state": COMPLETE, "from_version": self.version - 1, "to_version": self.version},
            subject={"to_version": self.version, "terms": len(resealed)},
        )

    def _unneeded(self, root: Root) -> bool:
        """Whether this token has no such object, as it lacks the mechanism."""
        row = self.store.reader().get(ROOTS, root.cka_id.hex())
        return row is not None and bool(row.value.lacks)

    def _wait(self, tx: Transaction, names: tuple[str, ...]) -> Result:
        """The roots stay planned; nothing is closed with them before each copy holds them."""
        row = tx.get(ROTATIONS, _NEWEST)
        if row is None:
            raise KmsError(ErrorKind.CONFLICT, "another rotation of the root overtook this one")
        waiting = msgspec.structs.replace(
            row.value, state=WAITING, waits_for=names, attempt=self.attempt, failure=""
        )
        tx.replace(ROTATIONS, row, waiting)
        return Result(
            data={"state": WAITING, "to_version": self.version, "waits_for": list(names)},
            subject={"to_version": self.version, "waits_for": ", ".join(names)},
        )

    def abandon(self, tx: Transaction, error: KmsError) -> None:
        discard(tx, self.attempt)
        row = tx.get(ROTATIONS, _NEWEST)
        if row is not None and row.value.state == RUNNING:
            failed = msgspec.structs.replace(row.value, failure=error.detail, waits_for=(), attempt="")
            tx.replace(ROTATIONS, row, failed)


def give_up_rotation(tx: Transaction, now: float) -> None:
    """A recovery made new roots: what was being rotated has gone with the HSM."""
    row = tx.get(ROTATIONS, _NEWEST)
    if row is not None and row.value.state != COMPLETE:
        given_up = msgspec.structs.replace(
            row.value, state=COMPLETE, finished=now, failure="the HSM was lost meanwhile"
        )
        tx.replace(ROTATIONS, row, given_up)


class RootRotator:
    """Starts, resumes and reports rotations of the root.

    Args:
        blobs_under: given hex CKA_IDs of retired roots, how many key versions they still wrap.
    """

    def __init__(
        self,
        store: Store,
        hsm: Callable[[], Hsm],
        roots: Roots,
        instance: Callable[[], str],
        clock: Clock,
        blobs_under: Callable[[list[str]], int],
    ) -> None:
        self._store = store
        self._hsm = hsm
        self._roots = roots
        self._instance = instance
        self._clock = clock
        self._blobs_under = blobs_under

    def rotate(self) -> External[_Resealed]:
        """A new rotation, or the rest of the one that is running."""
        version = self._roots.newest(Purpose.ROOT_SEAL).version
        return self._to(version + 1)

    def resume(self, intent: Mapping[str, str | int]) -> External[Any] | None:
        """What closes an intent that a crash left open: the same steps again.

        Unless another request made that version meanwhile: then this one did nothing.
        """
        version = int(intent["to_version"])
        if self._roots.newest(Purpose.ROOT_SEAL).version >= version:
            return External(
                intent,
                begin=lambda _tx: None,
                perform=lambda: None,
                conclude=lambda _tx, _done: Result(subject=intent, partial=True),
                abandon=lambda _tx, _error: None,
            )
        return self._to(version)

    def _to(self, version: int) -> External[_Resealed]:
        step = _Steps(
            self._store,
            self._hsm,
            self._roots,
            self._instance,
            self._clock,
            version,
            self._waiting(version) or new_id(),
            self._present(),
        )
        return External({"to_version": version}, step.begin, step.perform, step.conclude, step.abandon)

    def due(self) -> External[_Resealed] | None:
        """The rest of a rotation whose roots the copies hold by now."""
        reader = self._store.reader()
        row = reader.get(ROTATIONS, _NEWEST)
        if row is None or row.value.state != WAITING:
            return None
        made = [
            CkaId(bytes.fromhex(root.key))
            for root in reader.scan(ROOTS)
            if root.value.attempt == row.value.attempt and not root.value.lacks
        ]
        return None if lacking(self._hsm(), reader, made) else self._to(row.value.to_version)

    def _waiting(self, version: int) -> str:
        """The attempt whose roots to this version copies hold, or are to hold; or ""."""
        row = self._store.reader().get(ROTATIONS, _NEWEST)
        if row is None or row.value.to_version != version or not row.value.waits_for:
            return ""
        return row.value.attempt

    def _present(self) -> tuple[str, ...]:
        """The tokens that answer, as far as is known."""
        away = self._hsm().away()
        rows = active_rows(self._store.reader(), Purpose.ROOT_SEAL)
        present = tuple(row.value.home for row in rows if row.value.home not in away)
        if not present:
            raise AwayError(away)
        return present

    def progress(self) -> dict[str, Any]:
        """The newest rotation and what is still under retired roots."""
        reader = self._store.reader()
        row = reader.get(ROTATIONS, _NEWEST)
        active = self._roots.newest(Purpose.ROOT_SEAL).version
        retired = [
            found.key
            for purpose in ROTATED
            for found in reader.find(ROOTS, {"purpose": purpose.value})
            if found.value.state == RETIRED and found.value.version < active
        ]
        retired += [
            found.key
            for purpose in ROTATED
            for found in reader.find(JOINT_ROOTS, {"purpose": purpose.value, "state": RETIRED})
        ]
        report: dict[str, Any] = {
            "state": "idle",
            "version": active,
            "terms": reader.count(TERMS, {}),
            "terms_under_current": reader.count(TERMS, {"root_version": active}),
            "blobs_under_old": self._blobs_under(retired),
        }
        if row is not None:
            report |= msgspec.structs.asdict(row.value)
        return report
