"""Removing a token that is lost for good, while another serves on.

What it alone held is lost from then on, by the word of the operator: its roots, and with them the blobs that they wrap, and key
pairs that lived in it. What is kept is what the other tokens say that they hold, so a copy's keys are not lost. One commit.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass

import msgspec

from kms.clock import Clock
from kms.errors import ErrorKind, KmsError, invalid, not_found
from kms.hsm import Hsm, Purpose
from kms.keys.keyring import TERMS, with_forms
from kms.keys.lost import lose_keys
from kms.keys.roots import DISCARDED, LOST, ROOTS, active_rows
from kms.keys.tokens import HSM_TOKENS, OWN_KEYS, REMOVED, enrolled
from kms.operation import Change, Result
from kms.tables import Store, Transaction


@dataclass(frozen=True)
class Remover:
    """The steps.

    Args:
        epoch: of the audit log.
        lose: marks what other engines had in the token, given the hex CKA_IDs of all objects that are kept.
        named: what is bound to one of these CKA_IDs, by name, for the answer; asked before the commit.
    """

    store: Store
    hsm: Callable[[], Hsm]
    clock: Clock
    epoch: Callable[[], int]
    lose: Callable[[Transaction, Container[str]], None]
    named: Callable[[Container[str]], dict[str, list[dict[str, object]]]]

    def remove(self, name: str) -> Change:
        """Give the token up.

        Raises:
            KmsError(NOT_FOUND): no such token was enrolled.
            KmsError(INVALID): it answers, or no other serves, or a keyring term is sealed to it alone.
            KmsError(HSM_UNAVAILABLE): another token is away too, so what is left cannot be known.
        """
        reader = self.store.reader()
        row = reader.get(HSM_TOKENS, name)
        if row is None or row.value.state == REMOVED:
            raise not_found(f'no HSM token "{name}" is enrolled')
        others = sorted(enrolled(reader) - {name})
        if not others:
            raise invalid(f'the HSM token "{name}" is the only one that serves; enrol another first')
        if self._answers(name):
            raise invalid(
                f'the HSM token "{name}" answers; only one that is gone can be removed, as its keys are lost with it'
            )
        kept = {cka_id.hex(): other for other in others for cka_id, _ in self.hsm().at(other).objects("")}
        lost = self.named(Elsewhere(kept))

        def write(tx: Transaction) -> Result:
            self._keep_terms(tx, kept)
            self._lose_roots(tx, name, kept)
            lose_keys(tx, self.epoch(), kept)
            self.lose(tx, kept)
            token = tx.get(HSM_TOKENS, name)
            if token is None or token.value.state == REMOVED or not enrolled(tx) - {name}:
                raise KmsError(ErrorKind.CONFLICT, "another token was removed at the same time; try again")
            gone = msgspec.structs.replace(token.value, state=REMOVED, since=self.clock.now())
            tx.replace(HSM_TOKENS, token, gone)
            return Result(
                data={"name": name, "state": REMOVED, "lost": lost},
                subject={"token": name, **{f"lost_{kind}": len(found) for kind, found in lost.items()}},
            )

        return Change(write)

    def _answers(self, name: str) -> bool:
        try:
            self.hsm().at(name).check()
        except KmsError as error:
            if error.kind is not ErrorKind.HSM_UNAVAILABLE:
                raise
            return False
        return True

    def _keep_terms(self, tx: Transaction, kept: Container[str]) -> None:
        active = {row.key for row in active_rows(tx, Purpose.ROOT_SEAL)}
        for row in tx.scan(TERMS):
            forms = [form for form in row.value.forms if form.root in kept]
            if not forms or not any(form.root in active for form in forms):
                raise invalid(
                    f"keyring term {row.value.term} is sealed to that token alone; wait until it is sealed to another"
                    " (GET sys/hsm/tokens shows it), or recover the server"
                )
            if len(forms) != len(row.value.forms):
                tx.replace(TERMS, row, with_forms(row.value, forms))

    def _lose_roots(self, tx: Transaction, name: str, kept: Mapping[str, str]) -> None:
        """Its roots go, but for those that a copy holds: that is the original from now on."""
        heirs = set()
        for row in tx.scan(ROOTS):
            if row.value.home != name or row.value.state in {LOST, DISCARDED}:
                continue
            heir = kept.get(row.key)
            if heir is None:
                tx.replace(ROOTS, row, msgspec.structs.replace(row.value, state=LOST))
            else:
                heirs.add(heir)
                tx.replace(ROOTS, row, msgspec.structs.replace(row.value, home=heir))
        for heir in heirs:
            token = tx.get(HSM_TOKENS, heir)
            if token is not None and token.value.relation != OWN_KEYS:
                tx.replace(HSM_TOKENS, token, msgspec.structs.replace(token.value, relation=OWN_KEYS))


@dataclass(frozen=True)
class Elsewhere:
    """All CKA_IDs but these."""

    here: Container[str]

    def __contains__(self, cka_id: object) -> bool:
        return cka_id not in self.here
