"""T-50 for OCSP: each answer is read by another's code and linted before the HSM is asked to sign it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from kms.errors import ErrorKind, KmsError
from pki import ocspder
from pki.goodkey import spki_der
from pki.hsmkey import DrySigner
from pki.issuerhashes import key_hash
from pki.lintocsp import WantedAnswer, check_ocsp_copy
from pki.ocspder import CertId, Single
from tests.pki.bench import START, Bench, load
from tests.pki.outside import lint_ocsp
from tests.pki.test_lint import KEY, Findings, copy_of, draft
from tests.pki.test_ocsp import ask, request

HASH = key_hash(spki_der(KEY))
ALGORITHM = bytes.fromhex("300a06082a8648ce3d040302")  # ecdsa-with-SHA256


def asked(serial: int = 0x4711, issuer: int = 1) -> CertId:
    """As a client asks."""
    builder = x509.ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        bytes(32), bytes([issuer]) * 32, serial, hashes.SHA256()
    )
    return ocspder.parse(builder.build().public_bytes(Encoding.DER)).certificates[0]


GOOD = Single(asked(), known=True)
REVOKED = Single(asked(0x4712), True, START - 60, 4)
WANTED = WantedAnswer(
    key_hash=HASH,
    certificate=copy_of(draft()),
    life=(START - 3600, START + 3600),
    produced_at=START,
    until=START + 600,
    said=(GOOD, REVOKED, Single(asked(0x4713), known=False)),
    nonce=b"n" * 16,
)


def answer(wanted: WantedAnswer) -> bytes:
    """The copy that is linted: nobody's signature."""
    tbs = ocspder.response_data(wanted.key_hash, wanted.produced_at, wanted.until, wanted.said, wanted.nonce)
    return ocspder.answered(tbs, ALGORITHM, DrySigner(KEY).sign(tbs, "sha256"), wanted.certificate)


def said(number: int, **change: Any) -> Callable[[WantedAnswer], dict[str, Any]]:
    """One of the statements otherwise."""

    def changed(wanted: WantedAnswer) -> dict[str, Any]:
        all_said = list(wanted.said)
        all_said[number] = dataclasses.replace(all_said[number], **change)
        return {"said": tuple(all_said)}

    return changed


OTHER = asked(issuer=2)
TAMPERED: dict[str, tuple[str, Callable[[WantedAnswer], dict[str, Any]]]] = {
    "another responder": ("responder", lambda _: {"key_hash": bytes(20)}),
    "another certificate of it": (
        "certificate of the responder",
        lambda _: {"certificate": copy_of(draft())},
    ),
    "produced before": ("producedAt", lambda w: {"produced_at": w.produced_at - 1}),
    "a longer life": ("nextUpdate", lambda w: {"until": w.until + 1}),
    "no end": ("nextUpdate", lambda _: {"until": 0}),
    "another nonce": ("nonce", lambda _: {"nonce": b"m" * 16}),
    "no nonce": ("nonce", lambda _: {"nonce": b""}),
    "one statement fewer": ("number of certificates", lambda w: {"said": w.said[:2]}),
    "statements exchanged": ("serial number", lambda w: {"said": w.said[::-1]}),
    "good for revoked": ("status", said(1, revoked_at=0)),
    "revoked for good": ("status", said(0, revoked_at=START)),
    "good for unknown": ("status", said(2, known=True)),
    "revoked at another time": ("time of the revocation", said(1, revoked_at=START - 61)),
    "another reason": ("reason", said(1, reason=1)),
    "no reason": ("reason", said(1, reason=0)),
    "about another issuer": ("key of the issuer", said(0, certificate=OTHER)),
    "a responder that has ended": ("life of the responder", lambda _: {"life": (START - 9, START - 1)}),
    "a responder that ends before": ("life of the answer", lambda _: {"life": (START - 9, START + 9)}),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_an_answer_that_is_not_what_was_meant(name: str) -> None:
    field, change = TAMPERED[name]
    check_ocsp_copy(answer(WANTED), WANTED)
    with pytest.raises(KmsError, match=f"{field}$") as refused:
        check_ocsp_copy(answer(WANTED), dataclasses.replace(WANTED, **change(WANTED)))
    assert refused.value.kind is ErrorKind.INTEGRITY


def test_what_is_no_answer_at_all() -> None:
    for der in (answer(WANTED)[:-1], b"", ocspder.refused(ocspder.Status.TRY_LATER)):
        with pytest.raises(KmsError, match="to sign") as refused:
            check_ocsp_copy(der, WANTED)
        assert refused.value.kind is ErrorKind.INTEGRITY


def _watch(ca: Bench) -> tuple[x509.Certificate, bytes]:
    """A revoked certificate and a request about it; the responder is there already, and no call is counted yet."""
    leaf, issuer = load(ca.issue()["certificate"]), load(ca.raw("ca-pem").decode())
    other = load(ca.issue()["certificate"])
    ask(ca, request(other, issuer))
    ca.do("revoke", serial_number=f"{leaf.serial_number:x}")
    ca.token.calls.clear()
    return leaf, request(leaf, issuer)


def test_a_defect_of_the_renderer_is_found_before_the_hsm_is_asked(
    ca: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answers say good of what is revoked."""
    _, question = _watch(ca)
    honest = ocspder.response_data

    def lying(key: bytes, at: int, until: int, said: tuple[Single, ...], nonce: bytes) -> bytes:
        return honest(key, at, until, [dataclasses.replace(one, revoked_at=0) for one in said], nonce)

    monkeypatch.setattr(ocspder, "response_data", lying)
    with pytest.raises(KmsError, match="status") as refused:
        ask(ca, question)
    assert refused.value.kind is ErrorKind.INTEGRITY
    assert ca.token.calls == []
    monkeypatch.undo()
    assert ask(ca, question).certificate_status is x509.ocsp.OCSPCertStatus.REVOKED
    assert ca.token.calls == ["sign"]


def test_a_finding_of_pkilint_refuses_before_the_hsm_is_asked(ca: Bench) -> None:
    _, question = _watch(ca)
    theirs = ca.service.linter._validators
    ca.service.linter._validators = Findings("pkix.something_wrong")
    with pytest.raises(KmsError, match=r"pkix\.something_wrong"):
        ask(ca, question)
    assert ca.token.calls == []
    ca.service.linter._validators = theirs
    assert ask(ca, question).certificate_status is x509.ocsp.OCSPCertStatus.REVOKED


def test_pkilint_itself_finds_things() -> None:
    """An answer that ends before it begins; a key hash that is no SHA-1."""
    assert lint_ocsp(answer(WANTED)) == []
    assert lint_ocsp(answer(dataclasses.replace(WANTED, until=START - 60))) != []
    assert lint_ocsp(answer(dataclasses.replace(WANTED, key_hash=bytes(32)))) != []
