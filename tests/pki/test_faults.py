"""T-51, I5, I10: a fault between each two steps. No certificate without a stored intent, none that cannot be revoked."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from kms.errors import ErrorKind, KmsError
from kms.hsm import Hsm
from kms.ids import CkaId
from pki.model import RETIRED_KEY_WAIT, CertificateState, KeyState
from pki.store import CERTIFICATES, ISSUERS, KEYS, REVOCATIONS
from tests.pki.bench import Bench, Killed, make_bench
from tests.support import make_sealer, make_store

STEPS = ["begin", "begin-commit", "perform", "conclude", "conclude-commit", "answer"]


def fail_at(bench: Bench, step: str, error: BaseException) -> None:
    def look(now: str) -> None:
        if now == step:
            raise error

    bench.step = look


def rows(bench: Bench) -> dict[str, str]:
    """Serial -> state of all leaves."""
    found = bench.store.reader().scan(CERTIFICATES)
    return {
        row.value.serial: row.value.state
        for row in found
        if row.value.profile not in {"root", "intermediate"}
    }


def check_promises(bench: Bench) -> None:
    """What must hold after any crash and recovery."""
    reader = bench.store.reader()
    serials = [row.value.serial for row in reader.scan(CERTIFICATES)]
    assert len(serials) == len(set(serials))
    for row in reader.scan(CERTIFICATES):
        assert row.value.state != CertificateState.INTENT
        if row.value.certificate:
            parsed = x509.load_der_x509_certificate(row.value.certificate)
            assert f"{parsed.serial_number:x}" == row.value.serial
    # No HSM object without a row, no active key without its object.
    for key in reader.scan(KEYS):
        exists = bench.token.exists(CkaId(key.value.cka_id))
        assert exists == (key.value.state in {KeyState.ACTIVE, KeyState.RETIRED}), key.value.state
    for issuer in reader.scan(ISSUERS):
        assert not issuer.value.key_id or reader.get(
            KEYS, f"{issuer.key.partition('/')[0]}/{issuer.value.key_id}"
        )


def recover(bench: Bench) -> None:
    bench.step = lambda _: None
    bench.token.before = bench.token.after = lambda _: None
    bench.token.spoil = False
    bench.resolve_all()
    while bench.chores():
        pass
    check_promises(bench)


@pytest.mark.parametrize("no_store", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_killed_while_issuing(ca: Bench, step: str, no_store: bool) -> None:
    ca.role(no_store=no_store)
    fail_at(ca, step, Killed())
    ca.token.calls.clear()
    with pytest.raises(Killed):
        ca.issue()
    signed = "sign" in ca.token.calls
    recover(ca)
    states = set(rows(ca).values())
    expected = {
        "begin": set(),
        "begin-commit": set(),
        "perform": {CertificateState.UNKNOWN},
        "conclude": {CertificateState.UNKNOWN},
        "conclude-commit": {CertificateState.UNKNOWN},
        "answer": set() if no_store else {CertificateState.ISSUED},
    }[step]
    assert states == expected
    if signed and not no_store:
        assert states, "a signature was made without a recorded intent"
    if states == {CertificateState.UNKNOWN}:
        assert {serial.replace(":", "") for serial in ca.listed()} == set(rows(ca))
    ca.issue()


@pytest.mark.parametrize("no_store", [False, True])
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_inside_the_hsm_call(ca: Bench, when: str, no_store: bool) -> None:
    ca.role(no_store=no_store)

    def die(name: str) -> None:
        if name == "sign":
            raise Killed

    setattr(ca.token, when, die)
    with pytest.raises(Killed):
        ca.issue()
    recover(ca)
    assert set(rows(ca).values()) == {CertificateState.UNKNOWN}
    assert len(ca.listed()) == 1


def test_when_the_hsm_fails_nothing_is_on_the_crl(ca: Bench) -> None:
    def away(name: str) -> None:
        raise KmsError(ErrorKind.HSM_UNAVAILABLE, name)

    ca.token.before = away
    with pytest.raises(KmsError):
        ca.issue()
    recover(ca)
    assert rows(ca) == {}
    assert ca.listed() == set()


@pytest.mark.parametrize("no_store", [False, True])
def test_a_wrong_signature_never_leaves_and_is_revoked(ca: Bench, no_store: bool) -> None:
    ca.role(no_store=no_store)
    ca.token.spoil = True
    with pytest.raises(KmsError) as failed:
        ca.issue()
    assert failed.value.kind is ErrorKind.INTEGRITY
    recover(ca)
    assert set(rows(ca).values()) == {CertificateState.UNKNOWN}
    assert len(ca.listed()) == 1


# Statement that fails -> how the request is made, and whether it was signed by then.
REFUSED = {
    "INSERT ON pki_certificates": ({}, True),
    "INSERT ON pki_index": ({}, True),
    "INSERT ON pki_idempotency": ({"idempotency_key": "1"}, False),
    "UPDATE ON pki_idempotency": ({"idempotency_key": "1"}, True),
}


@pytest.mark.parametrize("statement", REFUSED)
def test_the_database_refuses_a_write(ca: Bench, tmp_path: Path, statement: str) -> None:
    """Boulder's cert_storage_failed_test: a trigger makes one statement fail."""
    how, signed = REFUSED[statement]
    database = next(path for path in tmp_path.rglob("*") if path.suffix in {".db", ".sqlite", ".sqlite3"})
    ca.token.calls.clear()
    refusing = " BEGIN SELECT RAISE(ABORT, 'injected'); END"
    with sqlite3.connect(database) as connection:
        connection.execute(f"CREATE TRIGGER broken BEFORE {statement}{refusing}")
    with pytest.raises((KmsError, sqlite3.Error)):
        ca.issue(**how)
    assert ca.token.calls.count("sign") == signed
    with sqlite3.connect(database) as connection:
        connection.execute("DROP TRIGGER broken")
    recover(ca)
    # If it was signed but could not be stored, there is a record of it, and it can be, and is, revoked.
    assert set(rows(ca).values()) == ({CertificateState.UNKNOWN} if signed else set())
    assert len(ca.listed()) == signed
    again = ca.issue(**how)
    assert again["serial_number"] not in ca.listed()


@pytest.mark.parametrize("step", STEPS)
def test_killed_while_a_role_makes_a_ca(ca: Bench, step: str) -> None:
    """CA certificates have a row before they are signed, under a role too."""
    ca.role(profile="ca", key_type="any", allow_any_name=True, enforce_hostnames=False)
    csr = ca.do("intermediate-generate", "int", common_name="X", key_type="ec", exported="internal")["csr"]
    fail_at(ca, step, Killed())
    with pytest.raises(Killed):
        ca.do("sign", role="web", csr=csr)
    recover(ca)
    expected = {
        "begin": [],
        "begin-commit": [],
        "answer": [CertificateState.ISSUED],
    }.get(step, [CertificateState.UNKNOWN])
    assert list(rows(ca).values()) == expected
    assert len(ca.listed()) == (expected == [CertificateState.UNKNOWN])


def test_the_outcome_cannot_be_written_at_first(ca: Bench) -> None:
    fail_at(ca, "conclude-commit", KmsError(ErrorKind.STORAGE_UNAVAILABLE, "disk full"))
    with pytest.raises(KmsError, match="disk full"):
        ca.issue()
    assert set(rows(ca).values()) == {CertificateState.UNKNOWN}
    recover(ca)
    assert len(ca.listed()) == 1


@pytest.mark.parametrize("no_store", [False, True])
def test_an_intent_closed_by_another_process_gives_no_answer(ca: Bench, no_store: bool) -> None:
    ca.role(no_store=no_store)

    def meanwhile(step: str) -> None:
        if step == "conclude":
            ca.step = lambda _: None
            ca.resolve_all()
            ca.step = lambda _: None

    ca.step = meanwhile
    with pytest.raises((KmsError, KeyError)):  # the driver misses the intent that it should close
        ca.issue()
    assert set(rows(ca).values()) == {CertificateState.UNKNOWN}


def test_resolving_twice_changes_nothing(ca: Bench) -> None:
    fail_at(ca, "conclude", Killed())
    with pytest.raises(Killed):
        ca.issue()
    kept = dict(ca.intents)
    recover(ca)
    before, listed = rows(ca), ca.listed()
    ca.intents.update(kept)
    recover(ca)
    assert rows(ca) == before
    assert ca.listed() == listed


CEREMONIES: dict[str, Callable[[Bench], object]] = {
    "root": lambda bench: bench.root("new"),
    "request": lambda bench: bench.do(
        "intermediate-generate", "new", common_name="X", key_type="ec", exported="internal"
    ),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("ceremony", CEREMONIES.values(), ids=CEREMONIES.keys())
def test_killed_while_making_a_ca(ca: Bench, step: str, ceremony: Callable[[Bench], object]) -> None:
    before = {row.key for row in ca.store.reader().scan(KEYS)}
    fail_at(ca, step, Killed())
    with pytest.raises(Killed):
        ceremony(ca)
    recover(ca)
    after = {row.key for row in ca.store.reader().scan(KEYS)}
    assert len(after - before) == (1 if step == "answer" else 0)
    ceremony(ca)


@pytest.mark.parametrize("call", ["generate", "sign"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "error", [Killed(), KmsError(ErrorKind.HSM_UNAVAILABLE, "gone")], ids=["killed", "gone"]
)
def test_the_hsm_fails_while_making_a_root(ca: Bench, call: str, when: str, error: BaseException) -> None:
    before = {row.key for row in ca.store.reader().scan(KEYS)}

    def die(name: str) -> None:
        # An HSM that has gone does not answer the clean-up either.
        if name == call or (ca.token.calls.count(call) and name == "exists"):
            raise error

    ca.token.calls.clear()
    setattr(ca.token, when, die)
    with pytest.raises(type(error)):
        ca.root("new")
    recover(ca)
    assert {row.key for row in ca.store.reader().scan(KEYS)} == before


@pytest.mark.parametrize("step", STEPS)
def test_killed_while_making_the_crl_of_a_revocation(ca: Bench, step: str) -> None:
    serial, number = ca.issue()["serial_number"], ca.crl_number()
    ca.do("revoke", serial_number=serial)
    fail_at(ca, step, Killed())
    with pytest.raises(Killed):
        ca.raw("crl")
    recover(ca)
    assert ca.listed() == {serial}
    assert ca.crl_number() > number
    assert len(ca.store.reader().scan(REVOCATIONS)) == 1


def test_killed_before_a_revocation_is_durable(ca: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    serial = ca.issue()["serial_number"]

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("pki.ledger.enter", die)
        with pytest.raises(Killed):
            ca.do("revoke", serial_number=serial)
    recover(ca)
    assert ca.listed() == set()
    assert ca.do("cert", serial=serial)["revocation_time"] == 0
    assert ca.store.reader().scan(REVOCATIONS) == []


@pytest.mark.parametrize("step", STEPS)
def test_killed_while_importing(ca: Bench, step: str) -> None:
    csr = ca.do("intermediate-generate", "int", common_name="X", key_type="ec", exported="internal")["csr"]
    signed = ca.do("sign-intermediate", csr=csr)["certificate"]
    fail_at(ca, step, Killed())
    with pytest.raises(Killed):
        ca.do("intermediate-set-signed", "int", certificate=signed)
    recover(ca)
    ca.do("intermediate-set-signed", "int", certificate=signed)
    assert len(ca.do("issuers-list", "int")["keys"]) == 1
    assert len(ca.crl("int")) == 0


def test_another_process_sees_what_this_one_did(tmp_path: Path, hsm: Hsm) -> None:
    sealer = make_sealer()
    one = make_bench(make_store(tmp_path, sealer), hsm)
    two = make_bench(make_store(tmp_path, sealer), hsm)
    two.mounts = one.mounts
    one.root()
    one.role()
    serial = two.issue()["serial_number"]
    two.do("revoke", serial_number=serial)
    assert one.listed() == {serial}
    one.do("role-delete", name="web")
    with pytest.raises(KmsError, match="unknown role"):
        two.issue()
    one.store.close()
    two.store.close()


def test_a_removed_mount_serves_nothing_and_its_keys_wait(ca: Bench) -> None:
    mount = ca.mount("pki")
    with ca.transaction() as tx:
        assert ca.service.retire_mount(tx, mount.id) == 1
    assert ca.result("ca").raw is None
    with pytest.raises(KmsError):
        ca.issue()
    assert ca.chores() == 0
    key = ca.store.reader().scan(KEYS)[0].value
    assert ca.token.exists(CkaId(key.cka_id))
    ca.clock.seconds += RETIRED_KEY_WAIT
    assert ca.chores() == 1
    assert not ca.token.exists(CkaId(key.cka_id))
    assert ca.store.reader().scan(KEYS) == []


def test_a_failed_ceremony_destroys_its_object_at_once(ca: Bench) -> None:
    ca.token.spoil = True
    ca.token.calls.clear()
    with pytest.raises(KmsError, match="does not verify"):
        ca.root("new")
    assert ca.token.calls == ["generate", "sign", "exists", "destroy"]


def test_resolving_a_ceremony_that_ended_well_destroys_nothing(ca: Bench) -> None:
    ca.intents["x"] = ("pki.root-generate", ca.subjects[0])
    assert ca.resolve_all() == [None]
    ca.issue()
    check_promises(ca)
