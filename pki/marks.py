"""How fresh each CRL of an issuer is, in rows; and the numbers that order revocations and CRLs.

Every revocation gets the issuer's next number, in its own commit, and so does every CRL before it is made.
CRL n lists exactly the revocations of its scope with numbers below n. One sequence serves all scopes of an
issuer: RFC 5280 5.2.3 wants it to grow in each, and the same one for a complete CRL and its deltas.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from kms.errors import ErrorKind, KmsError
from kms.tables import Reader, Transaction
from pki.model import CrlMark, CrlNumber, PublicCrl, Revocation
from pki.store import CRL_JOURNAL, CRL_MARKS, CRL_NUMBERS, PUBLIC_CRLS, put
from pki.unchanged import moment

COMPLETE, DELTA = "complete", "delta"
CLAIM_SECONDS = 10  # whoever claimed a CRL and did not publish it by then has died


@dataclass(frozen=True, slots=True)
class Scope:
    """One CRL of an issuer: `shard` of it, or the complete one or its delta."""

    mount_id: str
    issuer_id: str
    name: str

    @property
    def issuer_key(self) -> str:
        """Key of the issuer's rows."""
        return f"{self.mount_id}/{self.issuer_id}"

    @property
    def key(self) -> str:
        """Key of the mark."""
        return f"{self.issuer_key}/{self.name}"

    @property
    def public_key(self) -> str:
        """Key of the published CRL."""
        return self.issuer_key if self.name == COMPLETE else self.key

    @property
    def shard(self) -> int | None:
        """The shard's number."""
        return int(self.name[1:]) if self.name[0] == "s" else None


def complete(mount_id: str, issuer_id: str) -> Scope:
    """The CRL that lists everything."""
    return Scope(mount_id, issuer_id, COMPLETE)


def delta(mount_id: str, issuer_id: str) -> Scope:
    """What the complete one does not list yet."""
    return Scope(mount_id, issuer_id, DELTA)


def shard(mount_id: str, issuer_id: str, number: int) -> Scope:
    """One shard."""
    return Scope(mount_id, issuer_id, shard_name(number))


def shard_name(number: int) -> str:
    """`s0007`; certificates without a shard are under `none` in the journal."""
    return f"s{number:04d}" if number >= 0 else "none"


def scope_of(key: str) -> Scope:
    """From the key of a mark."""
    mount_id, issuer_id, name = key.rsplit("/", 2)
    return Scope(mount_id, issuer_id, name)


def journal_key(revocation: Revocation) -> str:
    """Keys sort by number."""
    name = shard_name(revocation.shard)
    return f"{revocation.mount_id}/{revocation.issuer_id}/{name}/{revocation.crl_number:016d}"


def mark_of(reader: Reader, scope: Scope) -> CrlMark:
    """The mark, or that of a CRL that was never made."""
    row = reader.get(CRL_MARKS, scope.key)
    return row.value if row is not None else CrlMark()


def allocate(tx: Transaction, mount_id: str, issuer_id: str) -> int:
    """The next number of an issuer."""
    key = f"{mount_id}/{issuer_id}"
    row = tx.get(CRL_NUMBERS, key)
    number = (row.value.allocated if row is not None else 0) + 1
    put(tx, CRL_NUMBERS, key, CrlNumber(number))
    return number


def introduce(tx: Transaction, mount_id: str, issuer_id: str, crl: PublicCrl) -> None:
    """Publish the first CRL of an issuer; one that has had others keeps its numbers and its CRL."""
    key = f"{mount_id}/{issuer_id}"
    if tx.get(CRL_NUMBERS, key) is None:
        tx.insert(CRL_NUMBERS, key, CrlNumber(crl.number))
        publish(tx, complete(mount_id, issuer_id), crl)


def enter(tx: Transaction, revocation: Revocation) -> None:
    """Put a revocation into the journal: from this commit on the CRLs that must list it are behind."""
    tx.insert(CRL_JOURNAL, journal_key(revocation), revocation)
    mount_id, issuer_id = revocation.mount_id, revocation.issuer_id
    scopes = [complete(mount_id, issuer_id)]
    if revocation.shard >= 0:
        scopes.append(shard(mount_id, issuer_id, revocation.shard))
    for scope in scopes:
        mark = mark_of(tx, scope)
        put(tx, CRL_MARKS, scope.key, msgspec.structs.replace(mark, marked=revocation.crl_number))


def claim(tx: Transaction, scope: Scope, claimant: str, now: int) -> int:
    """Allocate the number of a CRL and tell everybody that it is being made.

    Raises:
        KmsError(CONFLICT): somebody else makes one just now.
    """
    mark = mark_of(tx, scope)
    if claimed(mark, now):
        raise KmsError(ErrorKind.CONFLICT, f"the CRL {scope.name} is being made by another request")
    number = allocate(tx, scope.mount_id, scope.issuer_id)
    put(tx, CRL_MARKS, scope.key, msgspec.structs.replace(mark, claimant=claimant, claimed_at=now))
    return number


def claimed(mark: CrlMark, now: int) -> bool:
    """Whether somebody makes this CRL just now."""
    return bool(mark.claimant) and abs(now - mark.claimed_at) < CLAIM_SECONDS


def release(tx: Transaction, scope: Scope, claimant: str) -> None:
    """Give a claim up."""
    row = tx.get(CRL_MARKS, scope.key)
    if row is not None and row.value.claimant == claimant:
        tx.replace(CRL_MARKS, row, _unclaimed(row.value, claimant))


def _unclaimed(mark: CrlMark, claimant: str) -> CrlMark:
    if not claimant or mark.claimant != claimant:
        return mark
    return msgspec.structs.replace(mark, claimant="", claimed_at=0)


def publish(
    tx: Transaction, scope: Scope, crl: PublicCrl, claimant: str = "", places: tuple[str, ...] = ()
) -> None:
    """Store a CRL for everybody to fetch, unless a newer one is there; and give the claim up."""
    mark = _unclaimed(mark_of(tx, scope), claimant)
    if crl.number > mark.built:
        before = tx.get(PUBLIC_CRLS, scope.public_key)
        made = moment(crl.this_update, before.value.modified if before is not None else 0)
        put(tx, PUBLIC_CRLS, scope.public_key, msgspec.structs.replace(crl, modified=made))
        mark = msgspec.structs.replace(
            mark,
            built=crl.number,
            this_update=crl.this_update,
            next_update=crl.next_update,
            base=crl.base,
            places=places,
        )
    put(tx, CRL_MARKS, scope.key, mark)
