"""Our own gate for OCSP answers: the copy without a signature is read by another's code and compared with what is to be said.

check_ocsp_copy(der, wanted)     raises KmsError(INTEGRITY) naming the field
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from kms.errors import integrity
from pki.crlder import reason_code
from pki.ocspder import Single


@dataclass(frozen=True, slots=True)
class WantedAnswer:
    """What an OCSP answer is to say.

    Args:
        key_hash: SHA-1 of the responder's key.
        certificate: the responder's, DER.
        life: the times (Unix seconds) between which that certificate speaks.
        until: nextUpdate, 0 for none.
    """

    key_hash: bytes
    certificate: bytes
    life: tuple[int, int]
    produced_at: int
    until: int
    said: tuple[Single, ...]
    nonce: bytes

    @property
    def shape(self) -> Hashable:
        """Equal for answers that pass or fail pkilint together."""
        kinds = frozenset(
            (one.certificate.hash_name, one.known, one.revoked_at > 0, one.reason) for one in self.said
        )
        return "ocsp", self.certificate, kinds, len(self.said) > 1, bool(self.nonce), self.until > 0


def check_ocsp_copy(der: bytes, wanted: WantedAnswer) -> None:
    """Every field of the copy. Raises KmsError(INTEGRITY) naming it."""
    try:
        copy = ocsp.load_der_ocsp_response(der)
        _demand(copy.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL, "status of the answer")
        _demand(copy.responder_key_hash == wanted.key_hash, "responder")
        _demand(int(copy.produced_at_utc.timestamp()) == wanted.produced_at, "producedAt")
        _demand(wanted.life[0] <= wanted.produced_at < wanted.life[1], "life of the responder")
        carried = [each.public_bytes(Encoding.DER) for each in copy.certificates]
        _demand(carried == [wanted.certificate], "certificate of the responder")
        nonces = [each.value.nonce for each in copy.extensions if isinstance(each.value, x509.OCSPNonce)]
        _demand(len(copy.extensions) == len(nonces), "extensions")
        _demand(nonces == ([wanted.nonce] if wanted.nonce else []), "nonce")
        singles = list(copy.responses)
        _demand(len(singles) == len(wanted.said), "number of certificates")
        for single, said in zip(singles, wanted.said, strict=True):
            _check_single(single, said, wanted)
    except ValueError as unreadable:
        raise integrity(f"the OCSP answer to sign cannot be read: {unreadable}") from None


def _check_single(single: ocsp.OCSPSingleResponse, said: Single, wanted: WantedAnswer) -> None:
    asked = said.certificate
    _demand(single.issuer_name_hash == asked.name_hash, "name of the issuer")
    _demand(single.issuer_key_hash == asked.key_hash, "key of the issuer")
    _demand(asked.serial in {0, single.serial_number}, "serial number")
    if said.revoked_at:
        _demand(single.certificate_status is ocsp.OCSPCertStatus.REVOKED, "status")
        at = single.revocation_time_utc
        _demand(at is not None and int(at.timestamp()) == said.revoked_at, "time of the revocation")
        reason = single.revocation_reason
        _demand((reason_code(reason.value) if reason is not None else 0) == said.reason, "reason")
    else:
        status = ocsp.OCSPCertStatus.GOOD if said.known else ocsp.OCSPCertStatus.UNKNOWN
        _demand(single.certificate_status is status, "status")
    _demand(int(single.this_update_utc.timestamp()) == wanted.produced_at, "thisUpdate")
    until = single.next_update_utc
    _demand((int(until.timestamp()) if until is not None else 0) == wanted.until, "nextUpdate")
    _demand(not wanted.until or wanted.produced_at < wanted.until <= wanted.life[1], "life of the answer")


def _demand(holds: bool, what: str) -> None:
    if not holds:
        raise integrity(f"the OCSP answer to sign is not the one meant: {what}")
