"""Making roots: with a key born in the HSM, one of the mount, or one of protection software."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from kms.errors import KmsError, integrity, invalid
from kms.ids import new_uuid
from kms.operation import Call, External, Result
from kms.tables import Row, Store, Transaction
from pki import cafields, ledger, marks
from pki.authority import assemble
from pki.cakeys import KeyForm, NewKey, ceremony_key, key_intent, wanted
from pki.crl import CrlMaker
from pki.hsmkey import CaPublicKey, CaToken
from pki.issuers import check_new_names, choose_default, settle, store_issuer
from pki.lint import Linter
from pki.model import (
    Certificate,
    CertificateState,
    Issuer,
    MountConfig,
    PublicCrl,
    Urls,
    serial_hex,
    wire_serial,
)
from pki.profiles import Draft, ca_draft, new_serial
from pki.profiles.ca import CaRequest
from pki.schemes import algorithm_name, scheme_for
from pki.signing import prepare, sign
from pki.store import issuers, mount_config
from pki.validity import Limits, ca_limits, window

NEXT = "next"
PATH_LENGTH_ZERO = (
    "Max path length of the generated certificate is zero. This certificate cannot be used to issue intermediate"
    " CA certificates."
)
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
        """A key and a certificate that it signs itself."""
        args = call.args
        request = cafields.ca_request(args)
        if not list(request.subject):
            raise invalid("a CA needs a subject: give common_name")
        default, maximum = ca_limits(call.mount)
        limits = Limits(now=int(call.now), default_ttl=default, max_ttl=maximum)
        valid, warnings = window(args, cafields.ca_role(args), limits)
        name = str(args.get("issuer_name") or "")
        wish = wanted(call, self.store.reader())
        check_new_names(self.store.reader(), call.mount.id, name, "" if wish.existing else wish.key.name)
        config = mount_config(self.store.reader(), call.mount.id)
        warnings = (*warnings, *wish.warnings)
        act = RootAct(
            ceremonies=self,
            new=ceremony_key(self.token, self.store, call.mount.id, wish),
            request=request,
            valid=valid,
            issuer_name=name,
            config=config,
            now=int(call.now),
            scheme=(int(args.get("signature_bits") or 0), bool(args.get("use_pss"))),
            form=KeyForm.of(args, exported=wish.exported),
            warnings=(
                *warnings,
                *(() if config.urls else (NO_URLS,)),
                *((PATH_LENGTH_ZERO,) if request.path_length == 0 else ()),
            ),
        )
        return External(act.intent(), act.begin, act.perform, act.conclude, act.abandon)

    def rotate(self, call: Call) -> External[Root]:
        """The next root beside the current one: named `next` unless that name is taken."""
        known = issuers(self.store.reader(), call.mount.id)
        if not call.args.get("issuer_name") and not any(issuer.name == NEXT for issuer in known):
            call.args["issuer_name"] = NEXT
        return self.root(call)


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
    scheme: tuple[int, bool]  # signature_bits and use_pss
    form: KeyForm
    warnings: tuple[str, ...]
    issuer_id: str = field(default_factory=new_uuid)
    serial: int = field(default_factory=new_serial)
    row: Row[Certificate] | None = None
    algorithm: str = ""

    def intent(self) -> dict[str, str | int]:
        """Enough to find the object and the serial again."""
        return {**key_intent(self.new), "issuer": self.issuer_id, "serial": serial_hex(self.serial)}

    def begin(self, tx: Transaction) -> None:
        check_new_names(tx, self.new.mount_id, self.issuer_name, self.new.new_name)
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
        self.algorithm = algorithm_name(public, draft.hash_name)
        prepared = prepare(draft, public, self.ceremonies.linter)
        der = sign(prepared, public, self.ceremonies.token, self.new.ref)
        authority = assemble(self.new.mount_id, self._issuer(der), self.new.ref, Urls(), [der])
        return Root(spki, der, self.ceremonies.crls.first(authority, self.config, self.now))

    def _draft(self, spki: bytes, public: CaPublicKey) -> Draft:
        bits, pss = self.scheme
        issuer = (self.request.subject, (), scheme_for(public, bits, pss=pss))
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
            revocation_signature_algorithm=self.algorithm,
        )

    def conclude(self, tx: Transaction, root: Root) -> Result:
        mount_id, serial = self.new.mount_id, serial_hex(self.serial)
        check_new_names(tx, mount_id, self.issuer_name, "")
        self.new.activate(tx, root.spki)
        if self.row is None:
            raise integrity("a root was signed without a recorded intent")
        ledger.issued(tx, self.row, root.der)
        install(tx, mount_id, self._issuer(root.der), root.crl)
        settle(tx, mount_id, self.now)
        text = self.form.document(root.der)
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
        self.form.add_private(data, self.new, "certificate")
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


def install(tx: Transaction, mount_id: str, issuer: Issuer, crl: PublicCrl | None) -> None:
    """Store a new issuer with its first CRL; `settle` follows when all are stored."""
    store_issuer(tx, mount_id, issuer)
    if crl is not None:
        marks.introduce(tx, mount_id, issuer.id, crl)
    choose_default(tx, mount_id, issuer)
