"""Revoking: when the answer leaves, no OCSP answer and no CRL fetched after it calls the serial good.

One commit marks the serial revoked and its CRLs as behind. Nothing is signed, so it costs the same however
many are revoked, and needs no HSM: whoever fetches a CRL next has it made first (pki.freshness).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from kms.clock import rfc3339
from kms.errors import ErrorKind, KmsError, invalid
from kms.operation import Call, Change, Outcome, Result
from kms.tables import Reader, Store, Transaction
from pki import ledger
from pki.authority import Authorities
from pki.bundle import parse_certificate
from pki.model import Certificate, CertificateState, Revocation, parse_serial, serial_hex, wire_serial
from pki.possession import check_possession
from pki.shards import shard_of
from pki.store import CERTIFICATES, CRL_SHARDS, REVOCATIONS, issuers


@dataclass(frozen=True)
class RevocationDesk:
    """One per process."""

    store: Store
    authorities: Authorities

    def revoke(self, call: Call) -> Outcome:
        """By `serial_number`, or by `certificate` for those of roles that store nothing.

        Idempotent: the second time it answers the first time's moment.
        """
        return self._revoke(call, self._asked(call))

    def with_key(self, call: Call) -> Outcome:
        """By whoever shows the certificate's private key, which is compared and forgotten."""
        certificate = self._asked(call)
        private = str(call.args.get("private_key") or "")
        if not private:
            raise invalid("Must have private key to revoke via the /revoke-with-key path.")
        check_possession(certificate.certificate, private)
        return self._revoke(call, certificate)

    def _asked(self, call: Call) -> Certificate:
        """The certificate that `serial_number` or `certificate` names. Raises KmsError(INVALID)."""
        given, text = str(call.args.get("serial_number") or ""), str(call.args.get("certificate") or "")
        if given and text:
            raise invalid("Must provide either the certificate or the serial to revoke; not both.")
        if not given and not text:
            raise invalid("The serial number or certificate to revoke must be provided.")
        return self.brought(call.mount.id, text) if text else self._stored(call.mount.id, given)

    def _revoke(self, call: Call, certificate: Certificate) -> Outcome:
        self._check_revocable(certificate, int(call.now))
        if certificate.revoked_at:
            revocation = _revocation(self.store.reader(), certificate, int(call.now))
            return Result(data=_revoked(revocation), subject=_facts(certificate))
        self._demand_that_it_shows(certificate)
        reason = str(call.args.get("reason") or "")

        def mark(tx: Transaction) -> Result:
            revocation = revoke(tx, certificate, int(call.now), reason)
            return Result(data=_revoked(revocation), subject=_facts(certificate))

        return Change(mark)

    def _demand_that_it_shows(self, certificate: Certificate) -> None:
        """A revocation that neither a CRL nor OCSP can ever show is refused."""
        mount_id, issuer_id = certificate.mount_id, certificate.issuer_id
        try:
            self.authorities.get(mount_id, issuer_id, "crl-signing")
        except KmsError as no_list:
            if self.authorities.config(mount_id).ocsp_disable:
                raise
            try:
                self.authorities.get(mount_id, issuer_id, "ocsp-signing")
            except KmsError:
                raise no_list from None

    def _stored(self, mount_id: str, given: str) -> Certificate:
        serial = parse_serial(given)
        row = self.store.reader().get(CERTIFICATES, f"{mount_id}/{serial}") if serial else None
        if row is None:
            raise invalid(f"certificate with serial {given} not found.")
        return row.value

    def brought(self, mount_id: str, text: str) -> Certificate:
        """A certificate in PEM that one of this mount's issuers signed."""
        certificate = parse_certificate(text)
        serial = serial_hex(certificate.serial_number)
        row = self.store.reader().get(CERTIFICATES, f"{mount_id}/{serial}")
        for issuer in issuers(self.store.reader(), mount_id):
            if not issuer.key_id or not _signed_by(certificate, issuer.certificate):
                continue
            shards = self.store.reader().get(CRL_SHARDS, f"{mount_id}/{issuer.id}")
            return Certificate(
                mount_id=mount_id,
                serial=serial,
                issuer_id=issuer.id,
                profile="brought",
                state=CertificateState.ISSUED,
                not_before=int(certificate.not_valid_before_utc.timestamp()),
                not_after=int(certificate.not_valid_after_utc.timestamp()),
                certificate=certificate.public_bytes(Encoding.DER),
                revoked_at=row.value.revoked_at if row is not None else 0,
                shard=shard_of(certificate, issuer.id, shards.value if shards is not None else None),
            )
        raise invalid("this certificate was not signed by an issuer of this mount")

    def _check_revocable(self, certificate: Certificate, now: int) -> None:
        mount_id = certificate.mount_id
        for issuer in issuers(self.store.reader(), mount_id):
            if issuer.serial == certificate.serial and issuer.id == certificate.issuer_id:
                raise invalid(f"adding issuer (id: {issuer.id}) to its own CRL is not allowed")
        allowed = self.authorities.config(mount_id).allow_expired_cert_revocation
        if certificate.not_after < now and not certificate.revoked_at and not allowed:
            raise invalid(
                f"certificate with serial {wire_serial(certificate.serial)} already expired; refusing to add"
                " to CRL. Enable 'AllowExpiredCertRevocation' to allow revoking expired certificates."
            )


def revoke(tx: Transaction, certificate: Certificate, now: int, reason: str = "") -> Revocation:
    """Revoke a serial in the caller's commit; idempotent. A certificate without a row gets one."""
    key = f"{certificate.mount_id}/{certificate.serial}"
    row = tx.get(CERTIFICATES, key) or tx.insert(CERTIFICATES, key, certificate)
    if row.value.revoked_at:  # another request was quicker
        return _revocation(tx, row.value, now)
    return ledger.revoke(tx, row, now, reason)


def _signed_by(certificate: x509.Certificate, issuer: bytes) -> bool:
    try:
        certificate.verify_directly_issued_by(x509.load_der_x509_certificate(issuer))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _revocation(reader: Reader, certificate: Certificate, now: int) -> Revocation:
    key = f"{certificate.mount_id}/{certificate.issuer_id}/{certificate.serial}"
    row = reader.get(REVOCATIONS, key)
    if row is not None:
        return row.value
    if certificate.not_after >= now:
        raise KmsError(ErrorKind.INTEGRITY, f"serial {certificate.serial} is revoked but has no revocation")
    # Tidied away: it expired, and a CRL after its end has listed it.
    return Revocation(
        mount_id=certificate.mount_id,
        issuer_id=certificate.issuer_id,
        serial=certificate.serial,
        revoked_at=certificate.revoked_at,
        not_after=certificate.not_after,
        crl_number=0,
    )


def _facts(certificate: Certificate) -> dict[str, str | int]:
    return {"serial": certificate.serial, "issuer": certificate.issuer_id}


def _revoked(revocation: Revocation) -> dict[str, Any]:
    return {
        "revocation_time": revocation.revoked_at,
        "revocation_time_rfc3339": rfc3339(revocation.revoked_at),
        "state": "revoked",
    }
