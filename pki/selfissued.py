"""Certifying a CA that was its own issuer: a bridge for relying parties that trust only our root (RFC 5280 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cryptography import x509

from kms.errors import invalid
from kms.operation import Call, External
from pki import constraints, goodkey
from pki.authority import Authorities, Authority, pem
from pki.bundle import parse_certificate
from pki.goodkey import Blocklist, spki_der
from pki.hsmkey import CaToken
from pki.issuance import Act
from pki.judging import copied, judged, judged_subject
from pki.lint import Linter
from pki.profiles import Draft, new_serial
from pki.schemes import CaPublicKey
from pki.signing import prepare
from pki.subordinate import path_length_below

# What the issuer decides about what it signs; the rest of the given certificate is kept.
_OURS = (
    x509.AuthorityKeyIdentifier,
    x509.AuthorityInformationAccess,
    x509.CRLDistributionPoints,
    x509.FreshestCRL,
    x509.SubjectKeyIdentifier,
)
_KEPT = (
    x509.BasicConstraints,
    x509.KeyUsage,
    x509.ExtendedKeyUsage,
    x509.NameConstraints,
    x509.SubjectAlternativeName,
    x509.CertificatePolicies,
    x509.PolicyConstraints,
    x509.InhibitAnyPolicy,
)


@dataclass(frozen=True)
class SelfIssued:
    """One per process."""

    token: CaToken
    authorities: Authorities
    linter: Linter
    blocklist: Blocklist

    def sign(self, call: Call, issuer_ref: str) -> External[bytes]:
        """The given CA certificate again, issued by this mount: same subject, key and extensions, a new serial.

        Raises:
            KmsError(INVALID): it is no CA certificate that signed itself, or asks for more than the issuer has.
        """
        text = str(call.args.get("certificate") or "")
        if "-----BEGIN CERTIFICATE-----" not in text:
            raise invalid("certificate could not be PEM-decoded")
        given = parse_certificate(text)
        public = self._checked(given)
        authority = self.authorities.signer(call.mount.id, issuer_ref)
        if call.args.get("require_matching_certificate_algorithms") and (
            given.signature_algorithm_oid != authority.certificate.signature_algorithm_oid
        ):
            raise invalid("certificate has a different signature algorithm than the issuing CA")
        constraints.check_subject(given.subject, authority.constraints)
        not_after = int(given.not_valid_after_utc.timestamp())
        not_before = max(int(given.not_valid_before_utc.timestamp()), authority.not_before)
        if not_after <= int(call.now):
            raise invalid("the given certificate has expired")
        serial = new_serial()
        draft = Draft(
            profile="intermediate",
            serial=serial,
            issuer=authority.certificate.subject,
            subject=given.subject,
            not_before=not_before,
            not_after=min(not_after, authority.issuer.not_after),
            public_key=public,
            spki=spki_der(public),
            extensions=_extensions(given, public, authority),
            hash_name=authority.hash_name(),
            shape=("self-issued", serial),
        )

        def finish(der: bytes) -> dict[str, Any]:
            return {"certificate": pem(der), "issuing_ca": authority.pem}

        return Act(
            mount=call.mount,
            now=int(call.now),
            authority=authority,
            prepared=prepare(draft, authority.public_key, self.linter),
            token=self.token,
            finish=finish,
        ).external()

    def _checked(self, given: x509.Certificate) -> CaPublicKey:
        try:
            basic = given.extensions.get_extension_for_class(x509.BasicConstraints).value
        except x509.ExtensionNotFound:
            raise invalid("given certificate is not a CA certificate") from None
        if not basic.ca:
            raise invalid("given certificate is not a CA certificate")
        if given.issuer != given.subject:
            raise invalid("given certificate is not self-issued")
        if not list(given.subject):
            raise invalid("a CA needs a subject")
        judged_subject(given.subject)
        public = goodkey.check(given.public_key(), self.blocklist, lambda _: False)
        if not isinstance(public, CaPublicKey):
            raise invalid("a CA key must be RSA, EC, Ed25519 or ML-DSA")
        return public


def _extensions(
    given: x509.Certificate, public: CaPublicKey, authority: Authority
) -> tuple[tuple[x509.ExtensionType, bool], ...]:
    found: list[tuple[x509.ExtensionType, bool]] = []
    for extension in given.extensions:
        value = extension.value
        if isinstance(value, _OURS):
            continue
        if not isinstance(value, _KEPT):
            raise invalid(
                f"the certificate has an extension that is not carried over: {value.oid.dotted_string}"
            )
        if isinstance(value, x509.BasicConstraints):
            length = path_length_below(value.path_length, authority.path_length)
            found.append((x509.BasicConstraints(ca=True, path_length=length), True))
        else:
            found.append((value, extension.critical or isinstance(value, x509.KeyUsage)))
        if isinstance(value, x509.SubjectAlternativeName):
            constraints.check(judged(given.subject, copied(value)), authority.constraints)
    ski = x509.SubjectKeyIdentifier.from_public_key(public)
    return (*found, (ski, False), *authority.common)
