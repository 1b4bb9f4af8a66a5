"""The life of a serial number in the database, in the transactions around its signature.

    intent --signed and stored--> issued
       |----no signature---------> failed
       |----nobody knows---------> unknown, and revoked

A certificate whose outcome is unknown may exist, although its answer never left: it is put on the CRL.
Nobody lawful holds it, so that costs one entry until it expires; if somebody does hold it (a worker
that was killed on purpose after C_Sign), it is dead. The other choice, leaving it merely revocable,
would trust that nothing was copied out of a process that we know to have died.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from kms.errors import ErrorKind, KmsError
from kms.tables import Row, Transaction
from pki.index import INDEX, Line
from pki.marks import allocate, enter
from pki.model import Certificate, CertificateState, Revocation
from pki.store import CERTIFICATES, REVOCATIONS


def intend(tx: Transaction, certificate: Certificate) -> Row[Certificate]:
    """Record a serial before anything is signed. Raises KmsError(CONFLICT) when it was ever used."""
    return tx.insert(CERTIFICATES, f"{certificate.mount_id}/{certificate.serial}", certificate)


def issued(tx: Transaction, intent: Row[Certificate], der: bytes) -> None:
    """Record the signed certificate over the row that `intend` made.

    Raises:
        KmsError(CONFLICT): the intent was closed meanwhile; the answer must not leave.
    """
    signed = done(intent.value, der)
    try:
        # The row is nearly always as we left it: compare-and-swap saves reading it again.
        tx.replace(CERTIFICATES, intent, signed)
    except KmsError as error:
        if error.kind is not ErrorKind.CONFLICT:
            raise
        current = _reread(tx, intent)
        tx.replace(CERTIFICATES, current, done(current.value, der))


def done(certificate: Certificate, der: bytes) -> Certificate:
    """The row of an intent that was signed."""
    return msgspec.structs.replace(certificate, state=CertificateState.ISSUED, certificate=der, tbs=b"")


def _reread(tx: Transaction, intent: Row[Certificate]) -> Row[Certificate]:
    row = tx.get(CERTIFICATES, intent.key)
    if row is None or row.value.state != CertificateState.INTENT:
        raise KmsError(
            ErrorKind.CONFLICT, f"the intent to issue {intent.value.serial} was closed by somebody else"
        )
    return row


def store(tx: Transaction, certificate: Certificate, der: bytes, lines: Mapping[str, Line]) -> None:
    """Record a signed certificate whose intent is a record of the log, with its lines of the index.

    Raises:
        KmsError(CONFLICT): the serial has a row: it was used, or closed as unknown. The answer must not leave.
    """
    tx.insert(CERTIFICATES, f"{certificate.mount_id}/{certificate.serial}", done(certificate, der))
    tx.insert_all(INDEX, lines)


def unissued(tx: Transaction, planned: Certificate, now: int, *, signed: bool) -> bool:
    """Close an intent that did not end in an answer; whether there was anything to close.

    Certificates of roles that say no_store leave no rows, and other leaves none before they are signed: their
    intent is the audit record. One whose outcome is unknown gets a row, with its revocation.

    `planned` is the row of the intent, or what it would be for one without a row; `signed` says that the
    signature may exist.
    """
    key = f"{planned.mount_id}/{planned.serial}"
    row = tx.get(CERTIFICATES, key)
    if row is None:
        if not signed:
            return True
        row = tx.insert(CERTIFICATES, key, planned)
    if row.value.state != CertificateState.INTENT:
        return False
    state = CertificateState.UNKNOWN if signed else CertificateState.FAILED
    closed = msgspec.structs.replace(row.value, state=state)
    row = tx.replace(CERTIFICATES, row, closed)
    if signed and not closed.revoked_at:
        revoke(tx, row, now)
    return True


def revoke(tx: Transaction, row: Row[Certificate], now: int, reason: str = "") -> Revocation:
    """Mark a serial revoked, and the CRLs that must show it as behind; durable with the commit."""
    certificate = row.value
    tx.replace(CERTIFICATES, row, msgspec.structs.replace(certificate, revoked_at=now))
    revocation = Revocation(
        mount_id=certificate.mount_id,
        issuer_id=certificate.issuer_id,
        serial=certificate.serial,
        revoked_at=now,
        not_after=certificate.not_after,
        crl_number=allocate(tx, certificate.mount_id, certificate.issuer_id),
        reason=reason,
        shard=certificate.shard,
    )
    key = f"{certificate.mount_id}/{certificate.issuer_id}/{certificate.serial}"
    tx.insert(REVOCATIONS, key, revocation)
    enter(tx, revocation)
    return revocation
