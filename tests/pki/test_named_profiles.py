"""Profiles that a role names: each certificate as the standard of its kind wants it, judged by others too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, ExtensionOID

from kms.errors import KmsError
from pki.model import DAY
from pki.profiles.named import PROFILES, SHORT_LIVED_MAX
from tests.pki.bench import START, YEAR, Bench, load, make_csr
from tests.pki.outside import lint, openssl_verify, run, write

NO_REV_AVAIL = x509.ObjectIdentifier("2.5.29.56")
URLS = {
    "issuing_certificates": ["http://pki.example.com/ca"],
    "crl_distribution_points": ["http://pki.example.com/crl"],
    "ocsp_servers": ["http://pki.example.com/ocsp"],
}
USAGES = {
    "tls-server": {ExtendedKeyUsageOID.SERVER_AUTH},
    "tls-client": {ExtendedKeyUsageOID.CLIENT_AUTH},
    "mtls": {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH},
    "spiffe": {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH},
    "code-signing": {ExtendedKeyUsageOID.CODE_SIGNING},
    "ocsp": {ExtendedKeyUsageOID.OCSP_SIGNING},
}
PURPOSES = {
    "tls-server": "sslserver",
    "tls-client": "sslclient",
    "mtls": "sslclient",
    "spiffe": "sslserver",
    "code-signing": "",
    "ocsp": "ocsphelper",
}
SPIFFE = {"common_name": "", "uri_sans": ["spiffe://td.example/ns/a/sa/b"]}


def test_the_table_is_the_one_that_is_tested() -> None:
    assert set(PROFILES) == {*USAGES, "ca"}


def make_role(bench: Bench, profile: str, **more: Any) -> dict[str, Any]:
    return bench.role(profile=profile, allowed_uri_sans=["spiffe://td.example/*", "https://*"], **more)


def asked(profile: str) -> dict[str, Any]:
    return SPIFFE if profile == "spiffe" else {}


def usages(certificate: x509.Certificate) -> set[x509.ObjectIdentifier]:
    return set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


@pytest.mark.parametrize("key_type", ["ec", "rsa", "ed25519"])
def test_a_leaf_of_each_profile(ca: Bench, tmp_path: Path, key_type: str) -> None:
    ca.do("config-urls-write", **URLS)
    for profile in USAGES:
        check_leaves(ca, tmp_path, profile, key_type)


def check_leaves(ca: Bench, tmp_path: Path, profile: str, key_type: str) -> None:
    make_role(ca, profile, key_type=key_type)
    for _ in range(2):  # built and linted, then spliced
        data = ca.issue(**asked(profile))
        certificate = load(data["certificate"])
        assert lint(certificate.public_bytes(Encoding.DER)) == []
        assert usages(certificate) == USAGES[profile]
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
        assert usage.critical
        assert usage.value.digital_signature
        assert usage.value.key_encipherment == (key_type == "rsa" and profile in {"tls-server", "mtls"})
        assert not usage.value.key_cert_sign
        assert not usage.value.crl_sign
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        assert basic.critical
        assert not basic.value.ca
        openssl_verify(tmp_path, data["certificate"], data["issuing_ca"], at=START, purpose=PURPOSES[profile])


def test_an_svid(ca: Bench) -> None:
    make_role(ca, "spiffe")
    certificate = load(ca.issue(**SPIFFE)["certificate"])
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == SPIFFE["uri_sans"]
    assert not list(certificate.subject)
    assert names.critical


NO_SVIDS: list[tuple[dict[str, Any], str]] = [
    ({"common_name": "", "uri_sans": []}, "exactly one URI"),
    ({"common_name": "", "uri_sans": ["spiffe://td.example/a", "spiffe://td.example/b"]}, "exactly one"),
    ({"common_name": "", "uri_sans": ["spiffe://td.example/a", "https://a.example.com"]}, "exactly one"),
    ({"common_name": "", "uri_sans": ["https://a.example.com/x"]}, "exactly one URI"),
    ({"common_name": "", "uri_sans": ["spiffe://td.example/"]}, "path segments"),
    ({"common_name": "", "uri_sans": ["spiffe://td.example/a//b"]}, "path segments"),
    ({"common_name": "", "uri_sans": ["spiffe://td.example/a/../b"]}, "path segments"),
    ({"common_name": "", "uri_sans": ["spiffe://td.example/a?x=1"]}, "path segments"),
    ({"common_name": "a.example.com", "uri_sans": ["spiffe://td.example/a"]}, "no common name"),
]


def test_what_is_no_svid(ca: Bench) -> None:
    make_role(ca, "spiffe")
    ca.token.calls.clear()
    for names, why in NO_SVIDS:
        with pytest.raises(KmsError, match=why):
            ca.issue(**names)
    assert ca.token.calls == []


def test_a_trust_domain_alone_is_no_workload(ca: Bench) -> None:
    ca.role(profile="spiffe", allowed_uri_sans=["spiffe://*"])
    with pytest.raises(KmsError, match="has a path"):
        ca.issue(common_name="", uri_sans=["spiffe://td.example"])


def test_an_svids_common_name_in_a_csr_is_left_out(ca: Bench, tmp_path: Path) -> None:
    make_role(ca, "spiffe")
    csr = make_csr(tmp_path, "/CN=leaf", san="subjectAltName=URI:spiffe://td.example/a")
    assert not list(load(ca.do("sign", role="web", csr=csr)["certificate"]).subject)


@pytest.mark.parametrize("profile", ["tls-server", "mtls"])
def test_a_server_needs_a_host(ca: Bench, profile: str) -> None:
    make_role(ca, profile, require_cn=False)
    with pytest.raises(KmsError, match="needs a DNS name or an IP address"):
        ca.issue(common_name="", uri_sans=["spiffe://td.example/a"])


@pytest.mark.parametrize("profile", ["code-signing", "ocsp"])
def test_a_signer_needs_a_subject(ca: Bench, profile: str) -> None:
    make_role(ca, profile, require_cn=False)
    with pytest.raises(KmsError, match="needs a subject"):
        ca.issue(common_name="", alt_names=["a.example.com"])


def test_a_responder_is_not_asked_about_itself(ca: Bench) -> None:
    ca.do("config-urls-write", **URLS)
    make_role(ca, "ocsp")
    certificate = load(ca.issue()["certificate"])
    assert x509.OCSPNoCheck.oid in {extension.oid for extension in certificate.extensions}
    assert ExtensionOID.CRL_DISTRIBUTION_POINTS not in {extension.oid for extension in certificate.extensions}


def test_without_the_profile_nobody_speaks_for_the_ca(ca: Bench) -> None:
    with pytest.raises(KmsError, match="not for certificates of this kind"):
        ca.role(ext_key_usage_oids=[ExtendedKeyUsageOID.OCSP_SIGNING.dotted_string])


TWO_THINGS: list[tuple[str, object]] = [
    ("client_flag", True),
    ("server_flag", False),
    ("code_signing_flag", True),
    ("email_protection_flag", True),
    ("ext_key_usage", ["ClientAuth"]),
    ("ext_key_usage_oids", ["1.3.6.1.5.5.7.3.2"]),
    ("key_usage", ["KeyAgreement"]),
]


def test_a_role_does_not_say_two_things(ca: Bench) -> None:
    for field, value in TWO_THINGS:
        with pytest.raises(KmsError, match=f"{field} is decided by the profile"):
            ca.role(profile="tls-server", **{field: value})


def test_a_role_shows_what_its_profile_decides(ca: Bench) -> None:
    shown = ca.role(profile="tls-client")
    assert (shown["profile"], shown["server_flag"], shown["client_flag"]) == ("tls-client", False, True)
    ca.do("role-patch", name="web", profile="code-signing")
    shown = ca.do("role-read", name="web")
    assert (shown["client_flag"], shown["code_signing_flag"]) == (False, True)
    with pytest.raises(KmsError, match='unknown profile "web"'):
        ca.role(profile="web")


# -- short-lived -------------------------------------------------------------------------------------


def test_a_short_lived_leaf_says_that_nobody_can_ask(ca: Bench, tmp_path: Path) -> None:
    ca.do("config-urls-write", **URLS)
    for profile in ("", "tls-server", "tls-client", "mtls", "spiffe", "code-signing"):
        check_short_lived(ca, tmp_path, profile)


def check_short_lived(ca: Bench, tmp_path: Path, profile: str) -> None:
    make_role(ca, profile, no_rev_avail=True, ttl=3600)
    data = ca.issue(**asked(profile))
    certificate = load(data["certificate"])
    found = certificate.extensions.get_extension_for_oid(NO_REV_AVAIL)
    assert not found.critical
    assert isinstance(found.value, x509.UnrecognizedExtension)
    assert found.value.value == b"\x05\x00"
    oids = {extension.oid for extension in certificate.extensions}
    assert ExtensionOID.CRL_DISTRIBUTION_POINTS not in oids
    access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    assert {one.access_method for one in access} == {AuthorityInformationAccessOID.CA_ISSUERS}
    assert lint(certificate.public_bytes(Encoding.DER)) == []
    openssl_verify(tmp_path, data["certificate"], data["issuing_ca"], at=START)
    text = run(["openssl", "x509", "-noout", "-text", "-in", write(tmp_path, "c.pem", data["certificate"])])
    assert "No Revocation Available" in text or "2.5.29.56" in text


def test_a_mount_with_a_responder_alone_leaves_no_empty_access(ca: Bench) -> None:
    ca.do("config-urls-write", ocsp_servers=["http://pki.example.com/ocsp"])
    ca.role(no_rev_avail=True)
    oids = {extension.oid for extension in load(ca.issue()["certificate"]).extensions}
    assert ExtensionOID.AUTHORITY_INFORMATION_ACCESS not in oids
    assert NO_REV_AVAIL in oids


def test_short_lived_is_short(ca: Bench) -> None:
    for field in ("ttl", "max_ttl"):
        with pytest.raises(KmsError, match="at most 7 days"):
            ca.role(no_rev_avail=True, **{field: SHORT_LIVED_MAX + 1})
    ca.role(no_rev_avail=True)
    data = ca.issue(ttl=30 * DAY)  # cut to the maximum, as with every role
    assert data["expiration"] == START + SHORT_LIVED_MAX - 1
    ca.role(no_rev_avail=True, not_after="2027-11-21T00:00:00Z")
    with pytest.raises(KmsError, match="live at most 7 days"):
        ca.issue()
    ca.role(no_rev_avail=True, not_after_bound="2027-11-21T00:00:00Z")
    with pytest.raises(KmsError, match="live at most 7 days"):
        ca.issue(not_after="2027-01-01T00:00:00Z")


@pytest.mark.parametrize("profile", ["ca", "ocsp"])
def test_it_is_for_end_entities(ca: Bench, profile: str) -> None:
    with pytest.raises(KmsError, match="for end entities"):
        ca.role(profile=profile, no_rev_avail=True)


# -- CAs that a role makes -----------------------------------------------------------------------------


def authority_role(bench: Bench, **more: Any) -> None:
    bench.role(
        profile="ca", key_type="any", allow_any_name=True, enforce_hostnames=False, max_ttl=YEAR, **more
    )


def request(bench: Bench, mount: str = "int") -> str:
    made = bench.do("intermediate-generate", mount, common_name="Team CA", key_type="ec", exported="internal")
    csr: str = made["csr"]
    return csr


def test_a_role_may_make_cas_that_sign_leaves(ca: Bench, tmp_path: Path) -> None:
    ca.do("config-urls-write", **URLS)
    authority_role(ca)
    signed = ca.do("sign", role="web", csr=request(ca), ttl=YEAR // 2)
    certificate = load(signed["certificate"])
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.value.ca, basic.value.path_length, basic.critical) == (True, 0, True)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_cert_sign
    assert usage.crl_sign
    assert not usage.digital_signature
    assert ExtensionOID.EXTENDED_KEY_USAGE not in {extension.oid for extension in certificate.extensions}
    assert lint(certificate.public_bytes(Encoding.DER)) == []
    ca.do(
        "intermediate-set-signed", "int", certificate="\n".join([signed["certificate"], *signed["ca_chain"]])
    )
    ca.role("web", "int")
    leaf = ca.issue("int")
    openssl_verify(tmp_path, leaf["certificate"], signed["issuing_ca"], signed["certificate"], at=START)


def test_a_ca_is_on_the_whole_crl_whatever_shards_its_issuer_has(ca: Bench) -> None:
    ca.do("config-urls-write", **URLS)
    ca.do("config-crl-write", shards=4)
    authority_role(ca)
    certificate = load(ca.do("sign", role="web", csr=request(ca))["certificate"])
    points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert [name.value for point in points for name in point.full_name or ()] == URLS[
        "crl_distribution_points"
    ]


def test_the_key_of_a_ca_is_not_sent_about(ca: Bench) -> None:
    authority_role(ca)
    with pytest.raises(KmsError, match="use sign with a CSR"):
        ca.issue()


def test_no_ca_below_one_that_signs_leaves_only(ca: Bench) -> None:
    ca.intermediate(max_path_length=0)
    ca.role("web", "int", profile="ca", key_type="any", allow_any_name=True, enforce_hostnames=False)
    with pytest.raises(KmsError, match="path length of 0"):
        ca.do("sign", "int", role="web", csr=request(ca, "below"))


def test_a_cas_certificate_is_kept(ca: Bench) -> None:
    with pytest.raises(KmsError, match="always kept"):
        authority_role(ca, no_store=True)
