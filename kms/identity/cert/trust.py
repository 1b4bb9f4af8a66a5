"""Is what the client presented good for an entry? Pure; the path is built and judged by `cryptography`'s verifier.

An authority's entry wants a path (RFC 5280) from the client's certificate to one of its certificates. A certificate that is
itself trusted is compared byte by byte: another one with its name, serial or key is another one.
"""

# mypy: allow-untyped-calls
# asn1crypto has no types.

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Final

from asn1crypto import core
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from kms import strangers
from kms.errors import invalid
from kms.identity.cert.store import Trusted
from kms.identity.globs import among, matches
from kms.identity.jwt.token import fitting

MAX_CHAIN: Final = 8
_CLIENT: Final = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
# What clients of meshes and of older authorities lack, the peer does not ask for either: a name in the SAN.
_LEAVES = ExtensionPolicy.webpki_defaults_ee().may_be_present(
    x509.SubjectAlternativeName, Criticality.AGNOSTIC, None
)
_AUTHORITIES = ExtensionPolicy.webpki_defaults_ca()

_KEYS = (rsa.RSAPublicKey, ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey)

Chain = tuple[x509.Certificate, ...]
"""The client's own first, then its issuers as far as the one that is trusted."""


def presented(ders: Sequence[bytes]) -> Chain:
    """The certificates that the client showed.

    Raises:
        KmsError(INVALID): none, too many, or one that cannot be read.
    """
    if not ders:
        raise invalid(
            "client certificate must be supplied: none came in the TLS handshake, nor from a trusted proxy"
        )
    if len(ders) > MAX_CHAIN:
        raise invalid(f"a client presents at most {MAX_CHAIN} certificates")
    try:
        return tuple(strangers.certificate(der) for der in ders)
    except strangers.Unreadable:
        raise invalid("the client certificate cannot be read") from None


def certificates(pem: str) -> list[x509.Certificate]:
    """All of a PEM text; none for a text that holds none. Raises KmsError(INVALID) for a broken one."""
    if "-----BEGIN CERTIFICATE-----" not in pem:
        return []
    try:
        return x509.load_pem_x509_certificates(pem.encode("utf-8", "surrogatepass"))
    except ValueError:
        raise invalid("failed to parse certificate") from None


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether it may issue others."""
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except x509.ExtensionNotFound:
        return False


def path(entry: Trusted, shown: Chain, now: float) -> Chain | None:
    """How the client's certificate is trusted by this entry; None when it is not."""
    own = certificates(entry.certificate)
    leaf = shown[0]
    key = leaf.public_key()
    if not isinstance(key, _KEYS) or not fitting(key):
        return None
    if any(one.public_bytes(Encoding.DER) == leaf.public_bytes(Encoding.DER) for one in own):
        return (leaf,) if in_force(leaf, now) and for_clients(leaf) else None
    if not own or not is_authority(own[0]):
        return None
    verifier = (
        PolicyBuilder()
        .store(Store(own))
        .time(dt.datetime.fromtimestamp(now, dt.UTC).replace(tzinfo=None))
        .max_chain_depth(MAX_CHAIN)
        .extension_policies(ca_policy=_AUTHORITIES, ee_policy=_LEAVES)
        .build_client_verifier()
    )
    try:
        return tuple(verifier.verify(leaf, list(shown[1:])).chain)
    except VerificationError:
        return None


def issuer_of(entry: Trusted, chain: Chain) -> x509.Certificate | None:
    """Who signed the client's certificate: the next of the chain; for one that is itself trusted, whoever the entry names."""
    if len(chain) > 1:
        return chain[1]
    for candidate in certificates(entry.certificate) + certificates(entry.ocsp_ca_certificates):
        try:
            chain[0].verify_directly_issued_by(candidate)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return candidate
    return None


def in_force(certificate: x509.Certificate, now: float) -> bool:
    """Whether it is valid now; the last second counts."""
    return (
        certificate.not_valid_before_utc.timestamp() <= now < certificate.not_valid_after_utc.timestamp() + 1
    )


def for_clients(certificate: x509.Certificate) -> bool:
    """Whether its extended key usage, if it has one, allows TLS clients."""
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return bool(_CLIENT & set(usages))


def constraints(entry: Trusted, leaf: x509.Certificate) -> bool:
    """Whether the certificate says what the entry demands; an empty list demands nothing."""
    name = common_name(leaf)
    dns = _sans(leaf, x509.DNSName)
    email = _sans(leaf, x509.RFC822Name)
    uris = _sans(leaf, x509.UniformResourceIdentifier)
    units = [str(one.value) for one in leaf.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)]
    demands = (
        (entry.allowed_names, [name, *dns, *email]),
        (entry.allowed_common_names, [name]),
        (entry.allowed_dns_sans, dns),
        (entry.allowed_email_sans, email),
        (entry.allowed_uri_sans, uris),
        (entry.allowed_organizational_units, units),
    )
    return all(not wanted or among(wanted, said) for wanted, said in demands) and _extensions(entry, leaf)


def _extensions(entry: Trusted, leaf: x509.Certificate) -> bool:
    said = extension_texts(leaf)
    for demand in entry.required_extensions:
        oid, _, pattern = demand.partition(":")
        if oid not in said or not matches(pattern, said[oid]):
            return False
    return True


def common_name(leaf: x509.Certificate) -> str:
    """The subject's common name, "" for none.

    Raises:
        KmsError(INVALID): it has several: which one was meant is anybody's choice.
    """
    names = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(names) > 1:
        raise invalid("the client certificate has more than one common name")
    return str(names[0].value) if names else ""


def extension_texts(leaf: x509.Certificate) -> dict[str, str]:
    """OID -> the extension's value where that is an ASN.1 string, else ""."""
    return {each.oid.dotted_string: _text(each.value.public_bytes()) for each in leaf.extensions}


def _text(value: bytes) -> str:
    try:
        parsed = core.load(value, strict=True)
        native = parsed.native if isinstance(parsed, core.AbstractString) else ""
    except (ValueError, TypeError):
        return ""
    return str(native)


def _sans(leaf: x509.Certificate, kind: type[x509.GeneralName]) -> list[str]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(one.value) for one in names if isinstance(one, kind)]


def key_id(
    certificate: x509.Certificate, kind: type[x509.SubjectKeyIdentifier | x509.AuthorityKeyIdentifier]
) -> str:
    """A key identifier as `ab:cd:...`, "" for none."""
    try:
        value = certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return ""
    digest = value.digest if isinstance(value, x509.SubjectKeyIdentifier) else value.key_identifier
    return (digest or b"").hex(":")
