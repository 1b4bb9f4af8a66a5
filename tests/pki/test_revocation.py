"""Revoked means revoked: the next fetched CRL lists it. Numbers only grow."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kms.errors import ErrorKind, KmsError
from kms.hsm import Hsm
from pki.marks import CLAIM_SECONDS
from pki.model import CRL_EXPIRY_MAX, DAY
from pki.store import CRL_NUMBERS
from tests.pki.bench import START, Bench, load, make_bench
from tests.pki.outside import lint_crl, openssl_verify, run, write


def test_openssl_refuses_a_revoked_leaf(ca: Bench, tmp_path: Path) -> None:
    revoked, kept = ca.issue(), ca.issue()
    root = revoked["issuing_ca"]
    openssl_verify(tmp_path, revoked["certificate"], root, at=START, crls=ca.raw("crl-pem").decode())
    ca.do("revoke", serial_number=revoked["serial_number"])
    openssl_verify(tmp_path, kept["certificate"], root, at=START, crls=ca.raw("crl-pem").decode())
    with pytest.raises(AssertionError, match="certificate revoked"):
        openssl_verify(tmp_path, revoked["certificate"], root, at=START, crls=ca.raw("crl-pem").decode())
    der = tmp_path / "crl.der"
    der.write_bytes(ca.raw("crl"))
    verified = run(
        [
            "openssl",
            "crl",
            "-inform",
            "DER",
            "-in",
            str(der),
            "-CAfile",
            write(tmp_path, "r.pem", root),
            "-noout",
        ]
    )
    assert "verify OK" in verified
    assert lint_crl(ca.raw("crl")) == []


def test_revoking_is_idempotent(ca: Bench) -> None:
    serial = ca.issue()["serial_number"]
    first = ca.do("revoke", serial_number=serial)
    assert first["state"] == "revoked"
    ca.clock.seconds += 100
    ca.token.calls.clear()
    assert ca.do("revoke", serial_number=serial.replace(":", "-").upper()) == first
    assert ca.token.calls == []
    assert ca.do("certs-revoked-list")["keys"] == [serial]
    read = ca.do("cert", serial=serial)
    assert read["revocation_time"] == START
    assert read["issuer_id"]


REFUSED = {
    "nothing": ({}, "^The serial number or certificate to revoke must be provided"),
    "both": (
        {"serial_number": "11", "certificate": "x"},
        "^Must provide either the certificate or the serial",
    ),
    "unknown": ({"serial_number": "11:22"}, r"^certificate with serial 11:22 not found\.$"),
    "not a serial": ({"serial_number": "zz"}, r"^certificate with serial zz not found\.$"),
    "not a certificate": ({"certificate": "x"}, "no PEM certificate"),
}


@pytest.mark.parametrize(("given", "text"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(ca: Bench, given: dict[str, str], text: str) -> None:
    before = ca.raw("crl")
    with pytest.raises(KmsError, match=text):
        ca.do("revoke", **given)
    assert ca.raw("crl") == before


def test_a_root_cannot_revoke_itself_but_its_intermediate(ca: Bench) -> None:
    root = load(ca.raw("ca-pem").decode())
    with pytest.raises(KmsError, match="to its own CRL is not allowed"):
        ca.do("revoke", serial_number=f"{root.serial_number:x}")
    signed = ca.intermediate()
    ca.do("revoke", serial_number=signed["serial_number"])
    assert ca.listed() == {signed["serial_number"]}


def test_a_certificate_that_was_not_stored_is_revoked_by_itself(ca: Bench) -> None:
    ca.role(no_store=True)
    data = ca.issue()
    assert len(ca.do("certs-list")["keys"]) == 1
    with pytest.raises(KmsError, match="not found"):
        ca.do("revoke", serial_number=data["serial_number"])
    ca.do("revoke", certificate=data["certificate"])
    ca.do("revoke", certificate=data["certificate"])
    assert ca.listed() == {data["serial_number"]}


def test_a_certificate_of_another_ca_is_refused(ca: Bench) -> None:
    ca.root("other")
    ca.role("web", "other")
    foreign = ca.issue("other")
    with pytest.raises(KmsError, match="not signed by an issuer of this mount"):
        ca.do("revoke", certificate=foreign["certificate"])
    with pytest.raises(KmsError, match="not found"):
        ca.do("revoke", serial_number=foreign["serial_number"])


def test_an_expired_certificate_is_not_revoked_unless_allowed(ca: Bench) -> None:
    serial = ca.issue()["serial_number"]
    ca.clock.seconds += 2 * DAY
    with pytest.raises(KmsError, match="already expired; refusing"):
        ca.do("revoke", serial_number=serial)
    ca.do("config-crl-write", allow_expired_cert_revocation=True)
    ca.do("crl-rotate")  # a CRL after its end is out already
    assert ca.do("revoke", serial_number=serial)["state"] == "revoked"
    assert serial in ca.listed()


def test_a_revocation_that_no_crl_could_show_is_refused(ca: Bench) -> None:
    serial = ca.issue()["serial_number"]
    ca.do("issuer-write", issuer_ref="default", usage=["issuing-certificates"])
    with pytest.raises(KmsError, match="crl-signing"):
        ca.do("revoke", serial_number=serial)
    assert ca.do("cert", serial=serial)["revocation_time"] == 0
    ca.clock.seconds += 3 * DAY
    assert ca.chores() == 0  # one CA that cannot sign must not stop the others' renewals


def test_an_open_crl_of_a_deleted_issuer_closes(ca: Bench) -> None:
    issuer = ca.do("config-issuers-read")["default"]
    intent = {"mount": ca.mount("pki").id, "crls": f"{issuer}/complete", "claim": "somebody"}
    ca.do("issuer-delete", issuer_ref="default")
    ca.intents["x"] = ("pki.crl-rotate", intent)
    ca.resolve_all()
    assert ca.intents == {}


def test_revocations_at_the_same_time_all_get_onto_the_published_crl(ca: Bench) -> None:
    serials = [ca.issue()["serial_number"] for _ in range(12)]
    failures: list[BaseException] = []

    def work(own: list[str]) -> None:
        try:
            for serial in own:
                ca.do("revoke", serial_number=serial)
                assert serial in ca.listed()
        except BaseException as error:  # noqa: BLE001  (reported below)
            failures.append(error)

    threads = [threading.Thread(target=work, args=(serials[at::3],)) for at in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert ca.listed() == set(serials)


def away(_: str) -> None:
    raise KmsError(ErrorKind.HSM_UNAVAILABLE, "the HSM does not answer")


def test_revoking_needs_no_hsm_and_the_last_crl_is_served_until_there_is_one(ca: Bench) -> None:
    serial, before = ca.issue()["serial_number"], ca.raw("crl")
    ca.token.calls.clear()
    ca.token.before = away
    assert ca.do("revoke", serial_number=serial)["state"] == "revoked"
    assert ca.token.calls == []
    assert ca.do("cert", serial=serial)["revocation_time"] == START
    assert ca.raw("crl") == before
    ca.token.before = lambda _: None
    assert ca.listed() == {serial}


def test_the_background_job_makes_what_is_behind(ca: Bench) -> None:
    serial = ca.issue()["serial_number"]
    assert ca.chores() == 0
    ca.do("revoke", serial_number=serial)
    assert ca.chores() == 1
    ca.token.calls.clear()
    assert ca.listed() == {serial}
    assert ca.token.calls == []
    assert ca.chores() == 0


def test_a_wrong_signature_of_the_hsm_is_never_published(ca: Bench) -> None:
    serial, before = ca.issue()["serial_number"], ca.raw("crl")
    ca.do("revoke", serial_number=serial)
    ca.token.spoil = True
    with pytest.raises(KmsError, match="does not verify"):
        ca.raw("crl")
    ca.token.spoil = False
    ca.store.lock()
    assert ca.raw("crl") == before


def test_crls_are_renewed_before_they_end(ca: Bench) -> None:
    ca.do("config-crl-write", expiry="24h")
    ca.do("crl-rotate")
    first = ca.crl()
    assert first.next_update_utc is not None
    assert int(first.next_update_utc.timestamp()) == START + DAY
    assert ca.chores() == 0
    ca.clock.seconds += DAY // 2
    assert ca.chores() == 1
    second = ca.crl()
    assert second.last_update_utc > first.last_update_utc
    assert ca.chores() == 0


def test_a_clock_that_goes_back_does_not_make_an_older_crl(ca: Bench) -> None:
    first = ca.crl()
    ca.clock.seconds -= 1000
    ca.do("crl-rotate")
    assert ca.crl().last_update_utc >= first.last_update_utc


def test_an_entry_stays_for_one_crl_past_its_end(ca: Bench) -> None:
    serial = ca.issue(ttl=3600)["serial_number"]
    ca.do("revoke", serial_number=serial)
    ca.clock.seconds += 3700
    ca.do("tidy", tidy_revoked_certs=True, tidy_cert_store=True, safety_buffer=1)
    ca.do("crl-rotate")
    assert serial in ca.listed()  # the first CRL after its end
    ca.clock.seconds += 10
    ca.do("crl-rotate")
    assert serial not in ca.listed()
    ca.do("tidy", tidy_revoked_certs=True, safety_buffer=1)
    with pytest.raises(KmsError) as empty:
        ca.do("certs-revoked-list")
    assert empty.value.kind is ErrorKind.NOT_FOUND


def test_a_crl_of_over_ten_days_is_refused(ca: Bench) -> None:
    for expiry in ("241h", "0h", "30m", "xx", "-1h"):
        with pytest.raises(KmsError, match="given expiry"):
            ca.do("config-crl-write", expiry=expiry)
    ca.do("config-crl-write", expiry="240h")
    ca.do("crl-rotate")
    crl = ca.crl()
    assert crl.next_update_utc is not None
    assert (crl.next_update_utc - crl.last_update_utc).total_seconds() <= CRL_EXPIRY_MAX


def test_crls_cannot_be_switched_off(ca: Bench) -> None:
    with pytest.raises(KmsError):
        ca.do("config-crl-write", disable=True)


def test_issuing_signs_no_crl_and_its_cost_does_not_grow_with_one(ca: Bench) -> None:
    for _ in range(5):
        ca.do("revoke", serial_number=ca.issue()["serial_number"])
    ca.token.calls.clear()
    issued = ca.issue()
    assert ca.token.calls == ["sign"]
    ca.do("revoke", serial_number=issued["serial_number"])
    assert ca.token.calls == ["sign"]


def test_numbers_are_allocated_once(ca: Bench) -> None:
    key = f"{ca.mount('pki').id}/{ca.do('config-issuers-read')['default']}"
    for _ in range(3):
        ca.do("crl-rotate")
    row = ca.store.reader().get(CRL_NUMBERS, key)
    assert row is not None
    assert row.value.allocated == 4
    assert load(ca.raw("ca-pem").decode()).public_bytes(Encoding.DER) == ca.raw("ca")


def test_a_crl_that_is_late_does_not_replace_a_newer_one(ca: Bench, hsm: Hsm) -> None:
    slow, quick = ca.issue()["serial_number"], ca.issue()["serial_number"]
    other = make_bench(ca.store, hsm)
    other.mounts = ca.mounts

    def overtake(step: str) -> None:
        if step == "conclude":
            ca.do("revoke", serial_number=quick)
            other.clock.seconds += CLAIM_SECONDS  # to it, the slow one is dead
            assert other.listed() == {slow, quick}

    ca.step = overtake
    ca.do("revoke", serial_number=slow)
    assert ca.listed() == {slow, quick}
    assert ca.crl_number() == 5


def test_a_revocation_after_the_clock_went_back_is_listed(ca: Bench) -> None:
    serial = ca.issue(ttl=60)["serial_number"]
    ca.clock.seconds += 500
    ca.do("crl-rotate")
    ca.clock.seconds -= 480
    ca.do("revoke", serial_number=serial)
    assert serial in ca.listed()
