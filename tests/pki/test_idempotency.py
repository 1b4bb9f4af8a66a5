"""Idempotency-Key: once is once, whatever is lost, killed, repeated or asked for twice at the same time."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from kms.errors import ErrorKind, KmsError
from kms.hsm import Hsm
from kms.http.vault.idempotency import idempotency_key
from pki.idempotency import KEPT_SECONDS, REMEMBERED
from pki.model import CertificateState
from pki.store import CERTIFICATES
from tests.pki.bench import Bench, Killed, load, make_bench, make_csr
from tests.support import make_sealer, make_store

KEY = "8e03978e-40d5-43e8-bc93-6894a57f9324"


def signatures(bench: Bench) -> int:
    return bench.token.calls.count("sign")


def leaves(bench: Bench) -> list[str]:
    rows = bench.store.reader().scan(CERTIFICATES)
    return [row.value.state for row in rows if row.value.profile not in {"root", "intermediate"}]


def remembered(bench: Bench) -> int:
    return bench.store.reader().count(REMEMBERED, {})


@pytest.mark.parametrize("no_store", [False, True])
def test_a_repeated_issue_gets_the_same_certificate_and_key(ca: Bench, no_store: bool) -> None:
    ca.role(no_store=no_store)
    first = ca.issue(idempotency_key=KEY)
    before = signatures(ca)
    assert ca.issue(idempotency_key=KEY) == first
    assert signatures(ca) == before
    assert ca.subjects[-1]["repeated"] == 1
    private = load_pem_private_key(first["private_key"].encode(), None)
    assert private.public_key() == load(first["certificate"]).public_key()
    assert leaves(ca) == ([] if no_store else [CertificateState.ISSUED])


def test_a_repeated_sign_and_a_repeated_intermediate(ca: Bench, tmp_path: Path) -> None:
    csr = make_csr(tmp_path, "/CN=a.example.com")
    asked = {"role": "web", "csr": csr, "idempotency_key": KEY}
    assert ca.do("sign", **asked) == ca.do("sign", **asked)
    request = ca.do("intermediate-generate", "int", common_name="I", key_type="ec", exported="internal")
    below = {"csr": request["csr"], "idempotency_key": KEY + "2"}
    assert ca.do("sign-intermediate", **below) == ca.do("sign-intermediate", **below)


def test_the_same_key_for_something_else_is_422(ca: Bench) -> None:
    ca.issue(idempotency_key=KEY)
    others: tuple[dict[str, object], ...] = ({"common_name": "b.example.com"}, {"ttl": 60}, {"alt_names": []})
    for other in others:
        with pytest.raises(KmsError, match="with another request") as refused:
            ca.issue(idempotency_key=KEY, **other)
        assert refused.value.status == 422
    assert len(leaves(ca)) == 1


def test_a_key_belongs_to_its_caller_and_its_mount(ca: Bench) -> None:
    first = ca.issue(idempotency_key=KEY)
    ca.root("pki2")
    ca.role("web", "pki2")
    assert ca.issue("pki2", idempotency_key=KEY) != first
    ca.accessor = "somebody-else"
    assert ca.issue(idempotency_key=KEY) != first
    ca.accessor = ""
    with pytest.raises(KmsError, match="told from others"):
        ca.issue(idempotency_key=KEY)


def test_two_at_once_make_one_signature(tmp_path: Path, hsm: Hsm) -> None:
    """The second comes in while the first is anywhere between its intent and its outcome."""
    sealer = make_sealer()
    one = make_bench(make_store(tmp_path, sealer), hsm)
    two = make_bench(make_store(tmp_path, sealer), hsm)
    two.mounts = one.mounts
    one.root()
    one.role()
    refused: list[KmsError] = []

    def also(step: str) -> None:
        if step in {"perform", "conclude"}:
            with pytest.raises(KmsError) as clash:
                two.issue(idempotency_key=KEY)
            refused.append(clash.value)

    one.step = also
    first = one.issue(idempotency_key=KEY)
    assert [error.status for error in refused] == [409, 409]
    assert signatures(two) == 0
    assert two.issue(idempotency_key=KEY) == first
    assert len(leaves(one)) == 1
    one.store.close()
    two.store.close()


def test_the_one_that_loses_the_race_for_the_row_signs_nothing(tmp_path: Path, hsm: Hsm) -> None:
    """Both have looked and found nothing; the row decides."""
    sealer = make_sealer()
    one = make_bench(make_store(tmp_path, sealer), hsm)
    two = make_bench(make_store(tmp_path, sealer), hsm)
    two.mounts = one.mounts
    one.root()
    one.role()
    done: list[object] = []

    def quicker(step: str) -> None:
        if step == "begin" and not done:
            done.append(two.issue(idempotency_key=KEY))

    one.step = quicker
    before = signatures(one)
    with pytest.raises(KmsError) as clash:
        one.issue(idempotency_key=KEY)
    assert clash.value.status == 409
    assert signatures(one) == before
    assert one.issue(idempotency_key=KEY) == done[0]
    one.store.close()
    two.store.close()


STEPS = ["begin", "begin-commit", "perform", "conclude", "conclude-commit", "answer"]


@pytest.mark.parametrize("no_store", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_and_sent_again(ca: Bench, step: str, no_store: bool) -> None:
    ca.role(no_store=no_store)

    def look(now: str) -> None:
        if now == step:
            raise Killed

    ca.step = look
    with pytest.raises(Killed):
        ca.issue(idempotency_key=KEY)
    ca.step = lambda _: None
    planned = step in {"perform", "conclude", "conclude-commit"}
    if planned:
        with pytest.raises(KmsError) as early:  # nobody has found out yet what became of the first
            ca.issue(idempotency_key=KEY)
        assert early.value.status == 409
    ca.resolve_all()
    while ca.chores():
        pass
    answer = ca.issue(idempotency_key=KEY)
    assert ca.issue(idempotency_key=KEY) == answer
    assert answer["serial_number"] not in ca.listed()
    # What the dead process may have signed is on the CRL, and it is not what the second one got.
    assert len(ca.listed()) == (1 if planned else 0)
    assert remembered(ca) == 1


def test_a_request_that_failed_may_be_sent_again(ca: Bench) -> None:
    with pytest.raises(KmsError, match="not allowed"):
        ca.issue(idempotency_key=KEY, common_name="example.org")
    assert remembered(ca) == 0

    def away(name: str) -> None:
        raise KmsError(ErrorKind.HSM_UNAVAILABLE, name)

    ca.token.before = away
    with pytest.raises(KmsError):
        ca.issue(idempotency_key=KEY)
    assert remembered(ca) == 0
    ca.token.before = lambda _: None
    ca.issue(idempotency_key=KEY)


def test_it_is_forgotten_in_time(ca: Bench) -> None:
    first = ca.issue(idempotency_key=KEY)
    ca.clock.seconds += KEPT_SECONDS - 1
    assert ca.issue(idempotency_key=KEY) == first
    ca.clock.seconds += 2
    second = ca.issue(idempotency_key=KEY)
    assert second["serial_number"] != first["serial_number"]
    assert remembered(ca) == 1
    ca.clock.seconds += KEPT_SECONDS + 1
    ca.chores()
    assert remembered(ca) == 0


def test_the_database_holds_neither_the_key_of_the_request_nor_the_private_key(ca: Bench) -> None:
    answer = ca.issue(idempotency_key=KEY)
    row = ca.store.reader().scan(REMEMBERED)[0]  # as the keyring opens it
    body = row.value.answer + row.key.encode()
    assert KEY.encode() not in body
    assert answer["private_key"][40:80].encode() not in body
    assert b"certificate" not in body


def test_a_row_moved_to_another_key_is_refused(ca: Bench, tmp_path: Path) -> None:
    ca.issue(idempotency_key=KEY)
    database = next(path for path in tmp_path.rglob("*") if path.suffix in {".db", ".sqlite", ".sqlite3"})
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE pki_idempotency SET expires_at = expires_at + 1000000")
    with pytest.raises(KmsError) as refused:
        ca.issue(idempotency_key=KEY)
    assert refused.value.kind is ErrorKind.INTEGRITY


@pytest.mark.parametrize(
    ("header", "key"),
    [
        (b'"8e03978e"', "8e03978e"),
        (b"8e03978e", "8e03978e"),
        (b'"a \\"b\\" \\\\c"', 'a "b" \\c'),
        (b"order:1/2@x", "order:1/2@x"),
    ],
)
def test_the_header_in_its_forms(header: bytes, key: str) -> None:
    assert idempotency_key(header) == key


@pytest.mark.parametrize(
    "header", [b'""', b'"a', b'a"b', b"a b", b"a\x00b", "ü".encode(), b'"\\n"', b'"a", "b"', b"x" * 256]
)
def test_a_header_that_is_none(header: bytes) -> None:
    with pytest.raises(KmsError, match=re.escape("Idempotency-Key must")):
        idempotency_key(header)
