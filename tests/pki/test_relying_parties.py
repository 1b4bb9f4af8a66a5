"""OpenSSL, GnuTLS, NSS, Java, Go and pkilint accept every kind of certificate, CRL and OCSP answer, and refuse near misses.

These are chosen cases, near misses among them. Whatever else the tests are given by Keystead is shown to the same
validators at their end (tests.harness.verdict); ML-DSA has a page of its own (test_ml_dsa.py).

Where a validator cannot be asked, or is known to decide otherwise, it stands here with the reason; both tables are
checked to be true, so an entry that no longer holds fails as well.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.validators import Answers, judge
from tests.pki.bench import Bench
from tests.pki.relying import CHAINS, Corpus

# A refusal that a validator does not make, and why that is known and not ours to mend.
ACCEPTS_ANYWAY: dict[tuple[str, str], str] = {
    ("another name", "nss"): "CERT_PKIXVerifyCert checks no names",
    ("another name", "openssl4"): "pyOpenSSL has no way to ask for one; the machine's OpenSSL is asked",
    ("another purpose", "openssl4"): "pyOpenSSL has no way to ask for one; the machine's OpenSSL is asked",
    ("no CRL of the issuer", "gnutls"): "GnuTLS takes a status that nobody knows for good",
    ("an old CRL", "nss"): "NSS uses the newest CRL that it has; fetching a fresh one is up to its user",
}
NO_ED25519 = "NSS 3.87 knows no Ed25519 keys in certificates"
NO_PARTS = "NSS knows no issuingDistributionPoint and no deltaCRLIndicator: only complete CRLs"
REFUSES_ANYWAY: dict[tuple[str, str], str] = {
    **dict.fromkeys(((f"{chain} ed25519-0", "nss") for chain in CHAINS), NO_ED25519),
    ("ed25519", "nss"): NO_ED25519,
    ("profile code-signing", "nss"): "NSS wants CAs of code signers marked by an extension of Netscape's",
    ("a shard", "nss"): NO_PARTS,
    ("a delta", "nss"): NO_PARTS,
}
RELYING = ("openssl", "openssl4", "gnutls", "nss", "java", "java25", "go")


@pytest.fixture
def corpus(bench: Bench) -> Corpus:
    made = Corpus(bench)
    made.authorities()
    made.accepted()
    made.more_kinds()
    made.refused()
    return made


@pytest.mark.timeout(600)
def test_all_accept_what_is_good_and_refuse_what_is_not(corpus: Corpus, tmp_path: Path) -> None:
    answers = judge([*corpus.good.values(), *corpus.bad.values()], tmp_path, RELYING)
    lint = judge([*corpus.good.values(), *corpus.malformed.values()], tmp_path, ["pkilint"])
    refused = _refusals(answers, corpus.good) | _refusals(lint, corpus.good)
    assert refused.keys() == REFUSES_ANYWAY.keys(), "\n".join(
        f"{where}: {reason}" for where, reason in refused.items()
    )
    accepted = {
        (name, validator)
        for name in corpus.bad
        for validator in RELYING
        if answers[name].get(validator) == ""
    }
    assert accepted == set(ACCEPTS_ANYWAY), accepted ^ set(ACCEPTS_ANYWAY)
    assert [name for name in corpus.malformed if not lint[name]["pkilint"]] == []


def _refusals(answers: Answers, names: object) -> dict[tuple[str, str], str]:
    return {
        (name, validator): reason
        for name, found in answers.items()
        if name in names  # type: ignore[operator]  # a mapping
        for validator, reason in found.items()
        if reason
    }
