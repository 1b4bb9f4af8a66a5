"""Issuing over HTTP with several workers: once per Idempotency-Key, and found again by the real client."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.harness.api import Answer, Api
from tests.harness.bao import Bao


@pytest.fixture
def authority(api: Api, mount: Callable[[str], str]) -> str:
    """A mount with an EC root and a role."""
    path = mount("pki")
    api.ok("POST", f"{path}/root/generate/internal", {"common_name": "Root", "key_type": "ec"})
    role = {"allowed_domains": ["example.com"], "allow_subdomains": True, "key_type": "ec"}
    api.ok("POST", f"{path}/roles/web", role)
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
