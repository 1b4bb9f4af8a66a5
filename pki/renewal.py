"""Signing CRLs as external acts: at a revocation, on demand, before the old one ends, after a crash."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kms.clock import Clock
from kms.errors import ErrorKind, KmsError
from kms.operation import Call, External, Outcome, Result
from kms.tables import Store, Transaction
from pki.authority import Authorities
from pki.crl import CrlMaker, allocate, publish
from pki.model import PublicCrl
from pki.store import CRL_NUMBERS, PUBLIC_CRLS, issuers

Crls = dict[str, PublicCrl]  # by issuer id


@dataclass(frozen=True)
class Renewals:
    """Makes the acts. One per process."""

    store: Store
    authorities: Authorities
    maker: CrlMaker
    clock: Clock

    def make(self, mount_id: str, issuer_id: str, number: int) -> PublicCrl:
        """The CRL with a number that was allocated before; for the perform step."""
        authority = self.authorities.get(mount_id, issuer_id, "crl-signing")
        return self.maker.make(authority, number, self.authorities.config(mount_id), int(self.clock.now()))

    def renewal(self, mount_id: str, issuer_id: str) -> External[Crls]:
        """One issuer's next CRL; what the background job runs."""
        return CrlAct(self, mount_id, (issuer_id,)).external()

    def rotate(self, call: Call) -> Outcome:
        """A new CRL for every issuer of the mount that can sign."""
        known = issuers(self.store.reader(), call.mount.id)
        able = tuple(issuer.id for issuer in known if self.able(call.mount.id, issuer.id))
        if not able:
            return Result(data={"success": True})
        return CrlAct(self, call.mount.id, able, finish=lambda: {"success": True}).external()

    def due(self, now: int) -> list[tuple[str, str]]:
        """(mount id, issuer id) of CRLs past half of their life, or behind the revocations."""
        reader = self.store.reader()
        found = []
        for row in reader.scan(PUBLIC_CRLS):
            numbers = reader.get(CRL_NUMBERS, row.key)
            crl = row.value
            half = crl.this_update + (crl.next_update - crl.this_update) // 2
            mount_id, _, issuer_id = row.key.rpartition("/")
            behind = numbers is not None and numbers.value.allocated > crl.number
            if (now >= half or behind) and self.able(mount_id, issuer_id):
                found.append((mount_id, issuer_id))
        return found

    def able(self, mount_id: str, issuer_id: str) -> bool:
        """Whether this issuer still exists, with its key, and may sign CRLs."""
        try:
            self.authorities.get(mount_id, issuer_id, "crl-signing")
        except KmsError as error:
            if error.kind is not ErrorKind.INVALID:
                raise
            return False
        return True

    def resolve(self, intent: Mapping[str, str | int]) -> External[Crls]:
        """Finish what died after its first commit: publish the CRL that it promised."""
        mount_id = str(intent["mount"])
        named = str(intent["issuer"]).split(",")
        # An issuer that was deleted since has no CRL to publish: the intent closes with nothing done.
        act = CrlAct(self, mount_id, tuple(id_ for id_ in named if self.able(mount_id, id_)))

        def perform() -> Crls:
            # The number that the dead process had is spent; a fresh one keeps numbers unique.
            with self.store.transaction() as tx:
                act.begin(tx)
            return act.perform()

        return External(intent, lambda _: None, perform, act.conclude, act.abandon)


@dataclass
class CrlAct:
    """New CRLs of some issuers of a mount.

    `mark` changes the truth in the same commit that allocates the numbers, and returns a number if it
    allocated one itself. `finish` gives the data of the answer.
    """

    renewals: Renewals
    mount_id: str
    issuer_ids: tuple[str, ...]
    mark: Callable[[Transaction], int | None] = lambda _: None
    finish: Callable[[], Mapping[str, object] | None] = lambda: None
    facts: Mapping[str, str | int] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)

    def external(self) -> External[Crls]:
        """For the pipeline."""
        intent = {"mount": self.mount_id, "issuer": ",".join(self.issuer_ids), **self.facts}
        return External(intent, self.begin, self.perform, self.conclude, self.abandon)

    def begin(self, tx: Transaction) -> None:
        marked = self.mark(tx)
        for issuer_id in self.issuer_ids:
            self.numbers[issuer_id] = marked or allocate(tx, self.mount_id, issuer_id)

    def perform(self) -> Crls:
        return {
            issuer_id: self.renewals.make(self.mount_id, issuer_id, number)
            for issuer_id, number in self.numbers.items()
        }

    def conclude(self, tx: Transaction, crls: Crls) -> Result:
        subject: dict[str, str | int] = {"mount": self.mount_id, **self.facts}
        for issuer_id, crl in crls.items():
            publish(tx, self.mount_id, issuer_id, crl)
            subject["issuer"] = issuer_id
            subject["crl_number"] = crl.number
        return Result(data=self.finish(), items=len(crls), subject=subject)

    def abandon(self, tx: Transaction, error: Exception) -> None:
        """Leave the issuer dirty (allocated above published): the next renewal mends it."""
