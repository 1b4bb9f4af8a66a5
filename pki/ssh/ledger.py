"""The life of a serial number, and of what is revoked, in transactions.

    intent (a record of the log) --signed and stored--> issued
                                    |----no signature---------> nothing
                                    |----nobody knows---------> unknown, and revoked

Each change to what is revoked takes the next version of the mount's KRL in the same commit, so every worker serves
the new list from then on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from kms.operation import External, Result
from kms.tables import Reader, Row, Transaction
from pki.model import CertificateState
from pki.ssh.model import By, SshCertificate, SshRevocation
from pki.ssh.store import CERTIFICATES, ISSUERS, MOUNTS, REVOCATIONS, mount_config
from pki.store import put


def certificate_key(mount_id: str, serial: str) -> str:
    """Where a serial lies."""
    return f"{mount_id}/{serial}"


def store(tx: Transaction, planned: SshCertificate, line: str) -> None:
    """Record a signed certificate.

    Raises:
        KmsError(CONFLICT): the serial has a row: it was used, or closed as unknown. The answer must not leave.
    """
    issued = msgspec.structs.replace(planned, state=CertificateState.ISSUED, certificate=line)
    tx.insert(CERTIFICATES, certificate_key(planned.mount_id, planned.serial), issued)


def unissued(tx: Transaction, planned: SshCertificate, ca: str, now: int, *, signed: bool) -> bool:
    """Close an intent that did not end in an answer; whether there was anything to close.

    Args:
        tx: of the outcome record.
        planned: what the row would be.
        ca: the CA's public key.
        now: seconds.
        signed: whether the signature may exist.
    """
    key = certificate_key(planned.mount_id, planned.serial)
    if tx.get(CERTIFICATES, key) is not None:
        return False
    if signed:
        row = tx.insert(CERTIFICATES, key, msgspec.structs.replace(planned, state=CertificateState.UNKNOWN))
        revoke_serial(tx, row, ca, now)
    return True


def resolve(intent: Mapping[str, str | int], now: int) -> External[None]:
    """Close the intent of a certificate whose process died: unknown, and revoked."""
    planned = SshCertificate(
        mount_id=str(intent["mount"]),
        issuer_id=str(intent["issuer"]),
        serial=str(intent["serial"]),
        state=CertificateState.INTENT,
        role=str(intent["role"]),
        kind=str(intent["profile"]).removeprefix("ssh-"),
        key_id="",
        principals=(),
        valid_after=int(intent["not_before"]),
        valid_before=int(intent["not_after"]),
        public_key="",
        created_at=now,
    )

    def conclude(tx: Transaction, done: None) -> Result:
        del done
        issuer = tx.get(ISSUERS, f"{planned.mount_id}/{planned.issuer_id}")
        ca = issuer.value.public_key if issuer is not None else ""
        if unissued(tx, planned, ca, now, signed=True):
            return Result(subject={**intent, "state": CertificateState.UNKNOWN}, partial=True)
        return Result(subject=intent)

    return External(intent, lambda _: None, lambda: None, conclude, lambda _tx, _error: None)


def revoke_serial(tx: Transaction, row: Row[SshCertificate], ca: str, now: int) -> None:
    """Mark a certificate on record revoked."""
    certificate = row.value
    tx.replace(CERTIFICATES, row, msgspec.structs.replace(certificate, revoked_at=now))
    revocation = SshRevocation(
        mount_id=certificate.mount_id,
        by=By.SERIAL,
        value=certificate.serial,
        revoked_at=now,
        issuer_id=certificate.issuer_id,
        ca=ca,
        valid_before=certificate.valid_before,
    )
    revoke(tx, revocation, now)


def revoke(tx: Transaction, revocation: SshRevocation, now: int) -> bool:
    """Put something on the KRL; False when it is there already."""
    key = _revocation_key(revocation)
    if tx.get(REVOCATIONS, key) is not None:
        return False
    tx.insert(REVOCATIONS, key, revocation)
    changed(tx, revocation.mount_id, now)
    return True


def changed(tx: Transaction, mount_id: str, now: int) -> None:
    """What is revoked has changed: the next version of the KRL."""
    config = mount_config(tx, mount_id)
    moved = msgspec.structs.replace(config, krl_version=config.krl_version + 1, krl_time=now)
    put(tx, MOUNTS, mount_id, moved)


def revocations(reader: Reader, mount_id: str) -> list[SshRevocation]:
    """All of a mount."""
    return [row.value for row in reader.scan(REVOCATIONS, f"{mount_id}/")]


def _revocation_key(revocation: SshRevocation) -> str:
    named = f"{revocation.issuer_id}\n{revocation.value}".encode()
    return f"{revocation.mount_id}/{revocation.by}/{hashlib.sha256(named).hexdigest()}"
