"""End-entity certificates: TLS servers, TLS clients, both (mTLS and SPIFFE), and what roles add."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from kms.errors import integrity, invalid
from pki import der
from pki.goodkey import LeafPublicKey
from pki.model import Role
from pki.names import Names
from pki.profiles import named, nested, splice
from pki.profiles.draft import CA_PROFILE, Draft, Extensions, new_serial
from pki.profiles.policies import certificate_policies
from pki.profiles.splice import Splice
from pki.profiles.subject import alternative_names, check_subject, fixed_attributes, kinds, subject
from pki.profiles.usages import ca_key_usage, ext_key_usages, leaf_key_usage

_KEY_TYPES = ("rsa", "ec", "ed25519", "mldsa")
_SPLICES_KEPT = 256


@dataclass(frozen=True, slots=True)
class LeafTemplate:
    """What a role and an issuer fix for all their certificates, made once for each pair.

    Args:
        fixed: `attributes` in DER.
        constant: key type -> the extensions that do not vary, and the digest of their bytes.
        points: the CRL distribution points to choose from, one for each shard, with their Extension in DER;
            empty where `constant` says all.
        left_out: a warning about usages that the issuer does not have, "" for none.
        splices: shape -> what its certificates share; filled by pki.signing as they are linted.
    """

    profile: str
    issuer: x509.Name
    hash_name: str
    attributes: tuple[x509.NameAttribute[str], ...]
    fixed: bytes
    constant: dict[str, tuple[Extensions, str]]
    points: tuple[tuple[x509.CRLDistributionPoints, bytes], ...] = ()
    left_out: str = ""
    splices: dict[Hashable, Splice] = field(default_factory=dict)

    def keep(self, shape: Hashable, learnt: Splice) -> None:
        """Remember a splice; bounded, as a request can choose part of the shape."""
        if len(self.splices) >= _SPLICES_KEPT:
            self.splices.clear()
        self.splices[shape] = learnt


def leaf_template(
    issuer: x509.Name,
    common: Extensions,
    hash_name: str,
    role: Role,
    points: tuple[x509.CRLDistributionPoints, ...] = (),
    allowed: nested.Usages | None = None,
) -> LeafTemplate:
    """`allowed` is what the issuer's extended key usages leave.

    Raises:
        KmsError(INVALID): the role's settings make no valid certificate.
    """
    named_usages = named.usages(role)
    if named_usages is not None:
        usages = list(named_usages)
    else:
        usages = ext_key_usages(_flagged(role) + list(role.ext_key_usage), role.ext_key_usage_oids)
    usages, left_out = nested.fitting(usages, allowed, all_of_them=bool(role.profile))
    authority = role.profile == CA_PROFILE
    common = named.extensions(role, common)
    shared: list[tuple[x509.ExtensionType, bool]] = []
    if usages:
        shared.append((x509.ExtendedKeyUsage(usages), False))
    if role.policy_identifiers:
        shared.append((certificate_policies(role.policy_identifiers), False))
    attributes = fixed_attributes({name: getattr(role, name) for name in SUBJECT_FIELDS})
    oids = "".join(f" {attribute.oid.dotted_string}" for attribute in attributes).encode()
    constant = {}
    for key_type in _KEY_TYPES:
        extensions: Extensions = (
            (x509.BasicConstraints(ca=authority, path_length=0 if authority else None), True),
            (ca_key_usage() if authority else leaf_key_usage(role.key_usage, key_type), True),
            *shared,
            *common,
        )
        digest = hashlib.sha256(issuer.public_bytes() + hash_name.encode() + key_type.encode() + oids)
        for value, critical in extensions:
            digest.update(value.oid.dotted_string.encode() + bytes([critical]) + value.public_bytes())
        constant[key_type] = (extensions, digest.hexdigest())
    if role.no_rev_avail or role.profile == "ocsp":
        points = ()  # nobody asks whether these were revoked
    point = der.oid(x509.CRLDistributionPoints.oid.dotted_string)
    return LeafTemplate(
        profile=role.profile or _profile_name(usages),
        issuer=issuer,
        hash_name=hash_name,
        attributes=attributes,
        fixed=der.content(x509.Name(attributes).public_bytes()),
        constant=constant,
        points=tuple((value, der.extension(point, value.public_bytes())) for value in points),
        left_out=left_out,
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


@dataclass(frozen=True, slots=True)
class Leaf:
    """A leaf before it is signed, as checked values; `draft` is the same in cryptography's types.

    Args:
        key: object, type in the role's words, SPKI in DER.
        window: notBefore and notAfter, the last second of validity.
    """

    template: LeafTemplate
    serial: int
    names: Names
    key: tuple[LeafPublicKey, str, bytes]
    not_before: int
    not_after: int
    empty: bool  # no subject
    shape: Hashable
    shard: int = -1  # of `template.points`

    @property
    def profile(self) -> str:
        return self.template.profile

    @property
    def hash_name(self) -> str:
        return self.template.hash_name

    @property
    def spki(self) -> bytes:
        return self.key[2]

    @property
    def plain(self) -> bool:
        """Whether `splice` can write it; the rare rest is always built."""
        return not self.names.others and self.not_before >= 0 and self.profile != CA_PROFILE

    def learn(self, tbs: bytes) -> Splice:
        """What the certificates of this shape share, from the bytes of this one."""
        return splice.learn(tbs, len(self.template.constant[self.key[1]][0]))

    def tbs(self, shared: Splice) -> bytes:
        """The to-be-signed bytes, without cryptography's builder.

        Raises:
            KmsError(INTEGRITY): serial or validity that no certificate of ours has.
        """
        if self.serial.bit_length() != 159 or self.not_before > self.not_after or not self.plain:
            raise integrity("a certificate that cannot be spliced")
        name = splice.subject_name(self.template.fixed, self.names)
        added = splice.alternative_names(self.names, critical=self.empty)
        if self.shard >= 0:
            added += self.template.points[self.shard][1]
        return shared.tbs(self.serial, (self.not_before, self.not_after), name, self.spki, added)

    def draft(self) -> Draft:
        """The same certificate for the builder and the linter."""
        public, key_type, spki = self.key
        variable: Extensions = ((x509.SubjectKeyIdentifier.from_public_key(public), False),)
        if self.names.has_sans:
            variable = (*variable, (alternative_names(self.names), self.empty))
        if self.shard >= 0:
            variable = (*variable, (self.template.points[self.shard][0], False))
        return Draft(
            profile=self.profile,
            serial=self.serial,
            issuer=self.template.issuer,
            subject=subject(self.template.attributes, self.names),
            not_before=self.not_before,
            not_after=self.not_after,
            public_key=public,
            spki=spki,
            extensions=(*self.template.constant[key_type][0], *variable),
            hash_name=self.hash_name,
            shape=self.shape,
            shard=self.shard,
        )


def leaf(
    template: LeafTemplate,
    names: Names,
    key: tuple[LeafPublicKey, str, bytes],
    window: tuple[int, int],
) -> Leaf:
    """Put checked names, a checked key (object, type, SPKI) and a validity into the template.

    Raises:
        KmsError(INVALID): a text outside its bounds; neither subject nor alternative name.
    """
    check_subject(names)
    added = (bool(names.common_name), bool(names.serial_number), len(names.user_ids))
    empty = not (template.attributes or any(added))
    if empty and not names.has_sans:
        raise invalid("a certificate needs a common name or a subject alternative name")
    # With the role's attributes, `added` stands for the kinds of attributes in the subject.
    # Shards differ in the text of a URL alone.
    shape: Hashable = (template.constant[key[1]][1], kinds(names), added, bool(template.points))
    serial = new_serial(window[0])
    shard = serial % len(template.points) if template.points else -1
    if template.profile == CA_PROFILE:
        shape = (shape, serial)  # each is linted in full
    return Leaf(template, serial, names, key, window[0], window[1], empty, shape, shard)


def leaf_draft(
    template: LeafTemplate,
    names: Names,
    key: tuple[LeafPublicKey, str, bytes],
    window: tuple[int, int],
) -> Draft:
    """`leaf` in cryptography's types."""
    return leaf(template, names, key, window).draft()


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
