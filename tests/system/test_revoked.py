"""Revoked means revoked, and single use means once, whichever of four workers is asked."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.harness import processes
from tests.harness.api import Api
from tests.harness.dev import DevServer

THREADS = 8
ROUNDS = 8


def child(api: Api, **options: object) -> str:
    token: str = api.post("auth/token/create", {"policies": ["default"], "ttl": "1h", **options}).json[
        "auth"
    ]["client_token"]
    return token


class Users:
    """Threads that use one token all the time, and remember what was accepted after the revocation."""

    def __init__(self, server: DevServer, token: str) -> None:
        self.revoked = threading.Event()
        self.stop = threading.Event()
        self.accepted_before = 0
        self.accepted_after = 0
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._use, args=(server, token)) for _ in range(THREADS)]
        for thread in self._threads:
            thread.start()

    def _use(self, server: DevServer, token: str) -> None:
        with server.api(token) as client:
            while not self.stop.is_set():
                sent_after = self.revoked.is_set()
                accepted = client.get("auth/token/lookup-self").status == 200
                with self._lock:
                    self.accepted_after += accepted and sent_after
                    self.accepted_before += accepted and not sent_after

    def finish(self) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join(30)


@pytest.mark.parametrize("how", ["revoke", "revoke-accessor", "revoke-self", "parent"])
def test_nobody_accepts_a_token_once_its_revocation_is_answered(
    how: str, server: DevServer, api: Api
) -> None:
    for _ in range(ROUNDS):
        parent = child(api, policies=["root"])
        with api.as_token(parent) as owner:
            token = child(owner)
        users = Users(server, token)
        try:
            processes.wait_for(lambda users=users: users.accepted_before > 0, 10, "the token is used")  # type: ignore[misc]  # bound now
            bodies = {"revoke": {"token": token}, "parent": {"token": parent}}
            if how == "revoke-accessor":
                accessor = api.ok("POST", "auth/token/lookup", {"token": token})["accessor"]
                answer = api.post("auth/token/revoke-accessor", {"accessor": accessor})
            elif how == "revoke-self":
                with api.as_token(token) as own:
                    answer = own.post("auth/token/revoke-self")
            else:
                answer = api.post("auth/token/revoke", bodies[how])
            users.revoked.set()
            assert answer.status == 204, answer
            clients = [api.as_token(token) for _ in range(THREADS)]
            with ThreadPoolExecutor(THREADS) as pool:
                statuses = list(pool.map(lambda client: client.get("auth/token/lookup-self").status, clients))
            for client in clients:
                client.close()
            assert statuses == [403] * THREADS
        finally:
            users.finish()
        assert users.accepted_after == 0


@pytest.mark.parametrize("uses", [1, 3])
def test_a_token_works_as_often_as_it_may(uses: int, server: DevServer, api: Api) -> None:
    for _ in range(5):
        token = child(api, num_uses=uses)
        clients = [server.api(token) for _ in range(50)]
        gate = threading.Barrier(50)

        def use(client: Api, gate: threading.Barrier = gate) -> int:
            gate.wait(30)
            # Not a look at the token itself: that the last use ends, maybe before another use has looked.
            return client.post("sys/tools/hash", {"input": "AAAA"}).status

        with ThreadPoolExecutor(50) as pool:
            statuses = list(pool.map(use, clients))
        for client in clients:
            client.close()
        assert sorted(statuses) == [200] * uses + [403] * (50 - uses)
