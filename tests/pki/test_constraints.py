"""Name constraints of a whole path bind what is issued below it, whichever way it is asked for.

The root that has them comes from elsewhere: Keystead itself sets permitted host names alone.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from kms.errors import KmsError
from tests.pki import foreign
from tests.pki.bench import START, YEAR, Bench, make_csr
from tests.pki.outside import openssl_verify

PERMITTED: list[x509.GeneralName] = [
    x509.DNSName("example.com"),
    x509.RFC822Name(".example.com"),
]
# Go and GnuTLS refuse whatever is below such a one.
SUBJECTS: list[x509.GeneralName] = [
    x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example")]))
]
EXCLUDED: list[x509.GeneralName] = [
    x509.DNSName("secret.example.com"),
    x509.IPAddress(ipaddress.ip_network("10.0.0.0/8")),
]


def constrained_root(permitted: list[x509.GeneralName]) -> tuple[str, str]:
    """Key and certificate of a root."""
    return foreign.root(x509.NameConstraints(permitted, EXCLUDED))


@pytest.fixture
def below(bench: Bench) -> tuple[Bench, str, str]:
    """A root with constraints, an intermediate without any, and roles that allow everything; with both certificates."""
    key, root = constrained_root(PERMITTED)
    bench.do("import-bundle", pem_bundle=key + root)
    made = {"common_name": "Below", "organization": ["Example"]}
    csr = bench.do("intermediate-generate", "int", **made, key_type="ec", exported="internal")["csr"]
    signed = bench.do("sign-intermediate", csr=csr, ttl=YEAR // 2, **made)
    bench.do("intermediate-set-signed", "int", certificate="\n".join(signed["ca_chain"]))
    for mount in ("pki", "int"):
        bench.role("web", mount, allow_any_name=True, require_cn=False, organization=["Example"])
    return bench, root, signed["certificate"]


OUTSIDE: dict[str, tuple[str, str]] = {
    "another domain": ("/O=Example/CN=a.example.org", "DNS:a.example.org"),
    "another domain in the common name": ("/O=Example/CN=a.example.org", "DNS:a.example.com"),
    "an excluded name": ("/O=Example", "DNS:a.secret.example.com"),
    "a wildcard for an excluded name": ("/O=Example", "DNS:*.example.com"),
    "an excluded address": ("/O=Example", "IP:10.1.2.3"),
    "another mail domain": ("/O=Example", "email:me@example.org"),
}
INSIDE = "DNS:a.example.com,DNS:*.b.example.com,IP:192.168.1.1,email:me@mail.example.com"


@pytest.mark.parametrize("mount", ["pki", "int"])
@pytest.mark.parametrize("way", ["sign", "sign-verbatim"])
@pytest.mark.parametrize("case", OUTSIDE)
def test_outside(below: tuple[Bench, str, str], tmp_path: Path, mount: str, way: str, case: str) -> None:
    bench, _, _ = below
    subject, san = OUTSIDE[case]
    csr = make_csr(tmp_path, subject, san=f"subjectAltName={san}")
    bench.token.calls.clear()
    with pytest.raises(KmsError, match="outside the name constraints of the issuing CA"):
        bench.do(way, mount, role="web", csr=csr)
    assert bench.token.calls == []


def test_a_subject_that_is_not_below_the_permitted_one(bench: Bench, tmp_path: Path) -> None:
    key, root = constrained_root(SUBJECTS)
    bench.do("import-bundle", pem_bundle=key + root)
    bench.role("web", organization=["Other"])
    wishes: list[tuple[str, dict[str, Any]]] = [
        ("issue", {"role": "web", "common_name": "a.example.com"}),
        ("sign", {"role": "web", "csr": make_csr(tmp_path, "/CN=a.example.com")}),
        ("sign-verbatim", {"csr": make_csr(tmp_path, "/O=Other/CN=a.example.com")}),
        ("sign-intermediate", {"csr": make_csr(tmp_path, "/CN=Sub"), "common_name": "Sub"}),
    ]
    for way, wish in wishes:
        with pytest.raises(KmsError, match="outside the name constraints of the issuing CA"):
            bench.do(way, **wish)
    assert bench.token.calls == []


def test_inside_is_issued_and_openssl_agrees(below: tuple[Bench, str, str], tmp_path: Path) -> None:
    bench, root, between = below
    csr = make_csr(tmp_path, "/O=Example/CN=a.example.com", san=f"subjectAltName={INSIDE}")
    for way in ("sign", "sign-verbatim"):
        leaf = bench.do(way, "int", role="web", csr=csr)["certificate"]
        openssl_verify(tmp_path, leaf, root, between, at=START)
