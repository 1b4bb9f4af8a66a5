"""T-54: the grammar of names. One row per rule, refusals first."""

from __future__ import annotations

import ipaddress

import pytest
from cryptography import x509

from kms.errors import KmsError
from pki import constraints
from pki.names import BadName, Names, check_dns, check_email, check_ip, check_text, check_uri

BAD_DNS = {
    "empty": "",
    "trailing dot": "a.example.com.",
    "leading dot": ".example.com",
    "empty label": "a..example.com",
    "underscore": "a_b.example.com",
    "leading hyphen": "-a.example.com",
    "trailing hyphen": "a-.example.com",
    "blank": "a b.example.com",
    "NUL": "a.example.com\0.evil.org",
    "newline": "a.example.com\n",
    "not ASCII": "münchen.example.com",
    "partial wildcard": "a*.example.com",
    "wildcard inside": "a.*.example.com",
    "two wildcards": "*.*.example.com",
    "bare wildcard": "*",
    "IPv4": "10.0.0.1",
    "IPv6": "::1",
    "IPv6 in brackets": "[::1]",
    "ends in a number": "example.1",
    "ends in hex": "example.0x7f",
    "label of 64": "a" * 64 + ".example.com",
    "254 characters": ".".join(["a" * 49] * 5) + ".abcd",
    "reserved hyphens": "ab--cd.example.com",
    "punycode that decodes to ASCII": "xn--abc-.example.com",
    "broken punycode": "xn--99999999.example.com",
    "at": "a@example.com",
    "slash": "a/b.example.com",
    "colon": "example.com:443",
}
GOOD_DNS = [
    "a.example.com",
    "localhost",
    "*.example.com",
    "A.Example.COM",
    "xn--mnchen-3ya.de",
    "a" * 63 + ".b",
]


@pytest.mark.parametrize("name", BAD_DNS.values(), ids=BAD_DNS.keys())
def test_refused_as_host_name(name: str) -> None:
    with pytest.raises(BadName):
        check_dns(name)


@pytest.mark.parametrize("name", GOOD_DNS)
def test_accepted_as_host_name(name: str) -> None:
    assert check_dns(name) == name


BAD_EMAIL = [
    "",
    "a",
    "@example.com",
    "a@",
    "a@b@example.com",
    "a b@example.com",
    "a@*.example.com",
    "a@10.0.0.1",
    ".a@example.com",
    "a..b@example.com",
    "ä@example.com",
    "a\0@example.com",
    "x" * 65 + "@example.com",
]


@pytest.mark.parametrize("address", BAD_EMAIL)
def test_refused_as_email(address: str) -> None:
    with pytest.raises(BadName):
        check_email(address)


BAD_URI = [
    "",
    "example.com",
    "//example.com",
    "https://",
    "https:///path",
    "https://a b/",
    "https://exämple.com/",
    "https://example.com/%zz",
    "https://example.com/\0",
    "1http://example.com",
    "spiffe:a/b",
    "spiffe://",
    "spiffe://UPPER/x",
    "spiffe://td/",
    "spiffe://td//x",
    "spiffe://td/../x",
    "spiffe://td/./x",
    "spiffe://td/x/",
    "spiffe://td/x?q=1",
    "spiffe://td/x#f",
    "spiffe://td:80/x",
    "spiffe://user@td/x",
    "spiffe://td/%41",
    "SPIFFE://td/x",
    "spiffe://" + "a" * 256 + "/x",
    "spiffe://td/" + "a" * 2048,
]


@pytest.mark.parametrize("uri", BAD_URI)
def test_refused_as_uri(uri: str) -> None:
    with pytest.raises(BadName):
        check_uri(uri)


@pytest.mark.parametrize(
    "uri",
    ["spiffe://td/a/b-c_d.e", "spiffe://td", "https://example.com/x", "urn:uuid:1", "ldap://10.0.0.1/x"],
)
def test_accepted_as_uri(uri: str) -> None:
    assert check_uri(uri) == uri


@pytest.mark.parametrize("text", ["", "x", "1.2.3", "1.2.3.4/8", "fe80::1%eth0", "01.2.3.4", "1.2.3.4 "])
def test_refused_as_ip(text: str) -> None:
    with pytest.raises(BadName):
        check_ip(text)


def test_a_mapped_address_counts_as_the_ipv4_address_that_it_is() -> None:
    assert str(check_ip("::ffff:10.1.2.3")) == "10.1.2.3"


@pytest.mark.parametrize(
    "text", ["", "a" * 65, "\u00e9" * 33, "\ud800", "a\0b", "a\nb", "a\u202eb", "e\u0301"]
)
def test_refused_as_text_of_a_subject(text: str) -> None:
    with pytest.raises(BadName):
        check_text(text, 64, "it")


def _tree(name: x509.GeneralName) -> list[x509.NameConstraints]:
    return [x509.NameConstraints(permitted_subtrees=[name], excluded_subtrees=None)]


def _without(name: x509.GeneralName) -> list[x509.NameConstraints]:
    return [x509.NameConstraints(permitted_subtrees=None, excluded_subtrees=[name])]


CONSTRAINED = [
    (Names(dns=("a.example.org",)), x509.DNSName("example.com")),
    (Names(dns=("badexample.com",)), x509.DNSName("example.com")),
    (Names(dns=("*.org",)), x509.DNSName("example.org")),
    (Names(common_name="a.example.org"), x509.DNSName("example.com")),
    (Names(emails=("a@example.org",)), x509.RFC822Name("example.com")),
    (Names(emails=("a@sub.example.com",)), x509.RFC822Name("example.com")),
    (Names(emails=("a@example.com",)), x509.RFC822Name("b@example.com")),
    (Names(uris=("spiffe://other/x",)), x509.UniformResourceIdentifier("td")),
    (Names(uris=("https://example.com/x",)), x509.UniformResourceIdentifier(".example.com")),
    (Names(uris=("urn:uuid:1",)), x509.UniformResourceIdentifier(".example.com")),
    (Names(uris=("https://10.0.0.1/",)), x509.UniformResourceIdentifier(".example.com")),
    (Names(others=(("1.2.3.4", "x"),)), x509.OtherName(x509.ObjectIdentifier("1.2.3.4"), b"\x0c\x01x")),
]


@pytest.mark.parametrize(("names", "tree"), CONSTRAINED)
def test_a_name_outside_the_issuers_constraints_is_refused(names: Names, tree: x509.GeneralName) -> None:
    with pytest.raises(KmsError, match="outside the name constraints"):
        constraints.check(names, _tree(tree))


@pytest.mark.parametrize(
    ("names", "tree"),
    [
        (Names(dns=("example.com", "A.EXAMPLE.com", "*.example.com")), x509.DNSName("example.com")),
        (Names(common_name="Some Service"), x509.DNSName("example.com")),
        (Names(emails=("a@sub.example.com",)), x509.RFC822Name(".example.com")),
        (Names(uris=("spiffe://td/x",)), x509.UniformResourceIdentifier("td")),
        (Names(dns=("anything.org",)), x509.UniformResourceIdentifier("td")),
    ],
)
def test_a_name_inside_or_of_another_kind_passes(names: Names, tree: x509.GeneralName) -> None:
    constraints.check(names, _tree(tree))


EXCLUDED = [
    (Names(dns=("secret.example.com",)), x509.DNSName("secret.example.com")),
    # It stands for secret.example.com: what Go's verifier let through (CVE-2025-61727), and OpenSSL's does.
    (Names(dns=("*.example.com",)), x509.DNSName("secret.example.com")),
    (Names(dns=("*.EXAMPLE.com",)), x509.DNSName("Secret.example.com")),
    (Names(dns=("*.example.com",)), x509.DNSName(".secret.example.com")),
    (Names(dns=("*.example.com",)), x509.DNSName(".example.com")),
    (Names(dns=("a.example.com",)), x509.DNSName("")),
    (Names(common_name="*.example.com"), x509.DNSName("secret.example.com")),
    (Names(emails=("a@EXAMPLE.com",)), x509.RFC822Name("example.com")),
    (Names(emails=("Boss@example.com",)), x509.RFC822Name("boss@example.com")),
    (Names(emails=("boss@Example.com",)), x509.RFC822Name("boss@example.com")),
    (Names(uris=("https://secret.example.com/x",)), x509.UniformResourceIdentifier(".example.com")),
    # RFC 5280 4.2.1.10: without a host name "the application MUST reject".
    (Names(uris=("urn:uuid:1",)), x509.UniformResourceIdentifier(".example.com")),
    (Names(uris=("https://[fd00::1]/",)), x509.UniformResourceIdentifier(".example.com")),
    (Names(ips=(ipaddress.ip_address("10.1.2.3"),)), x509.IPAddress(ipaddress.ip_network("10.0.0.0/8"))),
    (Names(others=(("1.2.3.4", "x"),)), x509.OtherName(x509.ObjectIdentifier("1.2.3.4"), b"\x0c\x01y")),
]


@pytest.mark.parametrize(("names", "tree"), EXCLUDED)
def test_a_name_that_touches_what_is_excluded_is_refused(names: Names, tree: x509.GeneralName) -> None:
    with pytest.raises(KmsError, match="outside the name constraints"):
        constraints.check(names, _without(tree))


@pytest.mark.parametrize(
    ("names", "tree"),
    [
        (Names(dns=("example.com", "*.example.org")), x509.DNSName("secret.example.com")),
        # One label is all that a wildcard stands for.
        (Names(dns=("*.example.com",)), x509.DNSName("very.secret.example.com")),
        (Names(dns=("notsecret.example.com",)), x509.DNSName("secret.example.com")),
        (Names(emails=("a@sub.example.com",)), x509.RFC822Name("example.com")),
        (Names(uris=("spiffe://td/x",)), x509.UniformResourceIdentifier("other")),
        (Names(ips=(ipaddress.ip_address("fd00::1"),)), x509.IPAddress(ipaddress.ip_network("10.0.0.0/8"))),
    ],
)
def test_a_name_beside_what_is_excluded_passes(names: Names, tree: x509.GeneralName) -> None:
    constraints.check(names, _without(tree))


def test_an_excluded_name_is_refused_even_when_permitted() -> None:
    both = [
        x509.NameConstraints(
            permitted_subtrees=[x509.DNSName("example.com")],
            excluded_subtrees=[x509.DNSName("secret.example.com")],
        )
    ]
    constraints.check(Names(dns=("a.example.com",)), both)
    with pytest.raises(KmsError):
        constraints.check(Names(dns=("a.secret.example.com",)), both)


def test_each_of_several_constraints_binds() -> None:
    """Of an issuer and of those above it: what is left is what all of them permit."""
    both = _tree(x509.DNSName("example.com")) + _tree(x509.DNSName("a.example.com"))
    for order in (both, both[::-1]):
        constraints.check(Names(dns=("x.a.example.com",)), order)
        with pytest.raises(KmsError, match="outside"):
            constraints.check(Names(dns=("x.b.example.com",)), order)


def _name(text: str) -> x509.Name:
    return x509.Name.from_rfc4514_string(text)


@pytest.mark.parametrize(
    ("subject", "tree", "passes"),
    [
        ("CN=a,O=Example", "O=Example", True),
        ("CN=a,O=EXAMPLE", "O=example", True),
        ("CN=a,O=Other", "O=Example", False),
        ("CN=a", "O=Example", False),
        ("CN=a,O=Example,C=DE", "O=Example", False),  # the subtree begins at the top
        ("CN=a,OU=x,O=Example,C=DE", "O=Example,C=DE", True),
        ("", "O=Example", True),  # the field must not be empty for it to be limited
    ],
)
def test_constraints_of_directory_names_limit_the_subject(subject: str, tree: str, passes: bool) -> None:
    name = x509.DirectoryName(_name(tree))
    assert _passes(subject, _tree(name)) is passes
    assert _passes(subject, _without(name)) is (not passes or not subject)


def _passes(subject: str, limits: list[x509.NameConstraints]) -> bool:
    try:
        constraints.check_subject(_name(subject), limits)
    except KmsError as error:
        return "outside the name constraints" not in error.detail
    return True
