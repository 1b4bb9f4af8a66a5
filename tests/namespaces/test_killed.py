"""kill -9 while namespaces are made and removed: each is whole or not there, and a removal goes on."""

from __future__ import annotations

import threading

import httpx

from tests.conftest import ServerFactory
from tests.harness.dev import DevServer
from tests.harness.processes import wait_for
from tests.namespaces.tenants import Tenant

BUILTIN = {"sys/", "identity/", "cubbyhole/"}


def _make(server: DevServer, made: list[str], enough: threading.Event) -> None:
    with server.api() as api:
        for number in range(10_000):
            try:
                answer = api.post(f"sys/namespaces/n{number}", {"custom_metadata": {"n": str(number)}})
            except httpx.TransportError:
                return
            if answer.status == 200:
                made.append(f"n{number}")
            if len(made) >= 5:
                enough.set()


def _again(server: DevServer) -> None:
    server.kill_all()
    server.after_kill()
    server.start()


def test_a_namespace_is_born_whole_and_its_removal_survives(fresh_server: ServerFactory) -> None:
    server = fresh_server(workers=2)
    made: list[str] = []
    enough = threading.Event()
    maker = threading.Thread(target=_make, args=(server, made, enough))
    maker.start()
    assert enough.wait(60)
    _again(server)
    maker.join(60)
    with server.api() as api:
        kept = {name.strip("/") for name in api.list("sys/namespaces").data["keys"]}
        assert set(made) <= kept
        for name in kept:
            place = Tenant(api, name)
            assert set(place.ok("GET", "sys/mounts")) == BUILTIN
            assert set(place.ok("GET", "sys/auth")) == {"token/"}
        doomed = Tenant(api, made[0])
        for number in range(6):
            doomed.mount(f"keys{number}")
            doomed.ok("POST", f"keys{number}/keys/app", {"type": "ecdsa-p256"})
            doomed.ok(
                "POST", f"sys/policies/acl/p{number}", {"policy": 'path "a" { capabilities = ["read"] }'}
            )
        token = doomed.token()[0]
        assert api.delete(f"sys/namespaces/{made[0]}").data == {"status": "in-progress"}
    _again(server)
    with server.api() as api:
        gone = api.as_token(token)
        assert gone.get("auth/token/lookup-self").status == 403
        gone.close()
        wait_for(lambda: api.get(f"sys/namespaces/{made[0]}").status == 404, 60, "the end of the removal")
        assert not [path for path in api.ok("GET", "sys/mounts") if path.startswith("keys")]
        assert set(made[1:]) <= {name.strip("/") for name in api.list("sys/namespaces").data["keys"]}
        fresh = Tenant(api, made[0])
        api.ok("POST", f"sys/namespaces/{made[0]}", {})
        assert set(fresh.ok("GET", "sys/mounts")) == BUILTIN
        assert fresh.ok("LIST", "sys/policies/acl")["keys"] == ["default"]
