"""Making CAs: keys born in the HSM, roots, requests for intermediates, imported certificates.

The row of a key, with our CKA_ID, is committed before the HSM makes the object, so that every object
has a row (I5). A ceremony that fails destroys its object if it can; what is left over is destroyed by
`Leftovers` (pki.leftovers), which also closes ceremonies that a crash cut short.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from kms.errors import ErrorKind, KmsError, integrity, invalid
from kms.hsm import KeySpec, Purpose
from kms.ids import CkaId, new_cka_id, new_uuid
from kms.operation import Call, External, Result
from kms.tables import Store, Transaction
from pki import cafields, leafkeys, ledger
from pki.authority import assemble, key_ref, pem
from pki.crl import CrlMaker
from pki.goodkey import spki_hash
from pki.hsmkey import CaPublicKey, CaToken, HsmSigner, ca_spec, private_key
from pki.issuers import check_new_names, choose_default, settle, store_issuer
from pki.lint import Linter
from pki.model import (
    CaKey,
    Certificate,
    CertificateState,
    CrlNumber,
    Issuer,
    KeyState,
    MountConfig,
    PublicCrl,
    Urls,
    serial_hex,
    wire_serial,
)
from pki.profiles import Draft, ca_draft, new_serial
from pki.profiles.ca import CaRequest
from pki.signing import HASHES, prepare, sign
from pki.store import CRL_NUMBERS, KEYS, PUBLIC_CRLS, mount_config, put
from pki.validity import Limits, ca_limits, window

NO_URLS = (
    "This mount hasn't configured any authority information access (AIA) fields; this may make it harder for"
    " systems to find missing certificates in the chain or to validate revocation status of certificates."
    " Consider updating /config/urls or the newly generated issuer with this information."
)


@dataclass(frozen=True)
class Ceremonies:
    """One per process."""

    store: Store
    token: CaToken
    linter: Linter
    crls: CrlMaker

    def root(self, call: Call) -> External[Root]:
        """A new key and a certificate that it signs itself."""
        args = call.args
        cafields.check_exported(args)
        request = cafields.ca_request(args)
        if not list(request.subject):
            raise invalid("a CA needs a subject: give common_name")
        default, maximum = ca_limits(call.mount)
        limits = Limits(now=int(call.now), default_ttl=default, max_ttl=maximum)
        valid, warnings = window(args, cafields.CA_ROLE, limits)
        key = self._planned(call)
        issuer_name = str(args.get("issuer_name") or "")
        check_new_names(self.store.reader(), call.mount.id, issuer_name, key.name)
        act = RootAct(self, call, key, request, valid, issuer_name, warnings, leafkeys.check_format(args))
        return act.external()

    def intermediate(self, call: Call) -> External[tuple[bytes, bytes]]:
        """A new key and a request for a certificate, to be signed elsewhere."""
        cafields.check_exported(call.args)
        subject, names = cafields.csr_only(call.args)
        key = self._planned(call)
        check_new_names(self.store.reader(), call.mount.id, "", key.name)
        act = RequestAct(self, call, key, subject, names, leafkeys.check_format(call.args))
        return act.external()

    def _planned(self, call: Call) -> CaKey:
        args = call.args
        spec = ca_spec(str(args.get("key_type") or "rsa"), int(args.get("key_bits") or 0))
        return CaKey(
            id=new_uuid(),
            name=str(args.get("key_name") or ""),
            spec=spec,
            cka_id=bytes(new_cka_id()),
            state=KeyState.PLANNED,
            created_at=int(call.now),
        )

    def generate(self, mount_id: str, key: CaKey) -> tuple[bytes, CaPublicKey]:
        """Make the object. Returns its SPKI and public key."""
        cka_id = CkaId(key.cka_id)
        spki = self.token.generate(Purpose.CA_SIGN, KeySpec(key.spec), cka_id, f"pki/{mount_id}/{key.id}")
        public = load_der_public_key(spki)
        if not isinstance(public, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
            raise integrity("the HSM made a key of another type than asked for")
        return spki, public

    def discard(self, key: CaKey) -> None:
        """Destroy the object of a failed ceremony; if the HSM does not answer, leftovers do it later."""
        try:
            if self.token.exists(CkaId(key.cka_id)):
                self.token.destroy(CkaId(key.cka_id))
        except KmsError as error:
            if error.kind is not ErrorKind.HSM_UNAVAILABLE:
                raise


def plan_key(tx: Transaction, mount_id: str, key: CaKey) -> None:
    """The row comes before the object."""
    tx.insert(KEYS, f"{mount_id}/{key.id}", key)


def activate_key(tx: Transaction, mount_id: str, key: CaKey, spki: bytes) -> CaKey:
    """The object exists and works. Raises KmsError(CONFLICT) when somebody gave the plan up."""
    row = tx.get(KEYS, f"{mount_id}/{key.id}")
    if row is None or row.value.state != KeyState.PLANNED:
        raise KmsError(ErrorKind.CONFLICT, "the making of this key was given up meanwhile; start again")
    active = msgspec.structs.replace(
        row.value, state=KeyState.ACTIVE, spki=spki, spki_hash=spki_hash(spki)
    )
    tx.replace(KEYS, row, active)
    config = mount_config(tx, mount_id)
    if not config.default_key:
        put(tx, MOUNTS_TABLE, mount_id, msgspec.structs.replace(config, default_key=key.id))
    return active


def abandon_key(tx: Transaction, mount_id: str, key: CaKey) -> None:
    """Leave a note for `Leftovers`: an object may be there that nobody wants."""
    row = tx.get(KEYS, f"{mount_id}/{key.id}")
    if row is not None and row.value.state == KeyState.PLANNED:
        tx.replace(KEYS, row, msgspec.structs.replace(row.value, state=KeyState.ABANDONED))
