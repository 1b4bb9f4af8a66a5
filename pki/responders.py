"""Delegated OCSP responders (RFC 6960 2.6, 4.2.2.2): one for each issuer, made when it is first asked.

The issuer signs a certificate for a key born in the HSM that may sign OCSP answers and nothing else. Nobody can
ask whether that certificate was revoked (id-pkix-ocsp-nocheck), so it lives for a week, and in half of that
the jobs process makes another, with another key. The issuer's own key signs no answers.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kms.clock import Clock
from kms.errors import ErrorKind, KmsError, integrity
from kms.operation import Call, External, Result
from kms.tables import Cache, Row, Store, Transaction
from pki import ledger
from pki.authority import Authorities, Authority
from pki.cakeys import NewKey, key_intent, new_key
from pki.cakinds import ca_kind
from pki.freshness import Road
from pki.hsmkey import CaToken
from pki.issuers import give_up_key
from pki.lint import Linter
from pki.model import DAY, CaKey, Certificate, CertificateState, KeyState, Responder, serial_hex, wire_serial
from pki.profiles import Draft, new_serial
from pki.profiles.usages import leaf_key_usage
from pki.schemes import CaPublicKey
from pki.signing import prepare, sign
from pki.store import KEYS, RESPONDERS, put

OPERATION = "pki.ocsp-rotate"
PROFILE = "ocsp-responder"
LIFE = 7 * DAY
SPARE = DAY  # one that ends within this is replaced before it answers again
_USAGE = "ocsp-signing"
_BACKDATED = 300  # for clocks of others that are behind
_MAX_NAME = 64  # ub-common-name


@dataclass
class Responders:
    """One per process. `road` is set by the composition root."""

    store: Store
    token: CaToken
    authorities: Authorities
    linter: Linter
    clock: Clock
    road: Road | None = None
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._known: Cache[Responder] = Cache(self.store, RESPONDERS)
        self._keys: Cache[CaKey] = Cache(self.store, KEYS)

    def get(self, mount_id: str, issuer_id: str) -> tuple[Responder, CaKey] | None:
        """The one that answers now, made first if there is none; None when the issuer may not delegate.

        Raises:
            KmsError: it could not be made (the HSM's, SEALED, the log's).
        """
        found = self._usable(mount_id, issuer_id)
        if found is None and self.road is not None and self._able(mount_id, issuer_id):
            with self._turn:
                found = self._usable(mount_id, issuer_id)
                if found is None:
                    self.road(OPERATION, mount_id, self.making(mount_id, issuer_id))
                    self.store.refresh()
                    found = self._usable(mount_id, issuer_id)
        return found

    def _usable(self, mount_id: str, issuer_id: str) -> tuple[Responder, CaKey] | None:
        row = self._known.get(f"{mount_id}/{issuer_id}")
        if row is None or row.value.not_after < self.clock.now() + SPARE:
            return None
        key = self._keys.get(f"{mount_id}/{row.value.key_id}")
        return (row.value, key.value) if key is not None and key.value.state == KeyState.ACTIVE else None

    def _able(self, mount_id: str, issuer_id: str) -> bool:
        try:
            self.authorities.get(mount_id, issuer_id, _USAGE)
        except KmsError as error:
            if error.kind is not ErrorKind.INVALID:
                raise
            return False
        return True

    def rotate(self, call: Call) -> External[Any]:
        """issuer/:ref/ocsp/rotate: another key and certificate now."""
        issuer = self.authorities.issuer(call.mount.id, str(call.args["issuer_ref"]))
        return self.making(call.mount.id, issuer.id)

    def making(self, mount_id: str, issuer_id: str) -> External[Any]:
        """A new key and certificate. Raises KmsError(INVALID) when the issuer may not delegate."""
        authority = self.authorities.get(mount_id, issuer_id, _USAGE)
        now = int(self.clock.now())
        valid = (max(now - _BACKDATED, authority.not_before), min(now + LIFE, authority.issuer.not_after))
        # Whoever can verify the issuer's signatures can verify these.
        kind = (
            ca_kind("rsa", 2048) if isinstance(authority.public_key, rsa.RSAPublicKey) else ca_kind("ec", 256)
        )
        key = msgspec.structs.replace(new_key(kind, "", now, software=False), responds=True)
        return ResponderAct(self, authority, NewKey(self.token, mount_id, key), valid, now).external()

    def due(self, now: int) -> list[tuple[str, str]]:
        """(mount id, issuer id) of those past half of their life, where the issuer still may delegate."""
        found = []
        for row in self.store.reader().scan(RESPONDERS):
            mount_id, _, issuer_id = row.key.partition("/")
            half = (row.value.not_before + row.value.not_after) // 2
            if now < half or self.authorities.config(mount_id).ocsp_disable:
                continue
            if self._able(mount_id, issuer_id) and self._lives_on(mount_id, issuer_id, row.value):
                found.append((mount_id, issuer_id))
        return found

    def _lives_on(self, mount_id: str, issuer_id: str, responder: Responder) -> bool:
        """Whether a new certificate could live longer: none outlives its issuer."""
        return self.authorities.issuer(mount_id, issuer_id).not_after > responder.not_after


@dataclass
class ResponderAct:
    """The steps of one. Its key exists before it has a certificate, so both are planned in one commit."""

    responders: Responders
    authority: Authority
    new: NewKey
    valid: tuple[int, int]
    now: int
    serial: int = field(default_factory=new_serial)
    row: Row[Certificate] | None = None

    def external(self) -> External[tuple[bytes, bytes]]:
        """For the pipeline. The intent is that of a ceremony, and is undone like one (pki.leftovers)."""
        intent: dict[str, str | int] = {
            **key_intent(self.new),
            "issuer": self.authority.issuer.id,
            "serial": serial_hex(self.serial),
        }
        return External(intent, self.begin, self.perform, self.conclude, self.abandon)

    def begin(self, tx: Transaction) -> None:
        """Plan the key and the serial."""
        self.new.plan(tx)
        self.row = ledger.intend(tx, self._planned())

    def _planned(self) -> Certificate:
        return Certificate(
            mount_id=self.new.mount_id,
            serial=serial_hex(self.serial),
            issuer_id=self.authority.issuer.id,
            profile=PROFILE,
            state=CertificateState.INTENT,
            not_before=self.valid[0],
            not_after=self.valid[1],
            created_at=self.now,
        )

    def perform(self) -> tuple[bytes, bytes]:
        """SPKI and certificate."""
        responders, authority = self.responders, self.authority
        try:
            spki, public = self.new.generate()
            draft = _draft(authority, (public, spki), self.valid, self.serial)
            prepared = prepare(draft, authority.public_key, responders.linter)
            return spki, sign(prepared, authority.public_key, responders.token, authority.ref)
        except KmsError:
            self.new.discard()
            raise

    def conclude(self, tx: Transaction, made: tuple[bytes, bytes]) -> Result:
        """It answers from this commit on; the one before it never again."""
        spki, certificate = made
        if self.row is None:
            raise integrity("a responder was signed without a recorded intent")
        self.new.activate(tx, spki)
        ledger.issued(tx, self.row, certificate)
        key = f"{self.new.mount_id}/{self.authority.issuer.id}"
        before = tx.get(RESPONDERS, key)
        if before is not None:
            give_up_key(tx, self.new.mount_id, before.value.key_id)
        serial = serial_hex(self.serial)
        put(
            tx,
            RESPONDERS,
            key,
            Responder(
                key_id=self.new.key.id,
                certificate=certificate,
                serial=serial,
                not_before=self.valid[0],
                not_after=self.valid[1],
            ),
        )
        subject: dict[str, str | int] = {
            **key_intent(self.new),
            "issuer": self.authority.issuer.id,
            "serial": serial,
            "sha256": hashlib.sha256(certificate).hexdigest(),
        }
        data = {"serial_number": wire_serial(serial), "expiration": self.valid[1]}
        return Result(data=data, subject=subject)

    def abandon(self, tx: Transaction, error: KmsError) -> None:
        """Its key is, or will be, destroyed: a certificate that was signed nevertheless answers nothing."""
        del error
        self.new.abandon(tx)
        ledger.unissued(tx, self._planned(), self.now, signed=False)


def _draft(
    authority: Authority, key: tuple[CaPublicKey, bytes], valid: tuple[int, int], serial: int
) -> Draft:
    public, spki = key
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])
    names = authority.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    named = str(names[0].value) if names else authority.issuer.id  # a CN is text
    name = f"OCSP {named}"[:_MAX_NAME]
    return Draft(
        profile=PROFILE,
        serial=serial,
        issuer=authority.certificate.subject,
        subject=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
        not_before=valid[0],
        not_after=valid[1],
        public_key=public,
        spki=spki,
        extensions=(
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (leaf_key_usage(("DigitalSignature",), "ec"), True),
            (usage, False),
            (x509.OCSPNoCheck(), False),
            authority.common[0],
            (x509.SubjectKeyIdentifier.from_public_key(public), False),
        ),
        hash_name=authority.hash_name(),
        shape=(PROFILE, authority.issuer.id),
    )
