"""Making a token ready to serve: roots of its own, and every keyring term sealed to them. And keeping it so.

    (1) begin      the token's row, "enrolling" until (4)
    (2) generate   each root that it lacks at the newest version, and a log key (kms.keys.roots.Roots.ensure)
    (3) seal       every keyring term that has no form under its root, opened by another token
    (4) conclude   one commit: roots active, forms added, the token enrolled

The same steps bring a token up to date that was away while the keyring or the root was rotated. Terms made between
(3) and (4) are done by the next run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from kms.clock import Clock
from kms.errors import ErrorKind, KmsError, invalid
from kms.hsm import Hsm, Purpose
from kms.ids import CkaId, new_id
from kms.keys.joint import Joiner
from kms.keys.keyring import TERMS, Form, Term, reseal, with_forms
from kms.keys.roots import ACTIVE, ROOTS, ROTATED, Root, Roots, activate, active_rows, discard
from kms.keys.rotation import COMPLETE, ROTATIONS
from kms.keys.tokens import ENROLLED, ENROLLING, HSM_TOKENS, OWN_KEYS, HsmToken, name_first, put_token
from kms.operation import External, Result
from kms.tables import Row, Store, Transaction

_Resealed = list[tuple[Row[Term], Term]]


@dataclass(frozen=True)
class Enroller:
    """Enrols tokens with keys of their own, and brings them up to date.

    Args:
        first: name of the token that served alone before.
        instance: id of the server.
    """

    store: Store
    hsm: Callable[[], Hsm]
    roots: Roots
    clock: Clock
    first: str
    instance: Callable[[], str]

    def enrol(self, name: str) -> External[_Resealed]:
        """The steps, for a token that the configuration names.

        Raises:
            KmsError(INVALID): it serves already, or the root is being rotated.
            KmsError(HSM_UNAVAILABLE): it does not answer.
        """
        reader = self.store.reader()
        row = reader.get(HSM_TOKENS, name)
        if name == self.first or (row is not None and row.value.state == ENROLLED):
            raise invalid(f'the HSM token "{name}" serves already')
        if any(each.value.state != COMPLETE for each in reader.scan(ROTATIONS)):
            raise invalid("the root is being rotated; enrol the token when that is complete")
        serials = {self.first: self.hsm().info.serial, name: self.hsm().at(name).info.serial}
        return self._steps(name, lambda tx: self._plan(tx, name, serials), enrolling=True)

    def resume(self, intent: Mapping[str, str | int]) -> External[Any] | None:
        """What closes an intent that a crash left open: the same steps again; the attempt before is discarded."""
        if "attempt" in intent:
            return self.joiner.resume(intent)
        name = str(intent["token"])
        row = self.store.reader().get(HSM_TOKENS, name)
        if row is None or row.value.state not in {ENROLLING, ENROLLED}:
            return None
        return self._steps(name, lambda _tx: None, enrolling=row.value.state == ENROLLING)

    @property
    def joiner(self) -> Joiner:
        """What makes the roots that tokens share."""
        return Joiner(self.store, self.hsm, self.roots, self.clock)

    def due(self) -> list[External[Any]]:
        """What the jobs process has to do for the tokens: bring those up to date that are late, then the shared roots."""
        self.joiner.tidy()
        return [*self.late()] or self.joiner.due()

    def late(self) -> list[External[_Resealed]]:
        """For each token that answers and lacks a root or a term of today: the steps that mend it."""
        away = self.hsm().away()
        names = [
            row.key
            for row in self.store.reader().scan(HSM_TOKENS)
            if row.value.state == ENROLLED and row.value.relation == OWN_KEYS and row.key not in away
        ]
        return [self._steps(name, lambda _tx: None, enrolling=False) for name in names if self._behind(name)]

    # -- the steps -----------------------------------------------------------------------------------

    def _plan(self, tx: Transaction, name: str, serials: Mapping[str, str]) -> None:
        now = self.clock.now()
        name_first(tx, self.first, serials[self.first], now)
        put_token(tx, name, HsmToken(state=ENROLLING, relation=OWN_KEYS, serial=serials[name], since=now))

    def _steps(
        self, name: str, begin: Callable[[Transaction], None], *, enrolling: bool
    ) -> External[_Resealed]:
        attempt = new_id()
        version = self.roots.newest(Purpose.ROOT_SEAL).version

        def perform() -> _Resealed:
            return self._perform(name, version, attempt)

        def conclude(tx: Transaction, made: _Resealed) -> Result:
            return self._conclude(tx, name, version, attempt, made)

        def abandon(tx: Transaction, _error: KmsError) -> None:
            discard(tx, attempt)
            row = tx.get(HSM_TOKENS, name)
            if enrolling and row is not None and row.value.state == ENROLLING:
                tx.delete(HSM_TOKENS, row)

        return External({"token": name}, begin, perform, conclude, abandon)

    def _perform(self, name: str, version: int, attempt: str) -> _Resealed:
        reader = self.store.reader()
        mine = self._mine(name)
        roots = {
            purpose: mine[purpose]
            if purpose in mine and mine[purpose].version >= version
            else self.roots.ensure(purpose, version, attempt, name)
            for purpose in ROTATED
        }
        if Purpose.LOG_SIGN not in mine:
            self.roots.ensure(Purpose.LOG_SIGN, version, attempt, name)
        before = [mine[Purpose.ROOT_SEAL].cka_id.hex()] if Purpose.ROOT_SEAL in mine else []
        seal = roots[Purpose.ROOT_SEAL]
        replaced = [root for root in before if root != seal.cka_id.hex()]
        return reseal(self.hsm(), self.instance(), reader, [seal], replaced, self.hsm().at(name))

    def _conclude(self, tx: Transaction, name: str, version: int, attempt: str, made: _Resealed) -> Result:
        row = tx.get(HSM_TOKENS, name)
        if row is None or row.value.state not in {ENROLLING, ENROLLED}:
            raise KmsError(ErrorKind.CONFLICT, "the token was removed meanwhile")
        others = {each.key for each in active_rows(tx, Purpose.ROOT_SEAL) if each.value.home != name}
        for old, new in made:
            if not {form.root for form in old.value.forms} & others:
                raise KmsError(ErrorKind.CONFLICT, "the root was rotated at the same time; try again")
            tx.replace(TERMS, old, with_forms(old.value, _preferring(old.value.root, new.forms)))
        for purpose in (*ROTATED, Purpose.LOG_SIGN):
            activate(tx, purpose, version, attempt)
        now = self.clock.now()
        since = row.value.since if row.value.state == ENROLLED else now
        tx.replace(
            HSM_TOKENS, row, msgspec.structs.replace(row.value, state=ENROLLED, since=since, terms=now)
        )
        return Result(
            data={"name": name, "state": ENROLLED, "root_version": version, "terms": len(made)},
            subject={"token": name, "root_version": version, "terms": len(made)},
        )

    def _mine(self, name: str) -> dict[Purpose, Root]:
        found = self.store.reader().find(ROOTS, {"state": ACTIVE})
        return {
            Purpose(row.value.purpose): Root(
                CkaId(bytes.fromhex(row.key)), row.value.version, row.value.public
            )
            for row in found
            if row.value.home == name
        }

    def _behind(self, name: str) -> bool:
        mine = self._mine(name)
        if any(purpose not in mine for purpose in (*ROTATED, Purpose.LOG_SIGN)):
            return True
        seal = mine[Purpose.ROOT_SEAL]
        if seal.version < self.roots.newest(Purpose.ROOT_SEAL).version:
            return True
        rows = self.store.reader().scan(TERMS)
        return any(seal.cka_id.hex() not in {form.root for form in row.value.forms} for row in rows)


def _preferring(root: str, forms: tuple[Form, ...]) -> list[Form]:
    return sorted(forms, key=lambda form: form.root != root)
