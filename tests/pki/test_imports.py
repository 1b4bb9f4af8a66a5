"""CAs from elsewhere: what their own certificate does not let them do, and bundles that are not whole."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from kms.errors import ErrorKind, KmsError
from pki.store import ISSUERS, KEYS
from tests.pki import foreign
from tests.pki.bench import Bench, load
from tests.pki.peer import Peer, running_peer

LACKING = {
    "crl_sign": ("digital_signature", "key_cert_sign"),
    "key_cert_sign": ("digital_signature", "crl_sign"),
}


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    with running_peer(tmp_path_factory.mktemp("peer")) as server:
        yield server


def usage(bench: Bench) -> str:
    found: str = bench.do("issuer-read", issuer_ref="default")["usage"]
    return found


def test_a_ca_that_may_sign_no_list_signs_none(bench: Bench, peer: Peer) -> None:
    """OpenSSL refuses a CRL whose issuer lacks cRLSign, and with it all that the issuer made."""
    bundle = "".join(foreign.root(usage=foreign.key_usage(*LACKING["crl_sign"])))
    bench.do("import-bundle", pem_bundle=bundle)
    assert bench.token.calls == []
    assert usage(bench) == "issuing-certificates,ocsp-signing,read-only"
    assert bench.result("crl").raw is None
    _ocsp_alone_says_revoked(bench)

    now = "".join(foreign.root(usage=foreign.key_usage(*LACKING["crl_sign"]), now=time.time()))
    peer.call("POST", "sys/mounts/nocrl", {"type": "pki"})
    peer.data("POST", "nocrl/config/ca", {"pem_bundle": now})
    assert peer.data("GET", "nocrl/issuer/default")["usage"] == usage(bench)
    wanted = {"usage": ["crl-signing", "issuing-certificates"]}
    with pytest.raises(KmsError) as refused:
        bench.do("issuer-write", issuer_ref="default", **wanted)
    assert refused.value.detail == peer.refusal("nocrl/issuer/default", wanted)
    # Other settings can be written without saying the usage again.
    bench.do("issuer-write", issuer_ref="default", issuer_name="foreign")
    assert usage(bench) == "issuing-certificates,ocsp-signing,read-only"
    bench.do("issuer-patch", issuer_ref="default", issuer_name="again")
    assert usage(bench) == "issuing-certificates,ocsp-signing,read-only"


def _ocsp_alone_says_revoked(bench: Bench) -> None:
    """Where neither can say it, revoking is refused; and there is no CRL to be late with."""
    bench.role()
    leaf = bench.issue()
    bench.do("config-crl-write", ocsp_disable=True)
    with pytest.raises(KmsError, match="is not allowed the usage crl-signing"):
        bench.do("revoke", serial_number=leaf["serial_number"])
    bench.do("config-crl-write", ocsp_disable=False)
    question = ocsp.OCSPRequestBuilder().add_certificate(
        load(leaf["certificate"]), load(leaf["issuing_ca"]), hashes.SHA256()
    )
    data = question.build().public_bytes(Encoding.DER).decode("latin-1")

    def status() -> ocsp.OCSPCertStatus:
        return ocsp.load_der_ocsp_response(bench.raw("ocsp-post", request=data)).certificate_status

    assert status() is ocsp.OCSPCertStatus.GOOD
    assert bench.do("revoke", serial_number=leaf["serial_number"])["state"] == "revoked"
    assert status() is ocsp.OCSPCertStatus.REVOKED
    assert bench.result("crl").raw is None
    bench.clock.seconds += 10 * 86_400
    while bench.chores():  # the responder's certificate
        pass
    assert bench.result("crl").raw is None


def test_a_ca_that_may_sign_no_certificate_signs_none(bench: Bench) -> None:
    """Nobody would accept one; the peer makes them."""
    bundle = "".join(foreign.root(usage=foreign.key_usage(*LACKING["key_cert_sign"])))
    bench.do("import-bundle", pem_bundle=bundle)
    bench.role()
    assert usage(bench) == "crl-signing,ocsp-signing,read-only"
    with pytest.raises(KmsError, match="is not allowed the usage issuing-certificates"):
        bench.issue()
    with pytest.raises(KmsError, match="lacks the CertSign KeyUsage value"):
        bench.do("issuer-write", issuer_ref="default", usage=["issuing-certificates"])
    assert len(bench.crl()) == 0


def test_a_ca_that_came_before_its_key(bench: Bench) -> None:
    """It gets its first list with the key, if it may have one."""
    for bits, lists in ((LACKING["crl_sign"], False), (("key_cert_sign", "crl_sign"), True)):
        key, certificate = foreign.root(usage=foreign.key_usage(*bits))
        made = bench.do("import-bundle", pem_bundle=certificate)["imported_issuers"][0]
        bench.do("key-import", pem_bundle=key)
        found = bench.result("issuer-crl-pem", issuer_ref=made).raw
        assert (found is not None) is lists


BROKEN = {
    "cut off": lambda key, certificate: key + certificate[:-40],
    "a second one cut off": lambda key, certificate: key + certificate + certificate[:200],
    "a key cut off": lambda key, certificate: certificate + key[:100],
    "what is no base64": lambda key, certificate: key + certificate.replace("MII", "M?I", 1),
    "half of it": lambda key, certificate: key + certificate[:300] + "\n-----END CERTIFICATE-----\n",
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_bundle_that_is_not_whole_leaves_nothing(bench: Bench, case: str) -> None:
    with pytest.raises(KmsError) as refused:
        bench.do("import-bundle", pem_bundle=BROKEN[case](*foreign.root()))
    assert refused.value.kind is ErrorKind.INVALID
    reader = bench.store.reader()
    assert (reader.scan(ISSUERS), reader.scan(KEYS)) == ([], [])


def test_the_old_label_of_certificates(bench: Bench) -> None:
    key, certificate = foreign.root()
    made = bench.do("import-bundle", pem_bundle=key + certificate.replace("CERTIFICATE", "X509 CERTIFICATE"))
    assert len(made["imported_issuers"]) == 1
