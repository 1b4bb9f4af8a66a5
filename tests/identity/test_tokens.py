"""Tokens in force and out of it."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kms.clock import SystemClock
from kms.errors import ErrorKind, KmsError
from kms.identity import TokenService
from kms.identity.service import _EAGER
from kms.sensitive import Sensitive
from kms.storage import FILE_NAME
from tests.identity.wire import FakeClock, Server

APP = 'path "a" { capabilities = ["read"] }\npath "auth/token/*" { capabilities = ["create", "update", "read"] }'

REFUSED: dict[str, Callable[[Server, FakeClock], str]] = {
    "none": lambda _server, _clock: "",
    "unknown": lambda _server, _clock: "hvs.000000000000000000000000",
    "prefix only": lambda _server, _clock: "hvs.",
    "too long": lambda _server, _clock: "hvs." + "0" * 600,
    "not ASCII": lambda _server, _clock: "hvs.é\udcff",
    "a NUL": lambda server, _clock: server.token() + "\x00",
    "other case": lambda server, _clock: server.token().swapcase(),
    "trailing space": lambda server, _clock: server.token() + " ",
    "its accessor": lambda server, _clock: str(
        server.call("POST", "auth/token/create", {})[1]["auth"]["accessor"]
    ),
    "its row key": lambda server, _clock: server.first.tokens.key_of(server.token()),
    "expired": lambda server, clock: _later(server.token(ttl="1m"), clock, 60),
    "used up": lambda server, _clock: _used(server, server.token(num_uses=1)),
    "revoked": lambda server, _clock: _revoked(server, server.token()),
    "parent revoked": lambda server, _clock: _child_of_dead(server),
    "parent expired": lambda server, clock: _later(
        server.token(server.token(policies=["app"], ttl="1m"), ttl="1h"), clock, 60
    ),
}


def _later(token: str, clock: FakeClock, seconds: float) -> str:
    clock.time += seconds
    return token


def _used(server: Server, token: str) -> str:
    assert server.works(token)
    return token


def _revoked(server: Server, token: str) -> str:
    assert server.works(token)
    assert server.call("POST", "auth/token/revoke", {"token": token})[0] == 204
    return token


def _child_of_dead(server: Server) -> str:
    parent = server.token(policies=["app"])
    child = server.token(server.token(parent))
    assert server.works(child)
    _revoked(server, parent)
    return child


@pytest.mark.parametrize("case", REFUSED)
def test_every_credential_out_of_force_gets_the_same_answer(
    server: Server, clock: FakeClock, case: str
) -> None:
    server.policy("app", APP)
    token = REFUSED[case](server, clock)
    with pytest.raises(KmsError) as caught:
        server.first.tokens.authenticate(token, "127.0.0.1")
    assert caught.value.kind is ErrorKind.UNAUTHENTICATED
    assert caught.value.detail == "permission denied"


def test_a_token_is_accepted_until_the_instant_of_its_expiry(server: Server, clock: FakeClock) -> None:
    token = server.token(ttl="1m")
    clock.time += 59.999
    assert server.works(token)
    clock.time += 0.001
    assert not server.works(token)


def test_principal_says_who_asks(server: Server) -> None:
    server.policy("app", APP)
    answer = server.call("POST", "auth/token/create", {"policies": ["app"], "display_name": "ci"})[1]["auth"]
    principal = server.first.tokens.authenticate(answer["client_token"], "127.0.0.1")
    assert principal.accessor == answer["accessor"]
    assert principal.policies == ("app", "default")
    assert principal.display_name == "token-ci"
    assert not principal.root
    assert server.first.tokens.authenticate(server.root, "127.0.0.1").root
    assert server.first.tokens.authenticate(answer["client_token"], "127.0.0.1") is principal


def test_no_token_or_accessor_string_reaches_the_disk(tmp_path: Path) -> None:
    server = Server(tmp_path)
    answer = server.call("POST", "auth/token/create", {"meta": {"owner": "alice-marker"}})[1]["auth"]
    server.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.glob(f"{FILE_NAME}*"))
    for secret in (server.root, answer["client_token"], answer["accessor"], "alice-marker"):
        assert secret.removeprefix("hvs.").encode() not in stored


def test_another_key_knows_no_token(server: Server) -> None:
    other = TokenService(
        server.first.store, lambda: Sensitive(b"k" * 32), server.clock, lambda: Sensitive(b"b" * 32)
    )
    with pytest.raises(KmsError):
        other.authenticate(server.root, "127.0.0.1")


# -- trees ------------------------------------------------------------------------------------------


def test_revocation_takes_exactly_the_tree_in_every_process(server: Server) -> None:
    """T-32b: after the answer no process accepts the token or a descendant, and all others live."""
    server.policy("app", APP)
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    others = [server.process() for _ in range(3)]
    tokens = [server.token(policies=["app"]) for _ in range(3)]
    parents: dict[str, str] = {}
    for _ in range(40):
        parent = rng.choice(tokens)
        child = server.token(parent)
        parents[child] = parent
        tokens.append(child)
    for process in others:
        assert all(server.works(token, process) for token in tokens), seed
    victim = rng.choice(tokens[:20])
    _revoked(server, victim)

    def dead(token: str) -> bool:
        return token == victim or (token in parents and dead(parents[token]))

    for process in [server.first, *others]:
        assert {t for t in tokens if not server.works(t, process)} == {t for t in tokens if dead(t)}, seed


def test_a_large_tree_dies_with_one_commit_and_is_swept_later(server: Server) -> None:
    server.policy("app", APP)
    top = server.token(policies=["app"])
    middle = server.token(top)
    leaves = [server.token(middle) for _ in range(_EAGER + 50)]
    other = server.process()
    assert server.works(leaves[-1], other)
    _revoked(server, top)
    assert not any(server.works(token, other) for token in (top, middle, *leaves))
    assert not any(server.works(token) for token in (top, middle, *leaves))
    tokens = server.first.tokens
    accessors = server.first.store.reader().count
    while tokens.reap(20):
        assert not any(server.works(token, other) for token in (top, middle, leaves[0], leaves[-1]))
    from kms.identity.store import ACCESSORS, TOKENS  # noqa: PLC0415  (rows are no part of the front)

    assert accessors(TOKENS, {}) == accessors(ACCESSORS, {}) == 1


def test_reaping_deletes_what_expired_and_nothing_else(server: Server, clock: FakeClock) -> None:
    server.policy("app", APP)
    short = server.token(policies=["app"], ttl="1m")
    child = server.token(short, ttl="1h")
    keeper = server.token(policies=["app"], ttl="1h")
    clock.time += 60
    assert server.first.tokens.reap() == 2
    assert server.first.tokens.reap() == 0
    assert server.works(keeper)
    assert server.works(server.root)
    assert not server.works(child)


def test_a_child_cannot_be_born_under_a_parent_that_dies_meanwhile(server: Server) -> None:
    server.policy("app", APP)
    parent = server.token(policies=["app"])
    other = server.process()
    other.store.refresh()
    principal = other.tokens.authenticate(parent, "127.0.0.1")
    _revoked(server, parent)
    from kms.identity.creation import TokenRequest, born  # noqa: PLC0415  (not part of the front)
    from kms.identity.model import Token  # noqa: PLC0415  (not part of the front)

    stale = Token(
        accessor="x", parent="", expires_at=2e9, policies=("app",), path="", display_name="", created=0.0
    )
    made = born(
        TokenRequest(path="auth/token/create"), principal.token_id, stale, role=None, sudo=False, now=0.0
    )
    with other.store.transaction() as tx, pytest.raises(KmsError, match="no parent found"):
        other.tokens.insert(tx, made.token)


def test_orphaning_spares_the_children(server: Server) -> None:
    server.policy("app", APP)
    parent = server.token(policies=["app"])
    child = server.token(parent)
    grandchild = server.token(child)
    other = server.process()
    assert server.works(grandchild, other)
    assert server.call("POST", "auth/token/revoke-orphan", {"token": parent})[0] == 204
    assert [server.works(token, other) for token in (parent, child, grandchild)] == [False, True, True]
    assert server.call("POST", "auth/token/lookup", {"token": child})[1]["data"]["orphan"]
    assert not server.call("POST", "auth/token/lookup", {"token": grandchild})[1]["data"]["orphan"]


def test_the_chain_of_parents_is_bounded(server: Server) -> None:
    server.policy("app", APP)
    token = server.token(policies=["app"])
    for _ in range(63):
        token = server.token(token)
    assert server.works(token)
    status, answer = server.call("POST", "auth/token/create", {}, token)
    assert status == 400
    assert "ancestors" in answer["errors"][0]


# -- uses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("uses", [1, 7])
def test_n_uses_are_n_requests_over_threads_and_processes(tmp_path: Path, uses: int) -> None:
    """T-33."""
    server = Server(tmp_path, SystemClock())
    processes = [server.first, server.process(), server.process(), server.process()]
    token = server.token(num_uses=uses, policies=["default"])
    accepted: list[bool] = []
    barrier = threading.Barrier(8)

    def run(number: int) -> None:
        barrier.wait()
        accepted.extend([server.works(token, processes[number % 4]) for _ in range(6)])

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.close()
    assert len(accepted) == 48
    assert sum(accepted) == uses


def test_the_last_use_may_look_at_itself(server: Server) -> None:
    token = server.token(num_uses=2)
    assert server.call("GET", "auth/token/lookup-self", None, token)[1]["data"]["num_uses"] == 1
    status, answer = server.call("GET", "auth/token/lookup-self", None, token)
    assert (status, answer["data"]["num_uses"]) == (200, -1)
    assert server.call("GET", "auth/token/lookup-self", None, token)[0] == 403
    assert server.call("POST", "auth/token/lookup", {"token": token})[0] == 403


def test_a_denied_request_spends_a_use(server: Server) -> None:
    token = server.token(num_uses=1, policies=["default"])
    assert server.call("LIST", "auth/token/accessors", None, token)[0] == 403
    assert not server.works(token)


def test_revoking_during_use_wins(tmp_path: Path) -> None:
    """One process revokes while others use; from the answer on every use is refused."""
    server = Server(tmp_path, SystemClock())
    processes = [server.process() for _ in range(3)]
    token = server.token()
    done = threading.Event()
    late: list[bool] = []
    started = threading.Barrier(4)

    def use(number: int) -> None:
        started.wait()
        while True:
            # Read before the use: only a use that began after the answer must be refused.
            answered = done.is_set()
            works = server.works(token, processes[number])
            if answered:
                late.append(works)
                return

    threads = [threading.Thread(target=use, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    started.wait()
    _revoked(server, token)
    done.set()
    for thread in threads:
        thread.join()
    server.close()
    assert late == [False, False, False]
