"""Requests for certificates of intermediates, to be signed by another CA: with a new key or one of the mount."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kms.errors import KmsError, integrity
from kms.operation import Call, External, Result
from kms.tables import Store, Transaction
from pki import cafields, schemes
from pki.cakeys import KeyForm, NewKey, ceremony_key, key_intent, wanted
from pki.hsmkey import CaToken, HsmSigner, private_key
from pki.issuers import check_new_names
from pki.profiles.subject import alternative_names
from pki.schemes import scheme_for
from pki.store import mount_config

NO_URLS_HERE = (
    "This mount hasn't configured any authority information access (AIA) fields; this may make it harder for"
    " systems to find missing certificates in the chain or to validate revocation status of certificates."
    " Consider updating /config/urls or the newly generated issuer with this information. Since this certificate"
    " is an intermediate, it might be useful to regenerate this certificate after fixing this problem for the"
    " root mount."
)


@dataclass(frozen=True)
class Requests:
    """One per process."""

    store: Store
    token: CaToken

    def intermediate(self, call: Call) -> External[tuple[bytes, bytes]]:
        """A request signed with a new key, or with one of the mount (`existing`)."""
        args = call.args
        wish = wanted(call, self.store.reader())
        check_new_names(self.store.reader(), call.mount.id, "", "" if wish.existing else wish.key.name)
        act = RequestAct(
            ceremony_key(self.token, self.store, call.mount.id, wish),
            _request(args),
            KeyForm.of(args, exported=wish.exported),
            (int(args.get("signature_bits") or 0), bool(args.get("use_pss"))),
            wish.warnings
            if mount_config(self.store.reader(), call.mount.id).urls
            else (*wish.warnings, NO_URLS_HERE),
        )
        return External(act.intent(), act.begin, act.perform, act.conclude, act.abandon)

    def cross_sign(self, call: Call) -> External[tuple[bytes, bytes]]:
        """A request with a key that the mount has, so that another CA can certify the same key."""
        call.args["exported"] = "existing"
        return self.intermediate(call)


def _request(args: Mapping[str, Any]) -> x509.CertificateSigningRequestBuilder:
    subject, names = cafields.csr_only(args)
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names.has_sans:
        csr = csr.add_extension(alternative_names(names), critical=False)
    if args.get("add_basic_constraints"):
        csr = csr.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return csr


@dataclass
class RequestAct:
    """The steps of one intermediate's request."""

    new: NewKey
    csr: x509.CertificateSigningRequestBuilder
    form: KeyForm
    scheme: tuple[int, bool]  # signature_bits and use_pss
    warnings: tuple[str, ...]

    def intent(self) -> dict[str, str | int]:
        """Enough to find the object again."""
        return key_intent(self.new)

    def begin(self, tx: Transaction) -> None:
        check_new_names(tx, self.new.mount_id, "", self.new.new_name)
        self.new.plan(tx)

    def perform(self) -> tuple[bytes, bytes]:
        """SPKI and CSR."""
        try:
            spki, public = self.new.generate()
            key = private_key(public, HsmSigner(self.new.token, self.new.ref))
            bits, pss = self.scheme
            csr: x509.CertificateSigningRequest = schemes.build(
                self.csr, key, scheme_for(public, bits, pss=pss)
            )
            if not csr.is_signature_valid:
                raise integrity("the HSM's signature over a request does not verify")
            return spki, csr.public_bytes(Encoding.DER)
        except KmsError:
            self.new.discard()
            raise

    def conclude(self, tx: Transaction, made: tuple[bytes, bytes]) -> Result:
        spki, csr = made
        self.new.activate(tx, spki)
        data: dict[str, Any] = {
            "csr": self.form.document(csr, "CERTIFICATE REQUEST"),
            "key_id": self.new.key.id,
        }
        self.form.add_private(data, self.new, "csr")
        return Result(data=data, subject=self.intent(), warnings=self.warnings)

    def abandon(self, tx: Transaction, error: KmsError) -> None:
        del error
        self.new.abandon(tx)
