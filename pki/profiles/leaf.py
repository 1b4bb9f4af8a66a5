"""End-entity certificates: TLS servers, TLS clients, both (mTLS and SPIFFE), and what roles add."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from kms.errors import invalid
from pki.goodkey import LeafPublicKey
from pki.model import Role
from pki.names import Names
from pki.profiles.draft import Draft, Extensions, new_serial
from pki.profiles.subject import alternative_names, fixed_attributes, kinds, subject
from pki.profiles.usages import ext_key_usages, leaf_key_usage, parse_oid

_KEY_TYPES = ("rsa", "ec", "ed25519")


@dataclass(frozen=True, slots=True)
class LeafTemplate:
    """What a role and an issuer fix for all their certificates, made once for each pair.

    Args:
        constant: key type -> the extensions that do not vary, and the digest of their bytes.
    """

    profile: str
    issuer: x509.Name
    hash_name: str
    attributes: tuple[x509.NameAttribute[str], ...]
    constant: dict[str, tuple[Extensions, str]]


def leaf_template(issuer: x509.Name, common: Extensions, hash_name: str, role: Role) -> LeafTemplate:
    """Raises KmsError(INVALID) for a role whose settings make no valid certificate."""
    usages = ext_key_usages(_flagged(role) + list(role.ext_key_usage), role.ext_key_usage_oids)
    shared: list[tuple[x509.ExtensionType, bool]] = []
    if usages:
        shared.append((x509.ExtendedKeyUsage(usages), False))
    if role.policy_identifiers:
        shared.append((certificate_policies(role.policy_identifiers), False))
    constant = {}
    for key_type in _KEY_TYPES:
        extensions: Extensions = (
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (leaf_key_usage(role.key_usage, key_type), True),
            *shared,
            *common,
        )
        digest = hashlib.sha256(issuer.public_bytes() + hash_name.encode())
        for value, critical in extensions:
            digest.update(value.oid.dotted_string.encode() + bytes([critical]) + value.public_bytes())
        constant[key_type] = (extensions, digest.hexdigest())
    return LeafTemplate(
        profile=_profile_name(usages),
        issuer=issuer,
        hash_name=hash_name,
        attributes=fixed_attributes({field: getattr(role, field) for field in SUBJECT_FIELDS}),
        constant=constant,
    )


SUBJECT_FIELDS = (
    "country",
    "organization",
    "ou",
    "locality",
    "province",
    "street_address",
    "postal_code",
)


def leaf_draft(
    template: LeafTemplate,
    names: Names,
    key: tuple[LeafPublicKey, str, bytes],
    window: tuple[int, int],
) -> Draft:
    """Put checked names, a checked key (object, type, SPKI) and a validity into the template.

    Raises:
        KmsError(INVALID): neither subject nor alternative name.
    """
    public, key_type, spki = key
    name = subject(template.attributes, names)
    empty = not list(name)
    if empty and not names.has_sans:
        raise invalid("a certificate needs a common name or a subject alternative name")
    extensions, digest = template.constant[key_type]
    ski = x509.SubjectKeyIdentifier.from_public_key(public)
    variable: Extensions = ((ski, False),)
    if names.has_sans:
        variable = (*variable, (alternative_names(names), empty))
    return Draft(
        profile=template.profile,
        serial=new_serial(),
        issuer=template.issuer,
        subject=name,
        not_before=window[0],
        not_after=window[1],
        public_key=public,
        spki=spki,
        extensions=(*extensions, *variable),
        hash_name=template.hash_name,
        shape=(digest, kinds(names), empty, tuple(attribute.oid.dotted_string for attribute in name)),
    )


def certificate_policies(identifiers: tuple[str, ...]) -> x509.CertificatePolicies:
    """Plain policy OIDs. Raises KmsError(INVALID) for others (qualifiers are deprecated by BR 7.1.2)."""
    policies = []
    for text in identifiers:
        oid = parse_oid(text)
        if oid is None:
            raise invalid(f'policy identifier "{text}" is not a valid OID')
        policies.append(x509.PolicyInformation(oid, None))
    return x509.CertificatePolicies(policies)


def _flagged(role: Role) -> list[str]:
    flags = (
        (role.server_flag, "serverauth"),
        (role.client_flag, "clientauth"),
        (role.code_signing_flag, "codesigning"),
        (role.email_protection_flag, "emailprotection"),
    )
    return [name for flag, name in flags if flag]


def _profile_name(usages: list[x509.ObjectIdentifier]) -> str:
    tls = {ExtendedKeyUsageOID.SERVER_AUTH: "tls-server", ExtendedKeyUsageOID.CLIENT_AUTH: "tls-client"}
    if set(usages) == set(tls):
        return "mtls"
    return tls.get(usages[0], "leaf") if len(usages) == 1 else "leaf"
