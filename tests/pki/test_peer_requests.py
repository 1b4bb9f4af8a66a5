"""Which names roles let through, and what of a CSR counts: the real server's answer, or a reason why not."""

from __future__ import annotations

import ipaddress
import re
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kms.errors import KmsError
from tests.pki.bench import Bench, load
from tests.pki.peer import Peer, running_peer

EC = {"key_type": "ec", "require_cn": False}
LISTED = "*.example.com,me@example.com,*.*.x.com,a*.example.com"
ROLES: dict[str, dict[str, Any]] = {
    "subdomains": {"allowed_domains": "example.com", "allow_subdomains": True},
    "bare": {"allowed_domains": "example.com", "allow_bare_domains": True},
    "both": {"allowed_domains": "example.com", "allow_bare_domains": True, "allow_subdomains": True},
    "capitals": {"allowed_domains": "EXAMPLE.com", "allow_bare_domains": True, "allow_subdomains": True},
    "globs": {"allowed_domains": "*.example.com,db-*.int,ftp*.foo.com", "allow_glob_domains": True},
    "globs of addresses": {"allowed_domains": "me@*.com", "allow_glob_domains": True},
    "listed": {"allowed_domains": LISTED, "allow_bare_domains": True},
    "listed, subdomains": {"allowed_domains": LISTED, "allow_subdomains": True},
    "no wildcards": {
        "allowed_domains": "*.example.com,example.com",
        "allow_bare_domains": True,
        "allow_subdomains": True,
        "allow_wildcard_certificates": False,
    },
    "leading dot": {"allowed_domains": ".example.com", "allow_subdomains": True, "allow_bare_domains": True},
    "whole top": {"allowed_domains": "com", "allow_subdomains": True},
    "nothing": {"allowed_domains": "", "allow_subdomains": True, "allow_bare_domains": True},
    "no localhost": {"allow_localhost": False, "allow_subdomains": True},
    "localhost": {"allow_subdomains": True},
    "anything": {"allow_any_name": True},
    "any text": {"allow_any_name": True, "enforce_hostnames": False},
    "addresses only": {"allow_any_name": True, "cn_validations": ["email"]},
    "hosts only": {"allow_any_name": True, "cn_validations": ["hostname"]},
}
NAMES = (
    """
a.example.com|A.EXAMPLE.COM|example.com|Example.com|*.example.com|*.EXAMPLE.com|*.a.example.com|a.b.example.com
badexample.com|com|a.com|*.com|db-1.int|ftpx.foo.com|*.foo.com|ax.example.com|me@example.com|ME@example.com
you@example.com|me@a.example.com|me@example.org|localhost|localdomain|a.localhost|LOCALHOST|Some Service|x y|-a.com
*.*.x.com|*.*.example.com|a.*.example.com|a_b.example.com|xn--mnchen-3ya.example.com
""".strip()
    .replace("\n", "|")
    .split("|")
)
# Of those that the real server takes and we do not: why.
STRICTER: dict[str, str] = {
    r"^\*\.\*\.": "a wildcard is one whole leftmost label (RFC 6125 6.4.3)",
    r"^a\*|\.\*\.": "a wildcard is one whole leftmost label (RFC 6125 6.4.3)",
}


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    with running_peer(tmp_path_factory.mktemp("peer")) as server:
        yield server


def said(certificate: x509.Certificate) -> tuple[str, list[str]]:
    """Subject and alternative names."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return certificate.subject.rfc4514_string(), []
    return certificate.subject.rfc4514_string(), sorted(str(name.value) for name in names)


def theirs(peer: Peer, path: str, body: dict[str, Any]) -> Any:
    status, parsed = peer.call("POST", path, body)
    return said(load(parsed["data"]["certificate"])) if status == 200 else "refused"


def ours(ca: Bench, operation: str, **body: Any) -> Any:
    try:
        return said(load(ca.do(operation, **body)["certificate"]))
    except KmsError:
        return "refused"


@pytest.mark.parametrize("role", ROLES)
def test_roles_let_the_same_names_through(ca: Bench, peer: Peer, role: str) -> None:
    settings = {**EC, **ROLES[role]}
    peer.data("POST", "pki/roles/names", settings)
    domains = settings.pop("allowed_domains", "")
    ca.do("role-write", name="names", **settings, allowed_domains=[one for one in domains.split(",") if one])
    differ = {}
    for name in NAMES:
        wanted = theirs(peer, "pki/issue/names", {"common_name": name})
        found = ours(ca, "issue", role="names", common_name=name)
        if found != wanted and not any(re.search(pattern, name) for pattern in STRICTER):
            differ[name] = (found, wanted)
    assert differ == {}


def request(*subject: tuple[x509.ObjectIdentifier, str], **extensions: Any) -> str:
    """A CSR with a new key."""
    with warnings.catch_warnings(action="ignore"):  # that an attribute is too long
        name = x509.Name([x509.NameAttribute(oid, value, _validate=False) for oid, value in subject])
    made = x509.CertificateSigningRequestBuilder().subject_name(name)
    for value in extensions.values():
        critical = isinstance(value, x509.BasicConstraints | x509.KeyUsage | x509.NameConstraints)
        made = made.add_extension(value, critical=critical)
    signed = made.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(Encoding.PEM).decode()


CN, UID, SERIAL, O = (  # noqa: E741  (as X.520 calls it)
    NameOID.COMMON_NAME,
    NameOID.USER_ID,
    NameOID.SERIAL_NUMBER,
    NameOID.ORGANIZATION_NAME,
)
LEAF = x509.SubjectAlternativeName([x509.DNSName("a.example.com")])
OPEN = {**EC, "allow_any_name": True, "allowed_user_ids": ["u*"], "allowed_serial_numbers": ["7*"]}
ALIKE: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "user id and serial number": (
        {},
        request((CN, "a.example.com"), (UID, "u1"), (SERIAL, "77"), san=LEAF),
        {},
    ),
    "two user ids": ({}, request((CN, "a.example.com"), (UID, "u1"), (UID, "u2")), {}),
    "they lose against the API's": (
        {},
        request((CN, "a.example.com"), (UID, "u1"), (SERIAL, "77")),
        {"user_ids": ["u3"], "serial_number": "78"},
    ),
    "they count whatever else does": (
        {"use_csr_common_name": False, "use_csr_sans": False},
        request((CN, "b.example.com"), (UID, "u1"), (SERIAL, "77"), san=LEAF),
        {"common_name": "c.example.com"},
    ),
    "a user id that the role does not allow": ({}, request((CN, "a.example.com"), (UID, "x")), {}),
    "a serial number that the role does not allow": ({}, request((CN, "a.example.com"), (SERIAL, "8")), {}),
    "one of two user ids not allowed": ({}, request((CN, "a.example.com"), (UID, "u1"), (UID, "x")), {}),
    "NUL in a name": ({}, request((CN, "a.example.com\0.bad.org")), {}),
    "NUL in an alternative name": (
        {},
        request(
            (CN, "a.example.com"),
            san=x509.SubjectAlternativeName(
                [x509.DNSName._init_without_validation("a.example.com\0.bad.org")]
            ),
        ),
        {},
    ),
    "a long other name": (
        {"allowed_other_sans": ["*"]},
        request(
            (CN, "a.example.com"),
            san=x509.SubjectAlternativeName(
                [
                    x509.OtherName(
                        x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x81\xc8" + b"x" * 200
                    )
                ]
            ),
        ),
        {},
    ),
}


@pytest.mark.parametrize("case", ALIKE)
def test_the_same_of_a_csr_counts(ca: Bench, peer: Peer, case: str) -> None:
    role, csr, body = ALIKE[case]
    peer.data("POST", "pki/roles/csr", {**OPEN, **role})
    ca.do("role-write", name="csr", **{**OPEN, **role})
    wanted = theirs(peer, "pki/sign/csr", {"csr": csr, **body})
    assert ours(ca, "sign", role="csr", csr=csr, **body) == wanted
    assert (wanted == "refused") == ("not allow" in case or "NUL" in case)


POLICIES: dict[str, list[str]] = {
    "plain": ["1.2.3.4", "1.2.3.5"],
    "a statement": ['{"oid":"1.3.6.1.4.1.7.8","cps":"https://example.com/cps"}'],
    "a notice": ['{"oid":"1.3.6.1.4.1.7.8","notice":"A, and B"}', "1.2.3.4"],
    "both": ['{"oid":"1.3.6.1.4.1.7.8","notice":"I am a user Notice","cps":"https://example.com"}'],
    "empty ones": ['{"oid":"1.2.3.4","notice":"","cps":""}'],
    "no identifier": ['{"cps":"https://example.com"}'],
    "a bad identifier": ['{"oid":"foo"}'],
    "broken": ['{"oid":"1.2.3"'],
    "a statement that is no URI": ['{"oid":"1.2.3","cps":"\u00fc"}'],
}


@pytest.mark.parametrize("case", POLICIES)
def test_policies_have_the_same_qualifiers(ca: Bench, peer: Peer, case: str) -> None:
    settings = {**EC, "allow_any_name": True, "policy_identifiers": POLICIES[case]}
    status, parsed = peer.call("POST", "pki/roles/policies", settings)
    if case in {"no identifier", "a bad identifier", "broken", "a statement that is no URI"}:
        assert status == 500  # its fault, it says
        with pytest.raises(KmsError, match="policy identifier"):
            ca.do("role-write", name="policies", **settings)
        return
    ca.do("role-write", name="policies", **settings)
    shown = parsed["data"]["policy_identifiers"]
    assert ca.do("role-read", name="policies")["policy_identifiers"] == shown == POLICIES[case]
    made = (
        ca.do("issue", role="policies", common_name="a.example.com"),
        peer.data("POST", "pki/issue/policies", {"common_name": "a.example.com"}),
    )
    mine, other = (
        load(data["certificate"]).extensions.get_extension_for_class(x509.CertificatePolicies).value
        for data in made
    )
    assert mine == other


@pytest.mark.parametrize(
    "text",
    ['{"oid":"1.2.3","other":"x"}', '{"oid":1}', '{"oid":"1.2.3","notice":"' + "x" * 201 + '"}', "{" * 5000],
)
def test_policies_that_are_none(ca: Bench, text: str) -> None:
    with pytest.raises(KmsError, match="policy identifier"):
        ca.do("role-write", name="policies", policy_identifiers=[text])


MAPPED = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("::ffff:10.1.2.3"))])


@pytest.mark.parametrize("where", ["sign-verbatim", "root/sign-intermediate"])
def test_an_ipv4_address_written_as_ipv6_is_not_copied(ca: Bench, peer: Peer, where: str) -> None:
    """Go does not even parse a certificate with one."""
    more = {"use_csr_values": True} if "intermediate" in where else {}
    csr = request((CN, "a.example.com"), san=MAPPED)
    assert theirs(peer, f"pki/{where}", {"csr": csr, **more}) == "refused"
    ca.token.calls.clear()
    with pytest.raises(KmsError, match="an IPv4 address written as IPv6"):
        ca.do(where.removeprefix("root/"), csr=csr, **more)
    assert ca.token.calls == []


def test_under_a_role_it_is_the_ipv4_address_that_it_means(ca: Bench) -> None:
    """And is judged as that: OpenBao's GHSA-g892."""
    csr = request((CN, "a.example.com"), san=MAPPED)
    ca.role(allowed_ip_sans_cidr=["::/0"])
    assert ours(ca, "sign", role="web", csr=csr) == "refused"
    ca.role(allowed_ip_sans_cidr=["10.0.0.0/8"])
    assert ours(ca, "sign", role="web", csr=csr)[1] == ["10.1.2.3", "a.example.com"]


CA_VALUES: dict[str, Any] = {
    "basic": x509.BasicConstraints(ca=True, path_length=0),
    "san": x509.SubjectAlternativeName(
        [x509.UniformResourceIdentifier("spiffe://td.example"), x509.DNSName("ca.example.com")]
    ),
    "constraints": x509.NameConstraints([x509.DNSName("example.com")], [x509.DNSName("secret.example.com")]),
    "usages": x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
    "policies": x509.CertificatePolicies(
        [x509.PolicyInformation(x509.ObjectIdentifier("1.3.6.1.4.1.9.1"), None)]
    ),
}


def test_a_cas_csr_is_carried_over_when_it_is_to_be(ca: Bench, peer: Peer) -> None:
    csr = request((O, "Example"), (CN, "Sub CA"), **CA_VALUES)
    body = {"csr": csr, "use_csr_values": True}
    status, parsed = peer.call("POST", "pki/root/sign-intermediate", body)
    assert status == 200, parsed
    both = (load(ca.do("sign-intermediate", **body)["certificate"]), load(parsed["data"]["certificate"]))
    for certificate in both:
        assert said(certificate) == ("CN=Sub CA,O=Example", ["ca.example.com", "spiffe://td.example"])
        for name in ("constraints", "usages", "policies"):
            value = CA_VALUES[name]
            assert certificate.extensions.get_extension_for_class(type(value)).value == value
    # The peer makes a CA of more power than was asked for.
    lengths = [
        each.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length for each in both
    ]
    assert lengths == [0, None]
    # Without the flag, none of it counts in either.
    plain = {"csr": csr, "common_name": "Sub CA"}
    status, parsed = peer.call("POST", "pki/root/sign-intermediate", {**plain, "exclude_cn_from_sans": True})
    for certificate in (
        load(ca.do("sign-intermediate", **plain)["certificate"]),
        load(parsed["data"]["certificate"]),
    ):
        assert said(certificate) == ("CN=Sub CA", [])
        assert x509.NameConstraints.oid not in {each.oid for each in certificate.extensions}


def test_what_of_a_cas_csr_is_left_out_is_said(ca: Bench) -> None:
    usage = dict.fromkeys(
        ("data_encipherment", "encipher_only", "decipher_only", "content_commitment"), False
    )
    more = x509.KeyUsage(
        digital_signature=True,
        key_encipherment=True,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        **usage,
    )
    template = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2"), b"\x1e\x02\x00S")
    csr = request((CN, "Sub CA"), usage=more, template=template)
    result = ca.result("sign-intermediate", csr=csr, use_csr_values=True)
    left = [warning for warning in result.warnings if "left out" in warning]
    assert left == [
        "the CSR's key usage key_encipherment was left out",
        "the CSR's extension 1.3.6.1.4.1.311.20.2 was left out",
    ]
    made = load((result.data or {})["certificate"]).extensions.get_extension_for_class(x509.KeyUsage).value
    assert made.digital_signature
    assert made.key_cert_sign
    assert not made.key_encipherment


BAD_CAS: dict[str, tuple[str, dict[str, Any], str]] = {
    "NUL": (request((CN, "Sub\0CA")), {}, "control characters"),
    "a long name": (request((CN, "x" * 65)), {}, "1 to 64 characters"),
    "no subject": (request(), {}, "a CA needs a subject"),
    "any purpose": (
        request((CN, "Sub CA"), usages=x509.ExtendedKeyUsage([x509.ObjectIdentifier("2.5.29.37.0")])),
        {},
        "not for certificates of this kind",
    ),
    "two constraints": (
        request((CN, "Sub CA"), constraints=CA_VALUES["constraints"]),
        {"permitted_dns_domains": ["example.org"]},
        "both say name constraints",
    ),
    "a bad name": (
        request((CN, "Sub CA"), san=x509.SubjectAlternativeName([x509.DNSName("a_b.example.com")])),
        {},
        "cannot stand in a certificate",
    ),
}


@pytest.mark.filterwarnings("ignore:Attribute's length")
@pytest.mark.parametrize("case", BAD_CAS)
def test_a_cas_csr_that_is_refused(ca: Bench, case: str) -> None:
    csr, more, text = BAD_CAS[case]
    ca.token.calls.clear()
    with pytest.raises(KmsError, match=text):
        ca.do("sign-intermediate", csr=csr, use_csr_values=True, **more)
    assert ca.token.calls == []


def test_a_critical_wish_that_is_not_understood_is_refused(ca: Bench) -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4.5"), b"\x05\x00")
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([x509.NameAttribute(CN, "Sub CA")]))
    signed = made.add_extension(unknown, critical=True).sign(
        ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()
    )
    csr = signed.public_bytes(Encoding.PEM).decode()
    with pytest.raises(KmsError, match=r"critical extension that is not carried over: 1\.2\.3\.4\.5"):
        ca.do("sign-intermediate", csr=csr, use_csr_values=True)
    assert ca.do("sign-intermediate", csr=csr, common_name="Sub CA")["certificate"]
