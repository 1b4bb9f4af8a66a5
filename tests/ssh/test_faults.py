"""A fault between each two steps: no certificate without an intent, none that is not known or revoked."""

from __future__ import annotations

import struct

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from kms.errors import ErrorKind, KmsError
from kms.ids import CkaId
from pki.lost import lose
from pki.model import RETIRED_KEY_WAIT, CertificateState, KeyState
from pki.ssh.model import SshRevocation
from pki.ssh.store import CERTIFICATES, ISSUERS, REVOCATIONS
from pki.ssh.wire import of_key
from pki.store import KEYS
from tests.pki.bench import Bench, Killed

KEY = of_key(ed25519.Ed25519PrivateKey.generate().public_key()).line
STEPS = ("begin", "begin-commit", "perform", "conclude", "conclude-commit", "answer")


def fail_at(bench: Bench, step: str) -> None:
    def look(now: str) -> None:
        if now == step:
            raise Killed

    bench.step = look


def recover(bench: Bench) -> None:
    bench.step = lambda _: None
    bench.token.before = bench.token.after = lambda _: None
    bench.token.spoil = False
    bench.resolve_all()
    while bench.chores():
        pass
    for key in bench.store.reader().scan(KEYS):
        exists = bench.token.exists(CkaId(key.value.cka_id))
        assert exists == (key.value.state in {KeyState.ACTIVE, KeyState.RETIRED}), key.value.state


def states(bench: Bench) -> list[str]:
    return [row.value.state for row in bench.store.reader().scan(CERTIFICATES)]


def revoked(bench: Bench) -> list[SshRevocation]:
    return [row.value for row in bench.store.reader().scan(REVOCATIONS)]


def krl_version(bench: Bench) -> int:
    document = bench.raw("krl")
    assert document.startswith(b"SSHKRL\n\0")
    version: int = struct.unpack(">Q", document[12:20])[0]
    return version


@pytest.mark.parametrize("step", STEPS)
def test_killed_while_signing(bench: Bench, step: str) -> None:
    fail_at(bench, step)
    with pytest.raises(Killed):
        bench.do("sign", role="users", public_key=KEY)
    recover(bench)
    unknown = [CertificateState.UNKNOWN] if step in {"perform", "conclude", "conclude-commit"} else []
    assert states(bench) == ([CertificateState.ISSUED] if step == "answer" else unknown)
    # Perhaps somebody holds it: it is on the KRL, under its CA.
    assert [row.value for row in revoked(bench)] == [
        row.value.serial for row in bench.store.reader().scan(CERTIFICATES) if unknown
    ]
    assert krl_version(bench) == len(unknown)
    bench.do("sign", role="users", public_key=KEY)


@pytest.mark.parametrize("step", STEPS)
def test_killed_while_making_a_ca(bench: Bench, step: str) -> None:
    before = len(bench.store.reader().scan(ISSUERS))
    fail_at(bench, step)
    with pytest.raises(Killed):
        bench.do("ca-write", key_type="ec")
    recover(bench)
    assert len(bench.store.reader().scan(ISSUERS)) == before + (step == "answer")
    bench.do("sign", role="users", public_key=KEY)


def test_when_the_hsm_is_away_nothing_is_revoked(bench: Bench) -> None:
    def away(name: str) -> None:
        raise KmsError(ErrorKind.HSM_UNAVAILABLE, name)

    bench.token.before = away
    for name in ("sign", "ca-write"):
        with pytest.raises(KmsError):
            bench.do(name, role="users", public_key=KEY if name == "sign" else "", key_type="ec")
    recover(bench)
    assert (states(bench), revoked(bench)) == ([], [])


def test_a_wrong_signature_never_leaves_and_is_revoked(bench: Bench) -> None:
    bench.token.spoil = True
    with pytest.raises(KmsError, match="does not verify") as caught:
        bench.do("sign", role="users", public_key=KEY)
    assert caught.value.kind is ErrorKind.INTEGRITY
    recover(bench)
    assert states(bench) == [CertificateState.UNKNOWN]
    assert len(revoked(bench)) == 1


def test_an_unknown_one_stays_revoked_when_its_ca_is_gone(bench: Bench) -> None:
    fail_at(bench, "conclude")
    with pytest.raises(Killed):
        bench.do("sign", role="users", public_key=KEY)
    bench.step = lambda _: None
    bench.result("ca-delete")
    recover(bench)
    assert [row.ca for row in revoked(bench)] == [""]  # of whatever CA: PROTOCOL.krl
    assert krl_version(bench) == 1


def test_a_removed_cas_key_waits_and_is_destroyed(bench: Bench) -> None:
    bench.result("ca-delete")
    (row,) = bench.store.reader().scan(KEYS)
    assert row.value.state == KeyState.RETIRED
    assert bench.token.exists(CkaId(row.value.cka_id))
    assert bench.chores() == 0
    bench.clock.sleep(RETIRED_KEY_WAIT + 1)
    recover(bench)
    assert not bench.token.exists(CkaId(row.value.cka_id))


def test_a_ca_whose_hsm_was_lost_says_so(bench: Bench) -> None:
    with bench.transaction() as tx:
        lose(tx)
    with pytest.raises(KmsError, match="lost with the HSM"):
        bench.do("sign", role="users", public_key=KEY)
    assert bench.raw("public-key").startswith(b"ssh-ed25519 ")
    bench.do("ca-write", key_type="ed25519")
    bench.do("sign", role="users", public_key=KEY)


def test_tidy_forgets_what_has_ended_and_the_krl_says_so(bench: Bench) -> None:
    for ttl in (60, 3600):
        made = bench.do("sign", role="users", public_key=KEY, ttl=ttl)
        bench.do("revoke", serial_number=made["serial_number"])
    bench.do("revoke", public_key=KEY)
    version = krl_version(bench)
    bench.clock.sleep(600)
    assert bench.do("tidy", safety_buffer=60) == {"certificates_deleted": 1, "revocations_deleted": 1}
    assert (len(states(bench)), len(revoked(bench))) == (1, 2)
    assert krl_version(bench) == version + 1
    assert bench.do("tidy", safety_buffer=60) == {"certificates_deleted": 0, "revocations_deleted": 0}
    assert krl_version(bench) == version + 1
