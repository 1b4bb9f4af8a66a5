"""CA certificates from elsewhere: an intermediate's signed certificate, and what completes its chain.

Certificates only. A private key in the data is refused: CA keys are born in the HSM.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kms.errors import KmsError, invalid
from kms.ids import new_uuid
from kms.operation import Call, External, Outcome, Result
from kms.tables import Store, Transaction
from pki.authority import assemble
from pki.bundle import parse_certificates
from pki.ceremony import NO_URLS, install
from pki.crl import CrlMaker
from pki.goodkey import spki_der, spki_hash
from pki.issuers import settle
from pki.model import CaKey, Issuer, PublicCrl, Urls, serial_hex
from pki.store import ISSUERS, KEYS, active_keys, issuers, mount_config

_SHORTEST = 75  # characters; the peer's bound for "that was a path, not a file"


@dataclass(frozen=True)
class Imports:
    """One per process."""

    store: Store
    crls: CrlMaker

    def certificates(self, call: Call) -> Outcome:
        """Add each CA certificate of the bundle that is not known yet.

        One whose key is in this mount becomes a signing issuer and gets its first CRL.
        """
        text = str(call.args.get("certificate") or call.args.get("pem_bundle") or "")
        if not text:
            raise invalid("'pem_bundle' and 'certificate' parameters were empty")
        if len(text) < _SHORTEST:
            raise invalid(
                "provided data for import was too short; perhaps a path was passed to the API"
                " rather than the contents of a PEM file"
            )
        if "PRIVATE KEY" in text:
            raise invalid("private keys are not imported: CA keys are born in the HSM")
        parsed = parse_certificates(text)
        for certificate in parsed:
            _check_ca(certificate)
        return self._plan(call, parsed)

    def _plan(self, call: Call, parsed: list[x509.Certificate]) -> Outcome:
        mount_id, reader = call.mount.id, self.store.reader()
        known = {issuer.certificate: issuer for issuer in issuers(reader, mount_id)}
        keys = {key.spki_hash: key for key in active_keys(reader, mount_id)}
        new: list[tuple[Issuer, CaKey | None]] = []
        mapping: dict[str, str] = {}
        existing = []
        for certificate in parsed:
            der = certificate.public_bytes(Encoding.DER)
            issuer = known.get(der)
            if issuer is not None:
                existing.append(issuer.id)
            else:
                key = keys.get(spki_hash(spki_der(certificate.public_key())))
                issuer = _issuer(certificate, der, key, int(call.now))
                known[der] = issuer
                new.append((issuer, key))
            mapping[issuer.id] = issuer.key_id
        data = {
            "existing_issuers": existing or None,
            "existing_keys": None,
            "imported_issuers": [issuer.id for issuer, _ in new] or None,
            "imported_keys": None,
            "mapping": mapping,
        }
        config = mount_config(reader, mount_id)
        result = Result(
            data=data,
            items=len(new),
            subject={"mount": mount_id, "issuers": ",".join(mapping)},
            warnings=() if config.urls else (NO_URLS,),
        )
        if not new:
            return result

        def perform() -> dict[str, PublicCrl]:
            made = {}
            for issuer, key in new:
                if key is not None:
                    authority = assemble(mount_id, issuer, key, Urls(), [issuer.certificate])
                    made[issuer.id] = self.crls.make(authority, 1, config, int(call.now))
            return made

        def conclude(tx: Transaction, crls: dict[str, PublicCrl]) -> Result:
            _still_valid(tx, mount_id, new)
            for issuer, _ in new:
                install(tx, mount_id, issuer, crls.get(issuer.id))
            settle(tx, mount_id)
            return result

        intent: dict[str, str | int] = {"mount": mount_id, "issuers": ",".join(mapping)}
        return External(intent, _nothing, perform, conclude, _no_trace)


def _nothing(_: Transaction) -> None:
    """No state is planned: until the end an import leaves nothing behind."""


def _no_trace(_tx: Transaction, _error: KmsError) -> None:
    """A CRL that was signed lists nothing and was never published."""


def _still_valid(tx: Transaction, mount_id: str, new: list[tuple[Issuer, CaKey | None]]) -> None:
    stored = {row.value.certificate for row in tx.scan(ISSUERS, f"{mount_id}/")}
    for issuer, key in new:
        if issuer.certificate in stored:
            raise invalid("this certificate was imported by another request just now")
        if key is not None and tx.get(KEYS, f"{mount_id}/{key.id}") is None:
            raise invalid("the key of this certificate was deleted just now")


def _issuer(certificate: x509.Certificate, der: bytes, key: CaKey | None, now: int) -> Issuer:
    return Issuer(
        id=new_uuid(),
        name="",
        key_id=key.id if key is not None else "",
        certificate=der,
        serial=serial_hex(certificate.serial_number),
        not_after=int(certificate.not_valid_after_utc.timestamp()),
        created_at=now,
    )


def _check_ca(certificate: x509.Certificate) -> None:
    try:
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        raise invalid("Refusing to import non-CA certificate") from None
    if not basic.ca or not list(certificate.subject):
        raise invalid("Refusing to import non-CA certificate")
