"""CAs: what is refused before a key is made, several issuers, chains, imported certificates."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509

from kms.errors import ErrorKind, KmsError
from pki.goodkey import Blocklist, spki_der, spki_hash
from tests.pki.bench import START, YEAR, Bench, load, make_bench

ROOTS: dict[str, tuple[dict[str, Any], str]] = {
    "key type": ({"key_type": "foo"}, "^unknown key type foo$"),
    "curve": ({"key_bits": 100}, "^unsupported bit length for EC key: 100$"),
    "no name": ({"common_name": ""}, "needs a subject"),
    "external": ({"exported": "kms"}, "no external keys"),
    "existing": ({"exported": "existing"}, "key_type nor key_bits arguments can be set"),
    "nonsense": ({"exported": "bogus"}, 'the "exported" path parameter must be'),
    "issuer name taken": ({"issuer_name": "first"}, "^issuer name already in use$"),
    "key name taken": ({"key_name": "first-key"}, "^key name already in use$"),
    "reserved": ({"issuer_name": "default"}, "^reserved keyword 'default' can not be used as issuer name$"),
    "name with a blank": ({"issuer_name": "a b"}, "^issuer name contained invalid characters$"),
    "path in a name": ({"key_name": "../x"}, "^key name contained invalid characters$"),
    "long name": ({"common_name": "a" * 65}, "1 to 64 characters"),
    "country": ({"country": ["Germany"]}, "country must be two letters|1 to 2 characters"),
    "path length": ({"max_path_length": -2}, "max_path_length"),
    "constraint": ({"permitted_dns_domains": ["a b"]}, "permitted_dns_domains"),
    "format": ({"format": "x"}, "format"),
    "both times": ({"not_after": "2027-01-01T00:00:00Z"}, "Either ttl or not_after"),
    "bad alternative name": ({"alt_names": ["a_b.example.com"]}, "cannot stand in a certificate"),
}


@pytest.mark.parametrize(("args", "text"), ROOTS.values(), ids=ROOTS.keys())
def test_a_root_that_is_refused_leaves_nothing(bench: Bench, args: dict[str, Any], text: str) -> None:
    bench.root(issuer_name="first", key_name="first-key")
    bench.token.calls.clear()
    with pytest.raises(KmsError, match=text) as refused:
        bench.root(**args)
    assert refused.value.kind is ErrorKind.INVALID
    assert bench.token.calls == []
    assert len(bench.do("keys-list")["keys"]) == 1


def test_a_root_answers_as_the_peer_does(bench: Bench) -> None:
    data = bench.root(issuer_name="r1", key_name="k1")
    assert set(data) == {
        "certificate",
        "expiration",
        "issuer_id",
        "issuer_name",
        "issuing_ca",
        "key_id",
        "key_name",
        "serial_number",
    }
    assert data["expiration"] == START + YEAR - 1
    assert data["issuing_ca"] == data["certificate"]
    info = bench.do("issuers-list")["key_info"][data["issuer_id"]]
    assert info == {
        "is_default": True,
        "issuer_name": "r1",
        "key_id": data["key_id"],
        "serial_number": data["serial_number"],
    }
    key = bench.do("key-read", key_ref="k1")
    ski = load(data["certificate"]).extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert key == {
        "key_id": data["key_id"],
        "key_name": "k1",
        "protection": "hsm",
        "key_type": "ec",
        "subject_key_id": ski.digest.hex(":"),
    }


def test_a_ttl_beyond_the_mounts_maximum_is_cut(bench: Bench) -> None:
    bench.mount("small", max_ttl=0)
    result = bench.result(
        "root-generate", "small", common_name="R", key_type="ec", ttl=87_600 * 3600, exported="internal"
    )
    assert result.warnings[0] == (
        'TTL "87600h0m0s" is longer than permitted maxTTL "768h0m0s", so maxTTL is being used'
    )


def test_several_issuers_with_a_default(bench: Bench) -> None:
    bench.role()
    one, two = bench.root(issuer_name="one"), bench.root(issuer_name="two", common_name="Two")
    assert bench.issue()["issuing_ca"] == one["certificate"]
    assert bench.raw("ca-pem").decode().strip() == one["certificate"]
    bench.do("config-issuers-write", default="two")
    assert bench.issue()["issuing_ca"] == two["certificate"]
    assert bench.raw("ca-pem").decode().strip() == two["certificate"]
    assert bench.raw("issuer-pem", issuer_ref="one").decode().strip() == one["certificate"]
    bench.role("first", issuer_ref="one")
    first = bench.issue(role="first")
    assert first["issuing_ca"] == one["certificate"]
    bench.do("revoke", serial_number=first["serial_number"])
    assert bench.listed() == set()
    crl = x509.load_der_x509_crl(bench.raw("issuer-crl", issuer_ref="one"))
    assert len(crl) == 1
    bench.do("config-issuers-write", default="one", default_follows_latest_issuer=True)
    three = bench.root(common_name="Three")
    assert bench.do("config-issuers-read")["default"] == three["issuer_id"]


def test_references_to_no_issuer(bench: Bench) -> None:
    bench.role()
    with pytest.raises(KmsError, match="no default issuer currently configured"):
        bench.issue()
    bench.root()
    for operation in ("issuer-read", "issuer-json"):
        with pytest.raises(KmsError, match=r"^unable to find PKI issuer for reference: nosuch$") as refused:
            bench.do(operation, issuer_ref="nosuch")
        assert refused.value.status == 500
    with pytest.raises(KmsError, match=r"^Error resolving issuer reference: unable to find PKI issuer"):
        bench.do("config-issuers-write", default="nosuch")
    with pytest.raises(KmsError, match=r"^Invalid issuer specification"):
        bench.do("config-issuers-write")
    with pytest.raises(KmsError, match="unable to find PKI key for reference: nosuch"):
        bench.do("key-read", key_ref="nosuch")
    with pytest.raises(KmsError, match="unable to find PKI key for reference: nosuch"):
        bench.do("config-keys-write", default="nosuch")


def test_an_issuer_without_the_usage_does_not_sign(ca: Bench) -> None:
    ca.do("issuer-write", issuer_ref="default", usage=["crl-signing"])
    with pytest.raises(KmsError, match="not allowed the usage issuing-certificates"):
        ca.issue()
    with pytest.raises(KmsError, match="Unable to parse specified usages"):
        ca.do("issuer-write", issuer_ref="default", usage=["everything"])
    with pytest.raises(KmsError, match="no leaf outlives its issuer"):
        ca.do("issuer-write", issuer_ref="default", leaf_not_after_behavior="permit")
    ca.do(
        "issuer-write",
        issuer_ref="default",
        usage=["issuing-certificates", "crl-signing"],
        issuer_name="named",
    )
    assert ca.do("issuer-read", issuer_ref="named")["usage"] == "crl-signing,issuing-certificates,read-only"
    ca.issue()


def test_an_intermediate_and_its_chain(ca: Bench) -> None:
    signed = ca.intermediate()
    root = load(ca.raw("ca-pem").decode())
    assert set(signed) == {"ca_chain", "certificate", "expiration", "issuing_ca", "serial_number"}
    assert [load(text).subject for text in signed["ca_chain"]][1] == root.subject
    issuers = ca.do("issuers-list", "int")
    assert len(issuers["keys"]) == 2
    default = ca.do("config-issuers-read", "int")["default"]
    assert issuers["key_info"][default]["key_id"]
    chain = ca.raw("ca-chain", "int").decode()
    assert chain.count("BEGIN CERTIFICATE") == 2
    assert load(ca.do("cert-ca", "int")["certificate"]).subject.rfc4514_string() == "CN=Test Intermediate"
    assert ca.do("cert-ca-chain", "int")["ca_chain"].count("BEGIN") == 2
    assert len(ca.do("issuer-read", "int", issuer_ref="default")["ca_chain"]) == 2


def test_importing_twice_and_what_cannot_be_imported(ca: Bench) -> None:
    signed = ca.intermediate()
    again = ca.do("intermediate-set-signed", "int", certificate=signed["certificate"])
    assert again["imported_issuers"] is None
    assert len(again["existing_issuers"]) == 1
    leaf = ca.issue()
    refusals = {
        "": "parameters were empty",
        "/tmp/x.pem": "too short; perhaps a path",
        "x" * 100: "invalid PEM data",
        leaf["certificate"]: "Refusing to import non-CA certificate",
        signed["certificate"] + "\n" + leaf["private_key"]: "private keys found in the PEM bundle",
        signed["certificate"].replace("MII", "MIB", 1): "could not be parsed|no PEM",
        "A" * 70_000: "more than",
    }
    for text, wanted in refusals.items():
        with pytest.raises(KmsError, match=wanted):
            ca.do("intermediate-set-signed", "int", certificate=text)


def test_a_certificate_without_our_key_only_completes_chains(ca: Bench) -> None:
    ca.do("intermediate-set-signed", "bare", pem_bundle=ca.raw("ca-pem").decode())
    ca.role("web", "bare", issuer_ref=ca.do("issuers-list", "bare")["keys"][0])
    with pytest.raises(KmsError, match="no private key here"):
        ca.issue("bare")
    assert ca.do("config-issuers-read", "bare")["default"] == ""


def test_an_intermediates_request_with_a_blocked_key(ca: Bench) -> None:
    csr = ca.do("intermediate-generate", "int", common_name="X", key_type="ec", exported="internal")["csr"]
    key = x509.load_pem_x509_csr(csr.encode()).public_key()
    blocked = make_bench(ca.store, ca.token._hsm, Blocklist([spki_hash(spki_der(key))]))
    blocked.mounts = ca.mounts
    with pytest.raises(KmsError, match="blocklist"):
        blocked.do("sign-intermediate", csr=csr)
    with pytest.raises(KmsError, match='"csr" is empty'):
        ca.do("sign-intermediate")


def test_values_of_the_request_are_used_only_when_asked_for(ca: Bench) -> None:
    made = {"common_name": "In Csr", "organization": ["Org"], "key_type": "ec", "exported": "internal"}
    csr = ca.do("intermediate-generate", "int", **made, add_basic_constraints=True)["csr"]

    def subject(**args: Any) -> str:
        return load(ca.do("sign-intermediate", csr=csr, **args)["certificate"]).subject.rfc4514_string()

    assert subject() == "CN=In Csr"
    assert subject(common_name="Other", organization=["New"]) == "CN=Other,O=New"
    assert subject(use_csr_values=True) == "CN=In Csr,O=Org"


def test_path_lengths_shrink(ca: Bench) -> None:
    ca.root("top", max_path_length=1)
    ca.mount("mid")
    first = ca.intermediate("top", "mid")
    basic = load(first["certificate"]).extensions.get_extension_for_class(x509.BasicConstraints).value
    assert basic.path_length == 0
    csr = ca.do("intermediate-generate", "low", common_name="L", key_type="ec", exported="internal")["csr"]
    with pytest.raises(KmsError, match="must be below"):
        ca.do("sign-intermediate", "top", csr=csr, max_path_length=1)


def test_the_issuers_own_key_is_not_signed_below_itself(ca: Bench) -> None:
    csr = ca.do("intermediate-generate", "pki", common_name="Same", key_type="ec", exported="internal")
    signed = ca.do("sign-intermediate", csr=csr["csr"])
    ca.do("intermediate-set-signed", certificate=signed["certificate"])
    issuer = next(
        id_ for id_, info in ca.do("issuers-list")["key_info"].items() if info["key_id"] == csr["key_id"]
    )
    with pytest.raises(KmsError, match="belongs to a CA"):
        ca.do("sign-intermediate", csr=csr["csr"], issuer_ref=issuer)
