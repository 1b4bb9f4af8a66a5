"""Enrolling and re-enrolling (RFC 7030 4.2): the road of sign/:role, with the request in another dress.

(1) place        offered at all, and under which role
(2) caller       proven (pki.est.callers)
(3) request      a PKCS #10 whose signature holds; a re-enrolment names what the presented certificate names, and so
                 does whoever has no other proof than a certificate
(4) signature    pki.issuance: role, lint, intent, HSM, ledger
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from kms.errors import ErrorKind, KmsError, invalid
from kms.operation import Call, External, Field, Result
from kms.tables import Transaction
from pki.authority import Authority, pem
from pki.est import formats
from pki.est.callers import Caller, Callers
from pki.est.places import Place, Places
from pki.fields import SIGN_FIELDS, VERBATIM_FIELDS
from pki.issuance import Issuance, unpem
from pki.leafkeys import generate
from pki.rolewrite import key_bits
from pki.schemes import CaPrivateKey
from pki.verbatim import Verbatim

BODY = "request"  # the field that holds the body as it came


def _defaults(fields: tuple[Field, ...]) -> Mapping[str, Any]:
    return {field.name: field.default for field in fields}


_SIGN, _VERBATIM = _defaults(SIGN_FIELDS), _defaults(VERBATIM_FIELDS)


@dataclass(frozen=True)
class Enrollment:
    """One per process."""

    places: Places
    callers: Callers
    issuance: Issuance
    verbatim: Verbatim

    def simpleenroll(self, call: Call) -> External[bytes]:
        """A first certificate."""
        place = self.places.of(call)  # (1)
        caller = self.callers.prove(call, place)  # (2)
        csr = _request(call, caller)  # (3)
        return self._signing(call, place, csr)  # (4)

    def simplereenroll(self, call: Call) -> External[bytes]:
        """The next certificate of whoever presents the one before."""
        place = self.places.of(call)  # (1)
        caller = self.callers.prove(call, place)  # (2)
        if caller.certificate is None:
            raise KmsError(
                ErrorKind.DENIED, "re-enrolment needs the certificate that is renewed in the TLS handshake"
            )
        csr = formats.request(str(call.args[BODY]))  # (3)
        _demand_same(csr, caller.certificate)
        return self._signing(call, place, csr)  # (4)

    def serverkeygen(self, call: Call) -> External[bytes]:
        """A certificate for a key that is made here (RFC 7030 4.4); it is in the answer and nowhere else.

        Of the request all counts but its key: that only shows that the client speaks for itself.
        """
        place = self.places.of(call)  # (1)
        caller = self.callers.prove(call, place)  # (2)
        asked = _request(call, caller)  # (3)
        key = _new_key(place)
        return self._signing(call, place, _same_request(asked, key), key)  # (4)

    def _signing(
        self,
        call: Call,
        place: Place,
        csr: x509.CertificateSigningRequest,
        key: CaPrivateKey | None = None,
    ) -> External[bytes]:
        text = pem(csr.public_bytes(Encoding.DER), "CERTIFICATE REQUEST")
        defaults = _SIGN if place.role is not None else _VERBATIM
        args = {**defaults, "role": place.role_name, "csr": text}
        inner = dataclasses.replace(call, args=args, given=frozenset(("csr",)), bound=frozenset())
        sign = self.issuance.sign if place.role is not None else self.verbatim.sign
        signing = sign(inner)
        plain = signing.answer

        def shown(der: bytes, facts: Result) -> Result:
            enrolled = formats.certificates([der], facts)
            return enrolled if key is None else formats.with_key(enrolled, key)

        def conclude(tx: Transaction, der: bytes) -> Result:
            return shown(der, signing.conclude(tx, der))

        def answer(der: bytes) -> Result:
            return shown(der, plain(der) if plain is not None else Result())

        return dataclasses.replace(signing, conclude=conclude, answer=None if plain is None else answer)

    # -- public --------------------------------------------------------------------------------------

    def cacerts(self, call: Call) -> Result:
        """The issuer and what is above it (RFC 7030 4.1)."""
        authority = self._authority(call)
        return formats.certificates(base64.b64decode(unpem(text)) for text in authority.chain)

    def csrattrs(self, call: Call) -> Result:
        """What the role wants of a request."""
        return formats.attributes(self.places.of(call).role)

    def _authority(self, call: Call) -> Authority:
        return self.places.authority(call, self.places.of(call))


def _request(call: Call, caller: Caller) -> x509.CertificateSigningRequest:
    csr = formats.request(str(call.args[BODY]))
    if caller.only_certificate and caller.certificate is not None:
        _demand_same(csr, caller.certificate)
    return csr


def _new_key(place: Place) -> CaPrivateKey:
    """As the role wants it; P-256 where any will do."""
    role = place.role
    kind = role.key_type if role is not None and role.key_type in {"rsa", "ec", "ed25519"} else "ec"
    bits = key_bits(kind, role.key_bits if role is not None and role.key_type == kind else 0)
    return generate(kind, bits)


def _same_request(asked: x509.CertificateSigningRequest, key: CaPrivateKey) -> x509.CertificateSigningRequest:
    """The same wish for another key."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(asked.subject)
    for extension in asked.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256())


def _demand_same(csr: x509.CertificateSigningRequest, old: x509.Certificate) -> None:
    """RFC 7030 4.2.2: Subject and SubjectAltName must be identical."""
    if csr.subject != old.subject or _names(csr.extensions) != _names(old.extensions):
        raise invalid(
            "a certificate renews itself: subject and alternative names must be those of the certificate presented"
        )


def _names(extensions: x509.Extensions) -> frozenset[x509.GeneralName]:
    try:
        return frozenset(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return frozenset()
