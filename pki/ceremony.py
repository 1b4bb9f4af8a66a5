"""Making CAs: roots, and requests for intermediates, each with a key born in the HSM."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from kms.errors import KmsError, integrity, invalid
from kms.ids import new_uuid
from kms.operation import Call, External, Result
from kms.tables import Row, Store, Transaction
from pki import cafields, leafkeys, ledger
from pki.authority import assemble, key_ref, pem
from pki.cakeys import NewKey, planned
from pki.crl import CrlMaker
from pki.hsmkey import CaPublicKey, CaToken, HsmSigner, private_key
from pki.issuers import check_new_names, choose_default, settle, store_issuer
from pki.lint import Linter
from pki.model import (
    Certificate,
    CertificateState,
    CrlNumber,
    Issuer,
    MountConfig,
    PublicCrl,
    Urls,
    serial_hex,
    wire_serial,
)
from pki.profiles import Draft, ca_draft, new_serial
from pki.profiles.ca import CaRequest
from pki.profiles.subject import alternative_names
from pki.signing import HASHES, prepare, sign
from pki.store import CRL_NUMBERS, PUBLIC_CRLS, mount_config, put
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
        name = str(args.get("issuer_name") or "")
        key = planned(args, int(call.now))
        check_new_names(self.store.reader(), call.mount.id, name, key.name)
        config = mount_config(self.store.reader(), call.mount.id)
        act = RootAct(
            ceremonies=self,
            new=NewKey(self.token, call.mount.id, key),
            request=request,
            valid=valid,
            issuer_name=name,
            config=config,
            now=int(call.now),
            signature_bits=int(args.get("signature_bits") or 0),
            form=leafkeys.check_format(args),
            warnings=warnings if config.urls else (*warnings, NO_URLS),
        )
        return External(act.intent(), act.begin, act.perform, act.conclude, act.abandon)

    def intermediate(self, call: Call) -> External[tuple[bytes, bytes]]:
        """A new key and a request for a certificate, to be signed elsewhere."""
        args = call.args
        cafields.check_exported(args)
        subject, names = cafields.csr_only(args)
        key = planned(args, int(call.now))
        check_new_names(self.store.reader(), call.mount.id, "", key.name)
        csr = x509.CertificateSigningRequestBuilder().subject_name(subject)
        if names.has_sans:
            csr = csr.add_extension(alternative_names(names), critical=False)
        if args.get("add_basic_constraints"):
            csr = csr.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        act = RequestAct(NewKey(self.token, call.mount.id, key), csr, leafkeys.check_format(args))
        return External(act.intent(), act.begin, act.perform, act.conclude, act.abandon)


@dataclass(frozen=True, slots=True)
class Root:
    """What the HSM made of a root ceremony."""

    spki: bytes
    der: bytes
    crl: PublicCrl


@dataclass
class RootAct:
    """The steps of one root ceremony."""

    ceremonies: Ceremonies
    new: NewKey
    request: CaRequest
    valid: tuple[int, int]
    issuer_name: str
    config: MountConfig
    now: int
    signature_bits: int
    form: str
    warnings: tuple[str, ...]
    issuer_id: str = field(default_factory=new_uuid)
    serial: int = field(default_factory=new_serial)
    row: Row[Certificate] | None = None

    def intent(self) -> dict[str, str | int]:
        """Enough to find the object and the serial again."""
        return {**key_intent(self.new), "issuer": self.issuer_id, "serial": serial_hex(self.serial)}

    def begin(self, tx: Transaction) -> None:
        check_new_names(tx, self.new.mount_id, self.issuer_name, self.new.key.name)
        self.new.plan(tx)
        self.row = ledger.intend(tx, self._planned())

    def _planned(self) -> Certificate:
        return Certificate(
            mount_id=self.new.mount_id,
            serial=serial_hex(self.serial),
            issuer_id=self.issuer_id,
            profile="root",
            state=CertificateState.INTENT,
            not_before=self.valid[0],
            not_after=self.valid[1],
            created_at=self.now,
        )

    def perform(self) -> Root:
        try:
            return self._make()
        except KmsError:
            self.new.discard()
            raise

    def _make(self) -> Root:
        spki, public = self.new.generate()
        draft = self._draft(spki, public)
        prepared = prepare(draft, public, self.ceremonies.linter)
        der = sign(prepared, public, self.ceremonies.token, key_ref(self.new.key))
        authority = assemble(self.new.mount_id, self._issuer(der), self.new.key, Urls(), [der])
        return Root(spki, der, self.ceremonies.crls.make(authority, 1, self.config, self.now))

    def _draft(self, spki: bytes, public: CaPublicKey) -> Draft:
        hash_name = hash_for(public, self.signature_bits)
        issuer = (self.request.subject, (), hash_name)
        return ca_draft(self.request, (public, spki), self.valid, issuer, root=True, serial=self.serial)

    def _issuer(self, der: bytes) -> Issuer:
        return Issuer(
            id=self.issuer_id,
            name=self.issuer_name,
            key_id=self.new.key.id,
            certificate=der,
            serial=serial_hex(self.serial),
            not_after=self.valid[1],
            created_at=self.now,
        )

    def conclude(self, tx: Transaction, root: Root) -> Result:
        mount_id, serial = self.new.mount_id, serial_hex(self.serial)
        check_new_names(tx, mount_id, self.issuer_name, "")
        self.new.activate(tx, root.spki)
        if self.row is None:
            raise integrity("a root was signed without a recorded intent")
        ledger.issued(tx, self.row, root.der)
        install(tx, mount_id, self._issuer(root.der), root.crl)
        settle(tx, mount_id)
        text = base64.b64encode(root.der).decode("ascii") if self.form == "der" else pem(root.der)
        data: dict[str, Any] = {
            "certificate": text,
            "issuing_ca": text,
            "serial_number": wire_serial(serial),
            "expiration": self.valid[1],
            "issuer_id": self.issuer_id,
            "issuer_name": self.issuer_name,
            "key_id": self.new.key.id,
            "key_name": self.new.key.name,
        }
        subject = {
            **self.intent(),
            "sha256": hashlib.sha256(root.der).hexdigest(),
            "crl_number": root.crl.number,
        }
        return Result(data=data, subject=subject, warnings=self.warnings)

    def abandon(self, tx: Transaction, error: KmsError) -> None:
        # Its key is, or will be, destroyed, so a root that was signed nevertheless can issue nothing.
        del error
        self.new.abandon(tx)
        ledger.unissued(tx, self._planned(), self.now, signed=False)


@dataclass
class RequestAct:
    """The steps of one intermediate's request."""

    new: NewKey
    csr: x509.CertificateSigningRequestBuilder
    form: str

    def intent(self) -> dict[str, str | int]:
        """Enough to find the object again."""
        return key_intent(self.new)

    def begin(self, tx: Transaction) -> None:
        check_new_names(tx, self.new.mount_id, "", self.new.key.name)
        self.new.plan(tx)

    def perform(self) -> tuple[bytes, bytes]:
        """SPKI and CSR."""
        try:
            spki, public = self.new.generate()
            signer = HsmSigner(self.new.token, key_ref(self.new.key))
            csr = self.csr.sign(private_key(public, signer), HASHES[hash_for(public)])
            if not csr.is_signature_valid:
                raise integrity("the HSM's signature over a request does not verify")
            return spki, csr.public_bytes(Encoding.DER)
        except KmsError:
            self.new.discard()
            raise

    def conclude(self, tx: Transaction, made: tuple[bytes, bytes]) -> Result:
        spki, csr = made
        self.new.activate(tx, spki)
        text = (
            base64.b64encode(csr).decode("ascii") if self.form == "der" else pem(csr, "CERTIFICATE REQUEST")
        )
        data = {"csr": text, "key_id": self.new.key.id}
        return Result(data=data, subject=self.intent(), warnings=(NO_URLS,))

    def abandon(self, tx: Transaction, error: KmsError) -> None:
        del error
        self.new.abandon(tx)


def key_intent(new: NewKey) -> dict[str, str | int]:
    """The facts of a key that is about to be made."""
    return {
        "mount": new.mount_id,
        "key": new.key.id,
        "cka_id": new.key.cka_id.hex(),
        "spec": str(new.key.spec),
    }


def hash_for(public: CaPublicKey, signature_bits: int = 0) -> str:
    """The digest that goes with a key: by the curve, and for RSA as asked."""
    if isinstance(public, ec.EllipticCurvePublicKey):
        return "sha384" if public.curve.key_size >= 384 else "sha256"
    return {384: "sha384", 512: "sha512"}.get(signature_bits, "sha256")


def install(tx: Transaction, mount_id: str, issuer: Issuer, crl: PublicCrl | None) -> None:
    """Store a new issuer with its first CRL; `settle` follows when all are stored."""
    store_issuer(tx, mount_id, issuer)
    if crl is not None:
        put(tx, CRL_NUMBERS, f"{mount_id}/{issuer.id}", CrlNumber(crl.number))
        put(tx, PUBLIC_CRLS, f"{mount_id}/{issuer.id}", crl)
    choose_default(tx, mount_id, issuer)
