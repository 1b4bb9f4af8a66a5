"""What this installation is: its id, how it was initialised, and the durable seal latch."""

from __future__ import annotations

import hmac
from hashlib import sha256

import msgspec

from kms.errors import ErrorKind, KmsError
from kms.sensitive import ACCESS, Sensitive
from kms.tables import Reader, Row, Table, Transaction

_KEY = "instance"
RECOVERY_CHOICES = ("none", "hsm-backup", "quorum")


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """Readable before the HSM is open; holds nothing secret.

    Args:
        sealed: the latch of sys/seal: survives restarts, lifted by a quorum only.
        recovery: what can be done when the HSM is lost, chosen at init (none, hsm-backup, quorum).
        recovery_public: HPKE public key of the custodians, under `quorum`.
        epoch: number of its audit log; a recovery, which gives it another log key, begins the next.
        recovering: a recovery has switched to the new HSM, and files have still to be moved.
    """

    id: str
    cluster_name: str
    created: float
    initialized: bool = False
    sealed: bool = False
    recovery: str = "none"
    shares: int = 0
    threshold: int = 0
    recovery_public: bytes = b""
    epoch: int = 1
    recovering: bool = False


class Custody(msgspec.Struct, frozen=True, kw_only=True):
    """The verifier of the custodians' secret; a sealed row, so that nobody can replace it."""

    verifier: bytes


INSTANCE = Table("instance", "instance", Instance, sealed=False)
CUSTODY = Table("custody", "custody", Custody, digest="system")


def read_instance(reader: Reader) -> Row[Instance] | None:
    """The one row, or None before the first init."""
    return reader.get(INSTANCE, _KEY)


def insert_instance(tx: Transaction, instance: Instance) -> None:
    """Add the one row."""
    tx.insert(INSTANCE, _KEY, instance)


def verifier(secret: Sensitive) -> bytes:
    """What is kept of the custodians' 256-bit secret: a hash, enough to recognise it."""
    return sha256(b"keystead custodians\x00" + secret.reveal(ACCESS)).digest()


def insert_custody(tx: Transaction, secret: Sensitive) -> None:
    """Store the verifier."""
    tx.insert(CUSTODY, _KEY, Custody(verifier=verifier(secret)))


def replace_custody(tx: Transaction, secret: Sensitive) -> None:
    """Store the verifier of a new secret in place of the old one."""
    row = tx.get(CUSTODY, _KEY)
    if row is None:
        raise KmsError(ErrorKind.INTEGRITY, "the custodians' verifier is missing from the database")
    tx.replace(CUSTODY, row, Custody(verifier=verifier(secret)))


def check_custody(reader: Reader, secret: Sensitive) -> None:
    """Raise KmsError(INVALID) unless this is the custodians' secret."""
    row = reader.get(CUSTODY, _KEY)
    if row is None:
        raise KmsError(ErrorKind.INTEGRITY, "the custodians' verifier is missing from the database")
    if not hmac.compare_digest(row.value.verifier, verifier(secret)):
        raise KmsError(
            ErrorKind.INVALID, "the shares do not open this server: one of them is wrong; start again"
        )
