"""T-50: templates with a defect, one rule each, put before the lint where a defect of ours would be; none is signed.

Requests that ask for something wrong are in tests/system/defective.py, watched by pkcs11-spy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import (
    AuthorityInformationAccessOID,
    ExtendedKeyUsageOID,
    ExtensionOID,
    NameOID,
    SubjectInformationAccessOID,
)

import pki.signing
import pki.subordinate
from kms.errors import KmsError
from pki.lintrules import NO_REV_AVAIL
from pki.profiles import Draft
from pki.signing import Prepared, prepare
from tests.pki.bench import Bench, make_csr

Change = Callable[[Draft], dict[str, Any]]
BITS = [
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
]
HERE = x509.UniformResourceIdentifier("http://pki.example.com/")
POINT = x509.CRLDistributionPoints([x509.DistributionPoint([HERE], None, None, None)])
NO_REV = x509.UnrecognizedExtension(NO_REV_AVAIL, b"\x05\x00")


def usage(*bits: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{bit: bit in bits for bit in BITS})


def put(*values: x509.ExtensionType, critical: bool = False) -> Change:
    """With these extensions, in the place of such as are there."""

    def change(draft: Draft) -> dict[str, Any]:
        new = {value.oid for value in values}
        rest = tuple(one for one in draft.extensions if one[0].oid not in new)
        return {"extensions": (*rest, *((value, critical) for value in values))}

    return change


def marked(oid: x509.ObjectIdentifier, *, critical: bool) -> Change:
    """With one of its extensions marked otherwise."""
    return lambda draft: {
        "extensions": tuple((value, critical if value.oid == oid else was) for value, was in draft.extensions)
    }


def without(oid: x509.ObjectIdentifier) -> Change:
    return lambda draft: {"extensions": tuple(one for one in draft.extensions if one[0].oid != oid)}


def named(*names: x509.GeneralName) -> Change:
    return put(x509.SubjectAlternativeName(names))


def subject(*attributes: tuple[x509.ObjectIdentifier, str]) -> Change:
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])
    return lambda _: {"subject": name}


def access(method: x509.ObjectIdentifier) -> x509.AccessDescription:
    return x509.AccessDescription(method, HERE)


def twice() -> x509.Name:
    names = [x509.NameAttribute(NameOID.COMMON_NAME, text) for text in "ab"]
    return x509.Name([x509.RelativeDistinguishedName(names)])


OCSP = AuthorityInformationAccessOID.OCSP
POLICY = x509.PolicyInformation(x509.ObjectIdentifier("1.2.3"), None)
LEAVES: dict[str, tuple[str, Change]] = {
    "signs certificates": (
        "keycertsign_keyusage_set",
        put(usage("digital_signature", "key_cert_sign"), critical=True),
    ),
    "a key for nothing": ("no_ku_bits_set", put(usage(), critical=True)),
    "only to encipher and only to decipher": (
        "both_encipheronly_and_decipheronly",
        put(usage("key_agreement", "encipher_only", "decipher_only"), critical=True),
    ),
    "an EC key that enciphers keys": (
        "key_usage_value_prohibited_for_ec",
        put(usage("key_encipherment"), critical=True),
    ),
    "a CA": ("BasicConstraints", put(x509.BasicConstraints(ca=True, path_length=None), critical=True)),
    "BasicConstraints not critical": (
        "BasicConstraints",
        marked(ExtensionOID.BASIC_CONSTRAINTS, critical=False),
    ),
    "no AKI": ("identifier_extension_absent", without(ExtensionOID.AUTHORITY_KEY_IDENTIFIER)),
    "a critical AKI": (
        "authority_key_identifier_critical",
        marked(ExtensionOID.AUTHORITY_KEY_IDENTIFIER, critical=True),
    ),
    "an AKI without a key": (
        "keyid_missing",
        put(x509.AuthorityKeyIdentifier(None, [x509.DirectoryName(twice())], 7)),
    ),
    "a critical SKI": ("skid_extension_critical", marked(ExtensionOID.SUBJECT_KEY_IDENTIFIER, critical=True)),
    "time stamps, not critical": (
        "timestamping_not_critical",
        put(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])),
    ),
    "name constraints": (
        "name_constraints_in_ee",
        put(x509.NameConstraints([x509.DNSName("example.com")], None), critical=True),
    ),
    "policy constraints": ("policy_constraints", put(x509.PolicyConstraints(0, None), critical=True)),
    "inhibited policies": ("inhibit_anypolicy", put(x509.InhibitAnyPolicy(0), critical=True)),
    "no subject, names not critical": (
        "criticality of the alternative name",
        lambda _: {"subject": x509.Name([])},
    ),
    "an underscore": ("host name label", named(x509.DNSName("a_b.example.com"))),
    "a dot at the end": ("host name label", named(x509.DNSName("a.example.com."))),
    "an address as a host name": ("belongs into ip_sans", named(x509.DNSName("10.0.0.1"))),
    "a blank": ("blanks", named(x509.DNSName("a b.example.com"))),
    "an empty host name": ("1 to 253 characters", named(x509.DNSName(""))),
    "a host name that is too long": ("cannot stand in", named(x509.DNSName("a." * 130 + "com"))),
    "a wildcard inside": ("cannot stand in", named(x509.DNSName("a.*.example.com"))),
    "a mail address at no host": ("host name label", named(x509.RFC822Name("me@b_c"))),
    "a URI without a scheme": ("not absolute", named(x509.UniformResourceIdentifier("no-scheme"))),
    "critical AIA": (
        "information_access_extension_critical",
        put(x509.AuthorityInformationAccess([access(OCSP)]), critical=True),
    ),
    "critical SIA": (
        "information_access_extension_critical",
        put(
            x509.SubjectInformationAccess([access(SubjectInformationAccessOID.CA_REPOSITORY)]), critical=True
        ),
    ),
    "a policy twice": ("invalid_asn1_syntax", put(x509.CertificatePolicies([POLICY, POLICY]))),
    "a short serial": ("serial number length", lambda _: {"serial": 7}),
    "a long serial": ("serial number length", lambda _: {"serial": 1 << 159}),
    "an issuer without a name": ("name_empty", lambda _: {"issuer": x509.Name([])}),
    "a mail address in the subject alone": (
        "email_address_not_in_san",
        subject((NameOID.COMMON_NAME, "a"), (NameOID.EMAIL_ADDRESS, "a@example.com")),
    ),
    "two values in one RDN": ("duplicate_attribute_types", lambda _: {"subject": twice()}),
    "a domain component that is none": (
        "invalid_domain_name",
        subject((NameOID.DOMAIN_COMPONENT, "a_b")),
    ),
    "the key of another": ("public key", lambda draft: {"spki": draft.spki[:-1] + b"\0"}),
    "over before it begins": ("validity", lambda draft: {"not_after": draft.not_before - 1}),
    "poison, not critical": ("precertificate", put(x509.PrecertPoison())),
    "poison": ("precertificate", put(x509.PrecertPoison(), critical=True)),
    "noRevAvail, critical": ("must not be critical", put(NO_REV, critical=True)),
    "noRevAvail and CRLs": ("place of CRLs", put(NO_REV, POINT)),
    "noRevAvail and OCSP": ("OCSP responder", put(NO_REV, x509.AuthorityInformationAccess([access(OCSP)]))),
}
OTHER_KEYS: dict[str, tuple[str, str, Change]] = {
    "an RSA key that agrees": (
        "rsa",
        "key_usage_value_prohibited_for_rsa",
        put(usage("key_agreement"), critical=True),
    ),
    "an Ed25519 key that enciphers": (
        "ed25519",
        "prohibited_for_edwards_curve",
        put(usage("key_encipherment"), critical=True),
    ),
    "an ML-DSA key that enciphers": (
        "mldsa",
        "prohibited_for_mldsa",
        put(usage("key_encipherment"), critical=True),
    ),
    "an ML-DSA key that agrees": (
        "mldsa",
        "prohibited_for_mldsa",
        put(usage("digital_signature", "key_agreement"), critical=True),
    ),
}
AUTHORITIES: dict[str, tuple[str, Change]] = {
    "no key usage": ("ca_certificate_no_ku", without(ExtensionOID.KEY_USAGE)),
    "does not sign certificates": (
        "keycertsign_keyusage_not_set",
        put(usage("digital_signature"), critical=True),
    ),
    "enciphers": (
        "prohibited_for_ec",
        put(usage("key_cert_sign", "key_encipherment"), critical=True),
    ),
    "BasicConstraints not critical": (
        "BasicConstraints",
        marked(ExtensionOID.BASIC_CONSTRAINTS, critical=False),
    ),
    "not a CA": ("BasicConstraints", put(x509.BasicConstraints(ca=False, path_length=None), critical=True)),
    "no BasicConstraints": ("keycertsign_keyusage_set", without(ExtensionOID.BASIC_CONSTRAINTS)),
    "no SKI": ("skid_ca_missing", without(ExtensionOID.SUBJECT_KEY_IDENTIFIER)),
    "a critical SKI": ("skid_extension_critical", marked(ExtensionOID.SUBJECT_KEY_IDENTIFIER, critical=True)),
    "no AKI": ("identifier_extension_absent", without(ExtensionOID.AUTHORITY_KEY_IDENTIFIER)),
    "name constraints not critical": (
        "name_constraints_extension_not_critical",
        put(x509.NameConstraints([x509.DNSName("example.com")], None)),
    ),
    "no subject": ("must have a subject", lambda _: {"subject": x509.Name([])}),
    "policy constraints not critical": ("must be critical", put(x509.PolicyConstraints(0, None))),
    "inhibited policies not critical": ("must be critical", put(x509.InhibitAnyPolicy(0))),
    "noRevAvail": ("not for CAs", put(NO_REV)),
}


def defective(change: Change) -> Callable[..., Prepared]:
    """What makes the to-be-signed bytes, given a template with a defect."""

    def prepared(draft: Draft, *rest: Any, **more: Any) -> Prepared:
        return prepare(dataclasses.replace(draft, **change(draft)), *rest, **more)

    return prepared


def refused(ca: Bench, why: str, act: Callable[[], object]) -> None:
    """The refusal names the rule; nothing was signed and nothing is on record."""
    before = ca.do("certs-list")["keys"]
    ca.token.calls.clear()
    with pytest.raises(KmsError) as caught:
        act()
    assert why in caught.value.detail
    assert ca.token.calls == []
    assert ca.do("certs-list")["keys"] == before


def test_there_are_forty_rules() -> None:
    assert len(LEAVES) + len(OTHER_KEYS) + len(AUTHORITIES) >= 40


def test_a_defective_template_of_a_leaf(ca: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for why, change in LEAVES.values():
        monkeypatch.setattr(pki.signing, "prepare", defective(change))
        refused(ca, why, ca.issue)
    for kind, why, change in OTHER_KEYS.values():
        ca.role(key_type=kind, key_bits={"rsa": 2048, "mldsa": 44}.get(kind, 0))
        monkeypatch.setattr(pki.signing, "prepare", defective(change))
        refused(ca, why, ca.issue)
    monkeypatch.undo()
    ca.issue()
    assert ca.token.calls == ["sign"]


def test_a_defective_template_of_a_ca(ca: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    csr = make_csr(tmp_path, "/CN=Below")

    def sign() -> object:
        return ca.do("sign-intermediate", csr=csr, ttl=86_400)

    for why, change in AUTHORITIES.values():
        monkeypatch.setattr(pki.subordinate, "prepare", defective(change))
        refused(ca, why, sign)
    monkeypatch.undo()
    sign()
    assert ca.token.calls == ["sign"]
