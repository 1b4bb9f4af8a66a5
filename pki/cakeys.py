"""CA key pairs: planned in the database, made in the HSM, then active.

The row of a key, with our CKA_ID, is committed before the HSM makes the object, so that every object
has a row (I5). A ceremony that fails destroys its object if it can; `pki.leftovers` destroys the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from kms.errors import ErrorKind, KmsError, integrity
from kms.hsm import KeySpec, Purpose
from kms.ids import CkaId, new_cka_id, new_uuid
from kms.tables import Transaction
from pki.goodkey import spki_hash
from pki.hsmkey import CaPublicKey, CaToken, ca_spec
from pki.model import CaKey, KeyState
from pki.store import KEYS, MOUNTS, mount_config, put


def planned(args: Mapping[str, Any], now: int) -> CaKey:
    """A key as asked for. Raises KmsError(INVALID) for a type that no CA here has."""
    spec = ca_spec(str(args.get("key_type") or "rsa"), int(args.get("key_bits") or 0))
    return CaKey(
        id=new_uuid(),
        name=str(args.get("key_name") or ""),
        spec=spec,
        cka_id=bytes(new_cka_id()),
        state=KeyState.PLANNED,
        created_at=now,
    )


@dataclass(frozen=True)
class NewKey:
    """One key of one mount on its way into the HSM."""

    token: CaToken
    mount_id: str
    key: CaKey

    @property
    def label(self) -> str:
        """CKA_LABEL: lets an operator, and the search for leftovers, tell whose object it is."""
        return f"pki/{self.mount_id}/{self.key.id}"

    def plan(self, tx: Transaction) -> None:
        """Commit the row first."""
        tx.insert(KEYS, f"{self.mount_id}/{self.key.id}", self.key)

    def generate(self) -> tuple[bytes, CaPublicKey]:
        """Make the object. Returns SubjectPublicKeyInfo and public key."""
        spki = self.token.generate(
            Purpose.CA_SIGN, KeySpec(self.key.spec), CkaId(self.key.cka_id), self.label
        )
        public = load_der_public_key(spki)
        if not isinstance(public, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
            raise integrity("the HSM made a key of another type than asked for")
        return spki, public

    def activate(self, tx: Transaction, spki: bytes) -> None:
        """The object exists and has signed.

        Raises:
            KmsError(CONFLICT): somebody gave the plan up meanwhile.
        """
        row = tx.get(KEYS, f"{self.mount_id}/{self.key.id}")
        if row is None or row.value.state != KeyState.PLANNED:
            raise KmsError(ErrorKind.CONFLICT, "the making of this key was given up meanwhile; start again")
        tx.replace(
            KEYS,
            row,
            msgspec.structs.replace(row.value, state=KeyState.ACTIVE, spki=spki, spki_hash=spki_hash(spki)),
        )
        config = mount_config(tx, self.mount_id)
        if not config.default_key:
            put(tx, MOUNTS, self.mount_id, msgspec.structs.replace(config, default_key=self.key.id))

    def discard(self) -> None:
        """Destroy the object of a failed ceremony; if the HSM does not answer, leftovers do it later."""
        try:
            if self.token.exists(CkaId(self.key.cka_id)):
                self.token.destroy(CkaId(self.key.cka_id))
        except KmsError as error:
            if error.kind is not ErrorKind.HSM_UNAVAILABLE:
                raise

    def abandon(self, tx: Transaction) -> None:
        """Leave a note: an object may be there that nobody wants."""
        row = tx.get(KEYS, f"{self.mount_id}/{self.key.id}")
        if row is not None and row.value.state == KeyState.PLANNED:
            tx.replace(KEYS, row, msgspec.structs.replace(row.value, state=KeyState.ABANDONED))
