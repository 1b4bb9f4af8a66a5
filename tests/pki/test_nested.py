"""Extended key usages of issuers limit what is below them: for every relying party, so here as well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from kms.errors import KmsError
from tests.pki.bench import START, Bench, load, make_csr
from tests.pki.outside import openssl_verify

NOBODY = "the issuing CA is not for the extended key usages .*: nobody would accept it"
SERVER, CLIENT = "1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"


@pytest.fixture
def clients(ca: Bench) -> dict[str, Any]:
    """A CA `int` for clients below `pki`, and what signed it said."""
    signed = ca.intermediate(ext_key_usage=["ClientAuth"])
    ca.mount("low")
    return signed


def test_a_leaf_that_nobody_would_accept_is_refused(
    ca: Bench, clients: dict[str, Any], tmp_path: Path
) -> None:
    assert clients["certificate"]
    ca.role("web", "int", server_flag=True, client_flag=False)
    csr = make_csr(tmp_path, "/CN=a.example.com")
    coded = make_csr(tmp_path, "/CN=a.example.com", eku="extendedKeyUsage=codeSigning")
    ca.token.calls.clear()
    for way, wish in (
        ("issue", {"role": "web", "common_name": "a.example.com"}),
        ("sign", {"role": "web", "csr": csr}),
        ("sign-verbatim", {"csr": coded}),
        ("sign-verbatim", {"csr": csr, "ext_key_usage": ["ServerAuth", "CodeSigning"]}),
        ("sign-intermediate", {"csr": csr, "ext_key_usage": ["ServerAuth"]}),
    ):
        with pytest.raises(KmsError, match=NOBODY):
            ca.do(way, "int", **wish)
    assert ca.token.calls == []


def test_of_a_roles_usages_those_that_the_issuer_has_are_left(
    ca: Bench, clients: dict[str, Any], tmp_path: Path
) -> None:
    ca.role("web", "int")  # for servers and clients
    result = ca.result("issue", "int", role="web", common_name="a.example.com")
    assert result.warnings == (
        f"the issuing CA is not for the extended key usages {SERVER}: they were left out",
    )
    leaf = (result.data or {})["certificate"]
    found = load(leaf).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [usage.dotted_string for usage in found] == [CLIENT]
    chain = (leaf, clients["issuing_ca"], clients["certificate"])
    openssl_verify(tmp_path, *chain, at=START, purpose="sslclient")
    with pytest.raises(AssertionError, match="purpose"):
        openssl_verify(tmp_path, *chain, at=START, purpose="sslserver")
    ca.role("web", "int", profile="mtls")  # by this name it is for both
    with pytest.raises(KmsError, match=NOBODY):
        ca.issue("int")


def test_what_is_inside_passes_without_a_word(ca: Bench, clients: dict[str, Any], tmp_path: Path) -> None:
    assert clients["certificate"]
    ca.role("web", "int", server_flag=False)
    assert ca.result("issue", "int", role="web", common_name="a.example.com").warnings == ()
    plain = make_csr(tmp_path, "/CN=a.example.com")
    assert ca.result("sign-verbatim", "int", csr=plain).warnings == ()  # for no purpose in particular


def test_the_usages_of_all_issuers_of_the_path_count(ca: Bench, clients: dict[str, Any]) -> None:
    assert clients["certificate"]
    csr = ca.do("intermediate-generate", "low", common_name="Low", key_type="ec", exported="internal")["csr"]
    signed = ca.do("sign-intermediate", "int", csr=csr, ttl=86_400 * 30)
    ca.do("intermediate-set-signed", "low", certificate="\n".join(signed["ca_chain"]))
    ca.role("web", "low", server_flag=True, client_flag=False)
    with pytest.raises(KmsError, match=NOBODY):
        ca.issue("low")
    ca.role("web", "low", server_flag=False)
    assert ca.issue("low")["serial_number"]
