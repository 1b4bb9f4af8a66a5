"""ML-DSA authorities before relying parties: who knows the algorithm accepts and refuses rightly, who does not accepts nothing.

The signatures are made by OpenSSL 4 (in cryptography). Go's and Java's own implementations verify them, and OpenSSL
with its strict rules; pkilint has rules for such keys. Debian 12's OpenSSL 3.0, GnuTLS 3.7, NSS 3.87 and Java 17 know no
ML-DSA: they refuse every chain, the good ones too, and that is tested.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.ocsp import OCSPRequestBuilder

from pki.lint import Pkilint
from tests.harness.validators import VALIDATORS, Case, judge, know_mldsa
from tests.pki.bench import YEAR, Bench
from tests.pki.relying import DAY, HOST, Corpus, broken, der, serial

STRANGERS: Final = frozenset({"openssl", "gnutls", "nss"})

# RFC 9881 2, 4: the last arc of 2.16.840.1.101.3.4.3, and the octets of a public key and of a signature.
SETS: Final = {44: (17, 1312, 2420), 65: (18, 1952, 3309), 87: (19, 2592, 4627)}


def _hierarchy(corpus: Corpus, bits: int) -> str:
    bench, name = corpus.bench, f"mldsa-{bits}"
    key = {"key_type": "mldsa", "key_bits": bits}
    bench.root(f"{name}-root", common_name=f"Root {name}", ttl=YEAR, **key)
    csr = bench.do("intermediate-generate", name, common_name=f"Issuing {name}", exported="internal", **key)
    signed = bench.do("sign-intermediate", f"{name}-root", csr=csr["csr"], ttl=YEAR // 2)
    bench.do("intermediate-set-signed", name, certificate="\n".join(signed["ca_chain"]))
    for leaf, leaf_bits in (("ec", 256), ("mldsa", bits)):
        bench.role(leaf, name, key_type=leaf, key_bits=leaf_bits)
    return name


def _answer(corpus: Corpus, name: str, leaf: bytes) -> bytes:
    asked = OCSPRequestBuilder().add_certificate(
        x509.load_der_x509_certificate(leaf),
        x509.load_der_x509_certificate(corpus.ca(name)),
        hashes.SHA1(),  # noqa: S303  (names the issuer, protects nothing)
    )
    request = asked.build().public_bytes(Encoding.DER).decode("latin-1")
    return corpus.bench.raw("ocsp-post", name, request=request)


def _cases(corpus: Corpus, name: str) -> tuple[dict[str, Case], dict[str, Case]]:
    """What is to be accepted, and what is to be refused."""
    bench = corpus.bench
    ec, pq, gone = (
        der(bench.issue(name, role=role, common_name=HOST, ttl=5 * DAY)["certificate"])
        for role in ("ec", "mldsa", "mldsa")
    )
    plain = corpus.case("", name, pq, host=HOST, purpose="server")
    bench.do("revoke", name, serial_number=serial(gone))
    corpus.bench.do("crl-rotate", name)
    crls = corpus.crls(name)
    good = {
        "a leaf with such a key": plain,
        "a leaf with an EC key": replace(plain, leaf=ec),
        "by its CRLs": replace(plain, crls=crls),
        "by an answer": replace(plain, ocsp=_answer(corpus, name, pq)),
        "its CRL": replace(plain, leaf=plain.chain[0], crls=crls[1:], listing=True),
    }
    end = int(x509.load_der_x509_certificate(pq).not_valid_after_utc.timestamp())
    bad = {
        "a broken signature": replace(plain, leaf=broken(pq)),
        "a broken signature of the intermediate": replace(plain, chain=(broken(plain.chain[0]),)),
        "a changed name": replace(plain, leaf=pq.replace(HOST.encode(), b"b.example.com"), host=""),
        "no intermediate": replace(plain, chain=()),
        "expired": replace(plain, at=end + 120),
        "revoked by the CRL": replace(plain, leaf=gone, crls=crls),
        "revoked by an answer": replace(plain, leaf=gone, ocsp=_answer(corpus, name, gone)),
        "a CRL with a broken signature": replace(plain, crls=(crls[0], broken(crls[1]))),
        "the CRL of another": replace(good["its CRL"], crls=crls[:1]),
    }
    return _named(good), _named(bad)


def _named(cases: dict[str, Case]) -> dict[str, Case]:
    return {name: replace(case, name=name) for name, case in cases.items()}


@pytest.mark.parametrize("bits", SETS)
def test_who_knows_it_judges_rightly_and_who_does_not_accepts_nothing(
    bench: Bench, bits: int, tmp_path: Path
) -> None:
    corpus = Corpus(bench)
    name = _hierarchy(corpus, bits)
    bench.clock.sleep(DAY)
    good, bad = _cases(corpus, name)
    answers = judge([*good.values(), *bad.values()], tmp_path)
    know = know_mldsa()
    assert know | STRANGERS | {"java"} == set(VALIDATORS)
    wrong = {
        (case, validator): said
        for case, all_said in answers.items()
        for validator, said in all_said.items()
        if (said == "") is not (case in good and validator in know)
        and not (validator == "pkilint" and case in bad)
    }
    assert wrong == {}
    # Names, answers and lists alone are beyond pyOpenSSL; everything else was put to everybody.
    assert {case: set(VALIDATORS) - set(said) for case, said in answers.items()} == {
        case: {"openssl4"} if one.ocsp or one.listing else set() for case, one in {**good, **bad}.items()
    }


@pytest.mark.parametrize("bits", SETS)
def test_documents_are_as_rfc_9881_and_pkilint_want_them(bench: Bench, bits: int) -> None:
    corpus = Corpus(bench)
    name = _hierarchy(corpus, bits)
    leaf = der(bench.issue(name, role="mldsa", common_name=HOST, ttl=DAY)["certificate"])
    arc, key_octets, signature_octets = SETS[bits]
    # 2: AlgorithmIdentifier is the OID alone, parameters are absent.
    algorithm = bytes.fromhex("300b06096086480165030403") + bytes((arc,))
    for document in (corpus.ca(f"{name}-root"), corpus.ca(name), leaf):
        assert Pkilint().certificate(document) == []
        # In the to-be-signed part, in the key, and beside the signature.
        _signed, key, outer = document.split(algorithm)[1:]
        # 4: the raw key and the raw signature, in no other wrapping.
        assert key.startswith(b"\x03\x82" + (key_octets + 1).to_bytes(2, "big") + b"\x00")
        assert outer.startswith(b"\x03\x82" + (signature_octets + 1).to_bytes(2, "big") + b"\x00")
        assert len(outer) == signature_octets + 5
        one = x509.load_der_x509_certificate(document)
        # 5: keys that sign, and do nothing else.
        usage = one.extensions.get_extension_for_class(x509.KeyUsage).value
        assert not any((usage.key_encipherment, usage.data_encipherment, usage.key_agreement))
        assert usage.digital_signature or usage.key_cert_sign
    assert Pkilint().crl(bench.raw("crl", name)) == []
