"""What certificates look like, as others see them: OpenSSL strict, GnuTLS, pkilint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from kms.clock import SystemClock
from kms.errors import KmsError
from tests.pki.bench import START, YEAR, Bench, load, make_csr
from tests.pki.outside import gnutls_verify, lint, lint_crl, openssl_verify

CA_TYPES = [("ec", 256), ("ec", 384), ("rsa", 2048), ("rsa", 3072)]
CRITICAL = {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE, ExtensionOID.NAME_CONSTRAINTS}


def check_form(certificate: x509.Certificate) -> None:
    """What holds for every certificate of ours."""
    oids = {extension.oid for extension in certificate.extensions}
    assert {
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
    } <= oids
    for extension in certificate.extensions:
        if extension.oid == ExtensionOID.SUBJECT_ALTERNATIVE_NAME:
            assert extension.critical == (not list(certificate.subject))
        else:
            assert extension.critical == (extension.oid in CRITICAL), extension
    serial = certificate.serial_number.to_bytes(20, "big")
    assert 0x40 <= serial[0] <= 0x7F
    assert lint(certificate.public_bytes(Encoding.DER)) == []


@pytest.mark.parametrize(("key_type", "bits"), CA_TYPES)
def test_a_chain_of_three(bench: Bench, tmp_path: Path, key_type: str, bits: int) -> None:
    now = bench.clock.seconds = int(SystemClock().now())  # certtool knows no other time
    root = bench.root(key_type=key_type, key_bits=bits, max_path_length=1)
    urls = {
        "issuing_certificates": ["http://pki.example.com/ca"],
        "crl_distribution_points": ["http://pki.example.com/crl"],
        "ocsp_servers": ["http://pki.example.com/ocsp"],
    }
    bench.do("config-urls-write", **urls)
    bench.do("config-urls-write", "int", **urls)
    between = bench.intermediate(max_path_length=0)
    bench.role("web", "int", organization=["Example"], country=["DE"])
    leaf = bench.issue("int", alt_names=["b.example.com", "*.c.example.com"], ip_sans=["10.0.0.1", "fd00::1"])
    for text in (root["certificate"], between["certificate"], leaf["certificate"]):
        check_form(load(text))
    certificate = load(leaf["certificate"])
    assert certificate.subject.rfc4514_string() == "CN=a.example.com,O=Example,C=DE"
    aia = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    assert [item.access_location.value for item in aia] == [
        "http://pki.example.com/ocsp",
        "http://pki.example.com/ca",
    ]
    for purpose in ("sslserver", "sslclient"):
        openssl_verify(
            tmp_path,
            leaf["certificate"],
            root["certificate"],
            between["certificate"],
            at=now,
            purpose=purpose,
        )
    gnutls_verify(tmp_path, leaf["certificate"], root["certificate"], between["certificate"])
    assert lint_crl(bench.raw("crl")) == []
    assert lint_crl(bench.raw("crl", "int")) == []


PROFILES: dict[str, tuple[dict[str, Any], list[x509.ObjectIdentifier]]] = {
    "server": ({"client_flag": False}, [ExtendedKeyUsageOID.SERVER_AUTH]),
    "client": ({"server_flag": False}, [ExtendedKeyUsageOID.CLIENT_AUTH]),
    "both": ({}, [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
    "code signing": (
        {"client_flag": False, "server_flag": False, "code_signing_flag": True},
        [ExtendedKeyUsageOID.CODE_SIGNING],
    ),
    "by name and OID": (
        {"client_flag": False, "ext_key_usage": ["EmailProtection"], "ext_key_usage_oids": ["1.2.3.4"]},
        [
            ExtendedKeyUsageOID.SERVER_AUTH,
            ExtendedKeyUsageOID.EMAIL_PROTECTION,
            x509.ObjectIdentifier("1.2.3.4"),
        ],
    ),
}


@pytest.mark.parametrize(("role", "wanted"), PROFILES.values(), ids=PROFILES.keys())
def test_extended_key_usages(ca: Bench, role: dict[str, Any], wanted: list[x509.ObjectIdentifier]) -> None:
    ca.role(**role)
    certificate = load(ca.issue()["certificate"])
    check_form(certificate)
    assert list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == wanted


KEY_USAGES = {
    "ec": {"digital_signature", "key_agreement"},
    "rsa": {"digital_signature", "key_encipherment"},
    "ed25519": {"digital_signature"},
}


@pytest.mark.parametrize("key_type", KEY_USAGES)
def test_key_usages_fit_the_key(ca: Bench, key_type: str) -> None:
    ca.role(key_type=key_type)
    data = ca.issue()
    certificate = load(data["certificate"])
    check_form(certificate)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
    )
    assert {name for name in names if getattr(usage, name)} == KEY_USAGES[key_type]
    private = load_pem_private_key(data["private_key"].encode(), None)
    assert private.public_key() == certificate.public_key()
    assert data["private_key_type"] == key_type


def test_a_spiffe_leaf(ca: Bench, tmp_path: Path) -> None:
    ca.role(require_cn=False, allowed_uri_sans=["spiffe://td/*"], allowed_domains=[])
    data = ca.issue(common_name="", uri_sans=["spiffe://td/ns/a/sa/b"])
    certificate = load(data["certificate"])
    check_form(certificate)
    assert not list(certificate.subject)
    assert certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical
    openssl_verify(tmp_path, data["certificate"], data["issuing_ca"], at=START, purpose="sslclient")


@pytest.mark.parametrize("key", ["ec", "p384", "rsa", "ed25519"])
def test_a_signed_request(ca: Bench, tmp_path: Path, key: str) -> None:
    ca.role(key_type="any")
    csr = make_csr(tmp_path, "/CN=a.example.com", key, san="subjectAltName=DNS:b.example.com,IP:10.0.0.1")
    data = ca.do("sign", role="web", csr=csr)
    assert "private_key" not in data
    certificate = load(data["certificate"])
    check_form(certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a.example.com", "b.example.com"]
    openssl_verify(tmp_path, data["certificate"], data["issuing_ca"], at=START)


def test_all_kinds_of_names_and_policies(ca: Bench) -> None:
    ca.role(
        allowed_uri_sans=["*"],
        allowed_other_sans=["*"],
        allowed_user_ids=["*"],
        allowed_serial_numbers=["*"],
        policy_identifiers=["1.3.6.1.4.1.99999.1"],
        ou=["Team"],
        locality=["Berlin"],
        province=["Berlin"],
        street_address=["Street 1"],
        postal_code=["10115"],
        allow_localhost=True,
    )
    data = ca.issue(
        alt_names=["localhost", "me@a.example.com"],
        ip_sans=["10.0.0.1"],
        uri_sans=["https://a.example.com/x", "spiffe://td/x"],
        other_sans=["1.3.6.1.4.1.311.20.2.3;utf8:me"],
        user_ids=["u"],
        serial_number="7",
    )
    check_form(load(data["certificate"]))


def test_the_answers_forms(ca: Bench) -> None:
    plain = ca.issue()
    assert plain["ca_chain"] == [plain["issuing_ca"]]
    assert plain["private_key"].startswith("-----BEGIN EC PRIVATE KEY-----")
    assert not plain["certificate"].endswith("\n")
    bundle = ca.issue(format="pem_bundle")["certificate"]
    assert bundle.count("BEGIN") == 3
    assert bundle.startswith("-----BEGIN EC PRIVATE KEY-----")
    der = ca.issue(format="der", private_key_format="pkcs8")
    assert not any("BEGIN" in der[name] for name in ("certificate", "private_key", "issuing_ca"))
    assert ca.issue(private_key_format="pkcs8")["private_key"].startswith("-----BEGIN PRIVATE KEY-----")
    assert "ca_chain" not in ca.issue(remove_roots_from_chain=True)  # as the peer leaves out what is empty


def test_a_ca_request_that_asks_for_too_much(ca: Bench) -> None:
    ca.intermediate(max_path_length=0)
    csr = ca.do("intermediate-generate", "below", common_name="Sub", key_type="ec", exported="internal")[
        "csr"
    ]
    with pytest.raises(KmsError, match="path length of 0"):
        ca.do("sign-intermediate", "int", csr=csr)
    with pytest.raises(KmsError, match="beyond the expiration"):
        ca.do("sign-intermediate", csr=csr, ttl=2 * YEAR)


def test_name_constraints_are_set_and_kept(ca: Bench, tmp_path: Path) -> None:
    between = ca.intermediate(permitted_dns_domains=["example.com"])
    ca.role("web", "int", allow_any_name=True)
    check_form(load(between["certificate"]))
    leaf = ca.issue("int")
    openssl_verify(tmp_path, leaf["certificate"], between["issuing_ca"], between["certificate"], at=START)
    with pytest.raises(KmsError, match="outside the name constraints"):
        ca.issue("int", common_name="a.example.org")
