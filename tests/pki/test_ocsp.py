"""OCSP beside cryptography's reader: what is said, who says it, what is kept, and what is refused."""

from __future__ import annotations

import base64
import hashlib
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from kms.errors import ErrorKind, KmsError
from kms.ids import CkaId
from pki import der
from pki.model import DAY, KeyState
from pki.store import CERTIFICATES, KEYS, RESPONDERS
from tests.pki.bench import START, Bench, Killed, load, pkilint
from tests.pki.outside import lint_ocsp

GOOD, REVOKED, UNKNOWN = ocsp.OCSPCertStatus.GOOD, ocsp.OCSPCertStatus.REVOKED, ocsp.OCSPCertStatus.UNKNOWN
MALFORMED, TRY_LATER, UNAUTHORIZED = (b"\x30\x03\x0a\x01" + bytes([code]) for code in (1, 3, 6))
STEPS = ["begin", "begin-commit", "perform", "conclude", "conclude-commit", "answer"]


def request(
    leaf: x509.Certificate, issuer: x509.Certificate, *, sha1: bool = False, nonce: bytes = b""
) -> bytes:
    builder = ocsp.OCSPRequestBuilder().add_certificate(
        leaf,
        issuer,
        hashes.SHA1() if sha1 else hashes.SHA256(),  # noqa: S303  (what many clients ask with)
    )
    if nonce:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def by_serial(serial: int, issuer: x509.Certificate) -> bytes:
    """A request for a serial that may not exist."""
    name = hashlib.sha256(issuer.subject.public_bytes()).digest()
    key = hashlib.sha256(_key_bits(issuer)).digest()
    made = ocsp.OCSPRequestBuilder().add_certificate_by_hash(name, key, serial, hashes.SHA256()).build()
    return made.public_bytes(Encoding.DER)


def _key_bits(certificate: x509.Certificate) -> bytes:
    public = certificate.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def post(ca: Bench, data: bytes, mount: str = "pki") -> bytes:
    return ca.raw("ocsp-post", mount, request=data.decode("latin-1"))


def ask(ca: Bench, data: bytes, mount: str = "pki") -> ocsp.OCSPResponse:
    return ocsp.load_der_ocsp_response(post(ca, data, mount))


def responder(answer: ocsp.OCSPResponse) -> x509.Certificate:
    assert len(answer.certificates) == 1
    return answer.certificates[0]


def check(answer: ocsp.OCSPResponse, issuer: x509.Certificate) -> None:
    """The signature, and that the signer may sign for this issuer."""
    signer = responder(answer)
    signer.verify_directly_issued_by(issuer)
    usages = signer.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.OCSP_SIGNING]
    assert not signer.extensions.get_extension_for_class(x509.OCSPNoCheck).critical
    key = signer.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(answer.signature, answer.tbs_response_bytes, ec.ECDSA(hashes.SHA256()))
    assert answer.responder_key_hash == x509.SubjectKeyIdentifier.from_public_key(key).digest


@pytest.mark.parametrize("sha1", [False, True])
def test_good_then_revoked_then_as_long_as_it_is_on_record(ca: Bench, sha1: bool) -> None:
    leaf = load(ca.issue()["certificate"])
    issuer = load(ca.raw("ca-pem").decode())
    asked = request(leaf, issuer, sha1=sha1)
    answer = ask(ca, asked)
    check(answer, issuer)
    assert answer.certificate_status is GOOD
    assert answer.serial_number == leaf.serial_number
    assert int(answer.this_update_utc.timestamp()) == START
    assert answer.next_update_utc is not None
    assert int(answer.next_update_utc.timestamp()) == START + DAY // 2
    assert lint_ocsp(post(ca, asked)) == []
    ca.do("revoke", serial_number=f"{leaf.serial_number:x}")
    answer = ask(ca, asked)
    check(answer, issuer)
    assert answer.certificate_status is REVOKED
    assert answer.revocation_time_utc is not None
    assert int(answer.revocation_time_utc.timestamp()) == START
    assert answer.revocation_reason is None
    assert lint_ocsp(post(ca, asked)) == []
    assert pkilint(responder(answer).public_bytes(Encoding.DER)) == []


def test_unknown_is_what_is_not_on_record(ca: Bench) -> None:
    issuer = load(ca.raw("ca-pem").decode())
    assert ask(ca, by_serial(0x4711, issuer)).certificate_status is UNKNOWN
    ca.role(no_store=True)
    unstored = ca.issue()["certificate"]
    asked = request(load(unstored), issuer)
    assert ask(ca, asked).certificate_status is UNKNOWN
    ca.do("revoke", certificate=unstored)
    assert ask(ca, asked).certificate_status is REVOKED


def test_a_certificate_whose_outcome_is_unknown_is_revoked(ca: Bench) -> None:
    def die(step: str) -> None:
        if step == "conclude":
            raise Killed

    ca.step = die
    with pytest.raises(Killed):
        ca.issue()
    ca.step = lambda _: None
    ca.resolve_all()
    serial = next(row.value.serial for row in ca.store.reader().scan(CERTIFICATES) if row.value.revoked_at)
    issuer = load(ca.raw("ca-pem").decode())
    assert ask(ca, by_serial(int(serial, 16), issuer)).certificate_status is REVOKED


@pytest.mark.parametrize("how", ["revoke", "issuer-revoke"])
def test_an_intermediate_of_the_same_mount(ca: Bench, how: str) -> None:
    """Its parent answers for it, and says that it is revoked."""
    csr = ca.do("intermediate-generate", common_name="Below", key_type="ec", exported="internal")["csr"]
    signed = ca.do("sign-intermediate", csr=csr, ttl=DAY)
    issuer = ca.do("intermediate-set-signed", certificate=signed["certificate"])["imported_issuers"][0]
    below, root = load(signed["certificate"]), load(ca.raw("ca-pem").decode())
    assert ask(ca, request(below, root)).certificate_status is GOOD
    ca.do(how, **({"issuer_ref": issuer} if "issuer" in how else {"serial_number": signed["serial_number"]}))
    assert ask(ca, request(below, root)).certificate_status is REVOKED
    assert signed["serial_number"] in ca.listed()


def test_another_ca_is_not_for_us_to_say(ca: Bench) -> None:
    ca.root("other")
    ca.role("web", "other")
    foreign = load(ca.issue("other")["certificate"])
    theirs, ours = load(ca.raw("ca-pem", "other").decode()), load(ca.raw("ca-pem").decode())
    assert post(ca, request(foreign, theirs)) == UNAUTHORIZED
    assert ask(ca, request(foreign, theirs), "other").certificate_status is GOOD
    assert ask(ca, by_serial(foreign.serial_number, ours)).certificate_status is UNKNOWN


def test_nonces_are_repeated_and_bounded(ca: Bench) -> None:
    leaf, issuer = load(ca.issue()["certificate"]), load(ca.raw("ca-pem").decode())
    for size in (1, 16, 32, 128):
        nonce = bytes(range(size))
        answer = ask(ca, request(leaf, issuer, nonce=nonce))
        assert answer.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == nonce
        check(answer, issuer)
    assert post(ca, request(leaf, issuer, nonce=bytes(129))) == MALFORMED
    plain = request(leaf, issuer, nonce=b"n")
    empty = plain.replace(b"\x04\x03\x04\x01n", b"\x04\x02\x04\x00")
    assert post(ca, _shortened(empty)) == MALFORMED


def _shortened(data: bytes) -> bytes:
    """One octet less inside the last extension: every length around it follows."""
    fixed = bytearray(data)
    for at in (1, 3):
        fixed[at] -= 1
    mark = data.rindex(b"\xa2")
    for at in (mark + 1, mark + 3, mark + 5):
        fixed[at] -= 1
    return bytes(fixed)


def test_an_answer_is_signed_once_and_again_when_it_says_something_else(ca: Bench) -> None:
    leaf, issuer = load(ca.issue()["certificate"]), load(ca.raw("ca-pem").decode())
    asked = request(leaf, issuer)
    first = post(ca, asked)
    ca.token.calls.clear()
    assert post(ca, asked) == first
    assert ca.token.calls == []
    post(ca, request(leaf, issuer, nonce=b"x"))
    assert ca.token.calls == ["sign"]
    ca.do("revoke", serial_number=f"{leaf.serial_number:x}")
    assert ask(ca, asked).certificate_status is REVOKED
    assert ca.token.calls == ["sign", "sign"]
    ca.clock.seconds += DAY // 4
    fresh = ask(ca, asked)
    assert int(fresh.this_update_utc.timestamp()) == START + DAY // 4


def test_get_takes_base64_in_every_spelling(ca: Bench) -> None:
    leaf, issuer = load(ca.issue()["certificate"]), load(ca.raw("ca-pem").decode())
    asked = request(leaf, issuer)
    text = base64.b64encode(asked).decode()
    wanted = post(ca, asked)
    for spelling in (text, text.rstrip("="), quote(text, safe=""), f"/{text}"):
        result = ca.result("ocsp-get", request=spelling)
        assert result.raw is not None
        assert result.raw[0] == wanted
        headers = dict(result.headers)
        assert headers["Cache-Control"] == "max-age=300, public, no-transform, must-revalidate"
        assert headers["ETag"].strip('"') == hashlib.sha256(wanted).hexdigest()
        assert headers["Last-Modified"].endswith("GMT")
    nonced = base64.b64encode(request(leaf, issuer, nonce=b"n")).decode()
    assert ca.result("ocsp-get", request=nonced).headers == ()
    assert ca.result("ocsp-post", request=asked.decode("latin-1")).headers == ()
    for bad in ("", "====", "MFQw!", "%", "é", "AAAA"):
        assert ca.raw("ocsp-get", request=bad) == MALFORMED


def test_several_certificates_in_one_request(ca: Bench) -> None:
    """Cryptography reads one of them; the bytes of each must be there in their order."""
    leaves, issuer = [load(ca.issue()["certificate"]) for _ in range(3)], load(ca.raw("ca-pem").decode())
    ca.do("revoke", serial_number=f"{leaves[1].serial_number:x}")
    singles = [_single(request(leaf, issuer)) for leaf in leaves]
    answer = post(ca, _several(singles))
    parsed = ocsp.load_der_ocsp_response(answer)
    assert [each.certificate_status for each in parsed.responses] == [GOOD, REVOKED, GOOD]
    assert [each.serial_number for each in parsed.responses] == [leaf.serial_number for leaf in leaves]
    assert post(ca, _several(singles * 11)) == MALFORMED
    assert len(list(ocsp.load_der_ocsp_response(post(ca, _several(singles[:1] * 32))).responses)) == 32


def _single(asked: bytes) -> bytes:
    tbs = der.elements(der.content(asked))[0]
    return der.elements(der.content(der.elements(der.content(tbs))[0]))[0]


def _several(singles: list[bytes]) -> bytes:
    requests = der.tlv(der.SEQUENCE, b"".join(singles))
    return der.tlv(der.SEQUENCE, der.tlv(der.SEQUENCE, requests))


def test_switched_off(ca: Bench) -> None:
    leaf, issuer = load(ca.issue()["certificate"]), load(ca.raw("ca-pem").decode())
    ca.do("config-crl-write", ocsp_disable=True)
    assert post(ca, request(leaf, issuer)) == UNAUTHORIZED
    ca.do("config-crl-write", ocsp_disable=False, ocsp_expiry="0s")
    answer = ask(ca, request(leaf, issuer))
    assert answer.certificate_status is GOOD
    assert answer.next_update_utc is None


def test_an_issuer_that_may_not_delegate_does_not_answer(ca: Bench) -> None:
    leaf, issuer = load(ca.issue()["certificate"]), load(ca.raw("ca-pem").decode())
    ca.do("issuer-write", issuer_ref="default", usage=["issuing-certificates", "crl-signing"])
    assert post(ca, request(leaf, issuer)) == UNAUTHORIZED
    assert ca.store.reader().scan(RESPONDERS) == []


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
def test_other_issuers(bench: Bench, kind: str) -> None:
    bench.root(key_type=kind)
    bench.role()
    leaf, issuer = load(bench.issue()["certificate"]), load(bench.raw("ca-pem").decode())
    answer = ask(bench, request(leaf, issuer))
    check(answer, issuer)
    wanted = rsa.RSAPublicKey if kind == "rsa" else ec.EllipticCurvePublicKey
    assert isinstance(responder(answer).public_key(), wanted)


def test_the_responder_is_made_once_and_renewed_with_another_key(ca: Bench) -> None:
    leaf, issuer = load(ca.issue(ttl=30 * DAY)["certificate"]), load(ca.raw("ca-pem").decode())
    asked = request(leaf, issuer)
    first = responder(ask(ca, asked))
    assert responder(ask(ca, asked)) == first
    assert (first.not_valid_after_utc - first.not_valid_before_utc).days == 7
    keys = ca.do("keys-list")["keys"]
    assert len(keys) == 1
    ca.clock.seconds += 4 * DAY
    assert ca.chores() > 0
    second = responder(ask(ca, asked))
    assert second != first
    assert second.public_key() != first.public_key()
    while ca.chores():
        pass
    stored = [row.value for row in ca.store.reader().scan(KEYS) if row.value.responds]
    assert [key.state for key in stored] == [KeyState.ACTIVE]
    assert ca.token.exists(CkaId(stored[0].cka_id))
    ca.clock.seconds += 30 * DAY  # nobody ran the chores for a month
    assert responder(ask(ca, asked)) not in (first, second)
    before = responder(ask(ca, asked))
    ca.do("ocsp-rotate", issuer_ref="default")
    assert responder(ask(ca, asked)) != before


def test_no_responder_outlives_its_issuer(bench: Bench) -> None:
    bench.root(ttl=3 * DAY)
    bench.role()
    leaf, issuer = load(bench.issue()["certificate"]), load(bench.raw("ca-pem").decode())
    assert responder(ask(bench, request(leaf, issuer))).not_valid_after_utc == issuer.not_valid_after_utc
    bench.clock.seconds += 2 * DAY - 10
    assert not bench.service.responders.due(int(bench.clock.now()))


def test_deleting_an_issuer_takes_its_responder(ca: Bench) -> None:
    leaf, issuer = load(ca.issue()["certificate"]), load(ca.raw("ca-pem").decode())
    ask(ca, request(leaf, issuer))
    key = next(row.value for row in ca.store.reader().scan(KEYS) if row.value.responds)
    ca.do("issuer-delete", issuer_ref="default")
    assert post(ca, request(leaf, issuer)) == UNAUTHORIZED
    while ca.chores():
        pass
    assert not ca.token.exists(CkaId(key.cka_id))


@pytest.mark.parametrize("step", STEPS)
def test_killed_while_making_a_responder(ca: Bench, step: str) -> None:
    leaf, issuer = load(ca.issue()["certificate"]), load(ca.raw("ca-pem").decode())

    def die(now: str) -> None:
        if now == step:
            raise Killed

    ca.step = die
    with pytest.raises(Killed):
        ask(ca, request(leaf, issuer))
    ca.step = lambda _: None
    ca.resolve_all()
    while ca.chores():
        pass
    for row in ca.store.reader().scan(KEYS):
        assert ca.token.exists(CkaId(row.value.cka_id)) == (row.value.state == KeyState.ACTIVE)
    check(ask(ca, request(leaf, issuer)), issuer)


def test_without_the_hsm_or_the_keyring_try_later(ca: Bench) -> None:
    leaf, issuer = load(ca.issue()["certificate"]), load(ca.raw("ca-pem").decode())
    asked = request(leaf, issuer)
    ask(ca, asked)

    def away(_: str) -> None:
        raise KmsError(ErrorKind.HSM_UNAVAILABLE, "the HSM does not answer")

    ca.token.before = away
    assert ask(ca, asked).certificate_status is GOOD  # signed before
    assert post(ca, request(leaf, issuer, nonce=b"n")) == TRY_LATER
    ca.token.before = lambda _: None
    ca.token.spoil = True
    with pytest.raises(KmsError, match="does not verify"):
        post(ca, request(leaf, issuer, nonce=b"n"))
    ca.store.lock()
    assert post(ca, asked) == TRY_LATER
