"""Asking an authority whether a certificate is still good (OCSP, RFC 6960), and believing its signature only.

An answer counts when it is about this very certificate (issuer's name and key, and serial), is signed by the issuer, or by
a responder that the issuer, or an authority of the operator's choice, has certified for that, and is current.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable
from enum import StrEnum
from http import HTTPStatus
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from kms.errors import KmsError
from kms.identity.cert.store import Trusted
from kms.identity.cert.trust import certificates, in_force
from kms.identity.outward import UnreachableError, ask, check_signed_url, trusting

SKEW: Final = 300.0  # seconds
MAX_SERVERS: Final = 5
DEFAULT_CACHE: Final = 100
_NONCE_BYTES: Final = 16


class Verdict(StrEnum):
    """What the responders say."""

    GOOD = "good"
    REVOKED = "revoked"
    UNKNOWN = "unknown"  # none could be asked, or none knows


class Responders:
    """Asks, and keeps answers as long as they say. One per process, safe to use from several threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[bytes, int], tuple[Verdict, float]] = OrderedDict()
        self._lock = threading.Lock()

    def verdict(
        self, entry: Trusted, leaf: x509.Certificate, issuer: x509.Certificate, now: float, size: int
    ) -> Verdict:
        """What is known of the certificate.

        Args:
            entry: says which servers are asked, and whose responders are believed.
            leaf: the certificate.
            issuer: whose key signed it: the caller has verified that.
            now: seconds since the epoch.
            size: answers that are kept; 0 for the default.
        """
        key = (issuer.fingerprint(hashes.SHA256()), leaf.serial_number)
        with self._lock:
            kept = self._kept.get(key)
        if kept is not None and kept[1] > now:
            return kept[0]
        believed = [issuer, *certificates(entry.ocsp_ca_certificates)]
        found, until = Verdict.UNKNOWN, 0.0
        for url, guarded in _servers(entry, leaf):
            said, ends = _asked(url, leaf, issuer, believed, now, guarded=guarded)
            if said is Verdict.REVOKED:
                return said  # and never kept: it is dear only to whom it concerns
            if entry.ocsp_query_all_servers and said is Verdict.UNKNOWN:
                return said
            if said is Verdict.GOOD:
                found, until = said, min(until or ends, ends)
                if not entry.ocsp_query_all_servers:
                    break
        if found is Verdict.GOOD:
            self._keep(key, found, until, size or DEFAULT_CACHE)
        return found

    def _keep(self, key: tuple[bytes, int], verdict: Verdict, until: float, size: int) -> None:
        with self._lock:
            self._kept[key] = (verdict, until)
            self._kept.move_to_end(key)
            while len(self._kept) > size:
                self._kept.popitem(last=False)


def _servers(entry: Trusted, leaf: x509.Certificate) -> list[tuple[str, bool]]:
    """(URL, whether the certificate chose it)."""
    if entry.ocsp_servers_override:
        return [(url, False) for url in entry.ocsp_servers_override[:MAX_SERVERS]]
    try:
        access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return []
    places = [
        each.access_location.value
        for each in access
        if each.access_method == AuthorityInformationAccessOID.OCSP
        and isinstance(each.access_location, x509.UniformResourceIdentifier)
    ]
    return [(place, True) for place in places[:MAX_SERVERS]]


def _asked(
    url: str,
    leaf: x509.Certificate,
    issuer: x509.Certificate,
    believed: Iterable[x509.Certificate],
    now: float,
    *,
    guarded: bool,
) -> tuple[Verdict, float]:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    # SHA-1 names the issuer here and protects nothing; it is the one hash that every responder knows (RFC 5019).
    request = (
        ocsp.OCSPRequestBuilder()
        .add_certificate(leaf, issuer, hashes.SHA1())  # noqa: S303  (see above)
        .add_extension(x509.OCSPNonce(nonce), critical=False)
        .build()
    )
    try:
        check_signed_url(url)
        answer = ask(
            url,
            context=trusting(""),
            body=request.public_bytes(Encoding.DER),
            headers={"Content-Type": "application/ocsp-request", "Accept": "application/ocsp-response"},
            guarded=guarded,
        )
        if answer.status != HTTPStatus.OK:
            return Verdict.UNKNOWN, 0.0
        return judged(ocsp.load_der_ocsp_response(answer.body), request, nonce, believed, now)
    except (UnreachableError, KmsError, ValueError, UnsupportedAlgorithm):
        return Verdict.UNKNOWN, 0.0


def judged(
    response: ocsp.OCSPResponse,
    request: ocsp.OCSPRequest,
    nonce: bytes,
    believed: Iterable[x509.Certificate],
    now: float,
) -> tuple[Verdict, float]:
    """(what the response says of the certificate that was asked about, until when).

    Raises:
        ValueError, UnsupportedAlgorithm: it holds something that cannot be read.
    """
    nothing = Verdict.UNKNOWN, 0.0
    if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        return nothing
    if not _signed(response, believed, now) or not _nonce_fits(response, nonce):
        return nothing
    for single in response.responses:
        about = (single.serial_number, single.issuer_name_hash, single.issuer_key_hash)
        if about != (request.serial_number, request.issuer_name_hash, request.issuer_key_hash):
            continue
        starts, ends = single.this_update_utc.timestamp(), now
        if single.next_update_utc is not None:
            ends = single.next_update_utc.timestamp()
        if starts > now + SKEW or ends < now - SKEW:
            continue
        if single.certificate_status is ocsp.OCSPCertStatus.REVOKED:
            return Verdict.REVOKED, ends
        if single.certificate_status is ocsp.OCSPCertStatus.GOOD:
            return Verdict.GOOD, ends
    return nothing


def _nonce_fits(response: ocsp.OCSPResponse, nonce: bytes) -> bool:
    """A responder may leave the nonce out (most answer from a cache), but not answer with another."""
    try:
        said = response.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce
    except x509.ExtensionNotFound:
        return True
    return said == nonce


def _signed(response: ocsp.OCSPResponse, believed: Iterable[x509.Certificate], now: float) -> bool:
    for authority in believed:
        if _verifies(response, authority):
            return True
        for responder in response.certificates:
            if _certified(responder, authority, now) and _verifies(response, responder):
                return True
    return False


def _certified(responder: x509.Certificate, authority: x509.Certificate, now: float) -> bool:
    try:
        responder.verify_directly_issued_by(authority)
        usages = responder.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.ExtensionNotFound):
        return False
    return ExtendedKeyUsageOID.OCSP_SIGNING in set(usages) and in_force(responder, now)


def _verifies(response: ocsp.OCSPResponse, signer: x509.Certificate) -> bool:
    key, signature, text = signer.public_key(), response.signature, response.tbs_response_bytes
    algorithm = response.signature_hash_algorithm
    try:
        if isinstance(key, rsa.RSAPublicKey) and algorithm is not None:
            key.verify(signature, text, padding.PKCS1v15(), algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey) and algorithm is not None:
            key.verify(signature, text, ec.ECDSA(algorithm))
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, text)
        else:
            return False
    except (InvalidSignature, UnsupportedAlgorithm):
        return False
    return not isinstance(algorithm, hashes.SHA1 | hashes.MD5)
