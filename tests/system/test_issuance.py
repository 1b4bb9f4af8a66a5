"""Issuing over HTTP with several workers: once per Idempotency-Key, and found again by the real client."""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.harness.api import Answer, Api
from tests.harness.bao import Bao
from tests.harness.dev import DevServer
from tests.harness.processes import kill

ROLE = {"allowed_domains": ["example.com"], "allow_subdomains": True, "key_type": "ec"}


@pytest.fixture
def authority(api: Api, mount: Callable[[str], str]) -> str:
    """A mount with an EC root and a role."""
    path = mount("pki")
    api.ok("POST", f"{path}/root/generate/internal", {"common_name": "Root", "key_type": "ec"})
    api.ok("POST", f"{path}/roles/web", ROLE)
    return path


def issue(api: Api, path: str, key: str, name: str = "a.example.com") -> Answer:
    headers = {"Idempotency-Key": key}
    return api.call("POST", f"{path}/issue/web", {"common_name": name}, headers=headers)


def test_many_at_once_with_one_key_are_one_certificate(api: Api, authority: str) -> None:
    key = f'"{uuid.uuid4()}"'
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: issue(api, authority, key), range(48)))
    assert {answer.status for answer in answers} <= {200, 409}
    issued = [answer.data for answer in answers if answer.status == 200]
    assert issued
    assert all(data == issued[0] for data in issued)
    again = issue(api, authority, key.strip('"'))  # most clients write it without quotes
    assert again.data == issued[0]
    serials = api.call("LIST", f"{authority}/certs").data["keys"]
    assert len(serials) == 2  # the root's and this one
    other = issue(api, authority, key, "b.example.com")
    assert (other.status, len(other.errors)) == (422, 1)


def insist(server: DevServer, path: str, number: int) -> list[str]:
    """Send one request again until it is answered, and then twice more; serial numbers that came back."""
    key, name = str(uuid.uuid4()), f"n{number}.killed.example.com"
    serials: list[str] = []
    deadline = time.monotonic() + 60
    with server.api() as api:
        while len(serials) < 3:
            assert time.monotonic() < deadline, f"{name} got {serials} in a minute"
            try:
                answer = issue(api, path, key, name)
            except httpx.HTTPError:  # the worker that had it was killed
                continue
            if answer.status == 200:
                serials.append(answer.data["serial_number"])
            else:
                assert answer.status in {409, 503}, answer
                time.sleep(0.1)
    return serials


def test_workers_are_killed_and_each_request_is_one_certificate(
    fresh_server: Callable[..., DevServer],
) -> None:
    """Kill -9 anywhere: who sends again gets one certificate that holds; what may have been signed beside it is revoked."""
    server = fresh_server(workers=2)
    with server.api() as api:
        api.ok("POST", "sys/mounts/pki", {"type": "pki"})
        api.ok("POST", "pki/root/generate/internal", {"common_name": "Root", "key_type": "ec"})
        api.ok("POST", "pki/roles/web", ROLE)
        with ThreadPoolExecutor(8) as pool:
            running = [pool.submit(insist, server, "pki", number) for number in range(40)]
            for _ in range(3):
                time.sleep(0.4)
                table = server.tree()
                children = {process.pid for process in table if process.parent == server.pid}
                workers = [process.pid for process in table if process.parent in children]
                assert kill(random.choice(workers))
            results = [future.result() for future in running]
    with server.api() as api:  # the worker of the other connection may be dead
        assert all(len(set(serials)) == 1 for serials in results)
        data = api.get("pki/certs/search?domain=killed.example.com&state=valid&limit=500").data
        assert set(data["keys"]) == {serials[0] for serials in results}
        unknown = api.get("pki/certs/search?state=unknown").data["key_info"]
        assert all(info["revocation_time"] for info in unknown.values())


@pytest.mark.parametrize("header", ['""', '"a', "a b"])
def test_a_broken_key_is_refused(api: Api, authority: str, header: str) -> None:
    answer = issue(api, authority, header)
    assert answer.status == 400
    assert "Idempotency-Key must" in answer.errors[0]


def test_the_real_client_finds_certificates(api: Api, bao: Bao, authority: str) -> None:
    serials = [
        api.post(f"{authority}/issue/web", {"common_name": f"{name}.team.example.com"}).json["data"][
            "serial_number"
        ]
        for name in "ab"
    ]
    shown = bao.run("read", "-format=json", f"{authority}/certs/search", "domain=team.example.com")
    data = json.loads(shown.stdout)["data"]
    assert sorted(data["keys"]) == sorted(serials)
    assert data["key_info"][serials[0]]["common_name"] == "a.team.example.com"
    api.ok("POST", f"{authority}/revoke", {"serial_number": serials[0]})
    shown = bao.run(
        "read", "-format=json", f"{authority}/certs/search", "domain=team.example.com", "state=revoked"
    )
    assert json.loads(shown.stdout)["data"]["keys"] == [serials[0]]
