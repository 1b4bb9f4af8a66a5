"""Keeping the audit log: sequencing, checkpoints signed by the HSM, recovery of dead writers.

The log key is born at init, so there is nothing to sign with before; segments fill meanwhile, and the
first step after init takes them in. While the server is sealed the tree still grows; its checkpoints are
signed as soon as the HSM is open again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from kms.audit.sequencer import Sequencer, Snapshot
from kms.clock import Clock
from kms.errors import ErrorKind, KmsError, integrity
from kms.keys.roots import LogKeyRef, Roots
from kms.tables import Store


class HsmLogSigner:
    """A private key of the log: an Ed25519 pair in a token, or under its seal (kms.audit.note.LogSigner)."""

    def __init__(self, roots: Roots, ref: LogKeyRef) -> None:
        self._roots = roots
        self._row = ref.row
        key = load_der_public_key(ref.public)
        if not isinstance(key, Ed25519PublicKey):
            raise integrity("the log key is not an Ed25519 key")
        self._public = key.public_bytes_raw()

    @property
    def public(self) -> bytes:
        """Raw 32 bytes."""
        return self._public

    def sign(self, message: bytes) -> bytes:
        """Signature by the HSM. Raises KmsError(HSM_UNAVAILABLE, SEALED)."""
        return self._roots.sign_log(self._row, message)


class LogKeeper:
    """Owns the sequencer of the jobs process.

    Args:
        folder: the audit folder.
        snapshot: what heartbeats say about the database.
    """

    def __init__(
        self,
        folder: Path,
        store: Store,
        roots: Roots,
        clock: Clock,
        *,
        origin: str,
        snapshot: Callable[[], Snapshot],
    ) -> None:
        self._folder = folder
        self._store = store
        self._roots = roots
        self._clock = clock
        self._origin = origin
        self._snapshot = snapshot
        self._sequencer: Sequencer | None = None

    def step(self) -> None:
        """Take in what the segments gained, and sign. Nothing before init.

        Raises:
            KmsError: tried again at the next step; CONFLICT when another process sequences.
        """
        sequencer = self._sequencer or self._start()
        if sequencer is None:
            return
        step = sequencer.step()
        if step.broken:
            names = ", ".join(sorted(step.broken))
            raise integrity(f"audit segments cannot be sequenced: {names}; run 'keystead audit verify'")
        if step.unsigned_because:
            raise KmsError(ErrorKind.HSM_UNAVAILABLE, f"checkpoint not signed: {step.unsigned_because}")

    def stop(self) -> None:
        """Take what is left and write the last leaf of a clean stop."""
        if self._sequencer is not None:
            self._sequencer.stop()
            self._sequencer = None

    def _start(self) -> Sequencer | None:
        try:
            first = self._signers()[0]
        except KmsError as error:
            if error.kind is ErrorKind.UNINITIALIZED:
                return None
            raise
        sequencer = Sequencer(
            self._folder,
            self._store,
            first,
            self._clock,
            origin=self._origin,
            snapshot=self._snapshot,
            signers=self._signers,
        )
        sequencer.start()
        self._sequencer = sequencer
        return sequencer

    def _signers(self) -> list[HsmLogSigner]:
        return [HsmLogSigner(self._roots, ref) for ref in self._roots.log_keys()]
