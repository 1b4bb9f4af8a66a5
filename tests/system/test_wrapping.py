"""Response wrapping and cubbyholes on a server with four workers, with hvac, bao and raw requests."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import hvac
import pytest

from tests.conftest import TokenFactory
from tests.harness.api import Answer, Api
from tests.harness.bao import Bao
from tests.harness.dev import DevServer

NOT_VALID = "wrapping token is not valid or does not exist"


def wrap(api: Api, verb: str, path: str, body: object = None, ttl: str = "60") -> dict[str, Any]:
    answer = api.call(verb, path, body, headers={"X-Vault-Wrap-TTL": ttl})
    assert answer.status == 200, answer.content[:300]
    shown = answer.json
    assert (shown["request_id"], shown["data"], shown["auth"]) == ("", None, None)
    assert "X-Keystead-Receipt".lower() in answer.headers
    info: dict[str, Any] = shown["wrap_info"]
    assert set(info) - {"wrapped_accessor"} == {"token", "accessor", "ttl", "creation_time", "creation_path"}
    return info


def unwrap(api: Api, token: str) -> Answer:
    with api.as_token(token) as carrier:
        return carrier.call("POST", "sys/wrapping/unwrap")


def test_hvac_wraps_looks_up_rewraps_and_unwraps(root: hvac.Client) -> None:
    wrapped = root.write_data("sys/wrapping/wrap", wrap_ttl="2m", data={"a": "1", "b": "two"})
    token = wrapped["wrap_info"]["token"]
    looked = root.adapter.post("/v1/sys/wrapping/lookup", json={"token": token})["data"]
    assert (looked["creation_ttl"], looked["creation_path"]) == (120, "sys/wrapping/wrap")
    again = root.adapter.post("/v1/sys/wrapping/rewrap", json={"token": token})["wrap_info"]
    assert (again["ttl"], again["creation_path"]) == (120, "sys/wrapping/wrap")
    with pytest.raises(hvac.exceptions.InvalidRequest, match=NOT_VALID):
        root.sys.unwrap(token)
    assert root.sys.unwrap(again["token"])["data"] == {"a": "1", "b": "two"}


def test_bao_unwraps_what_a_wrapped_token_creation_left(bao: Bao) -> None:
    made = json.loads(bao("token", "create", "-policy=default", "-wrap-ttl=60s", "-format=json"))["wrap_info"]
    unwrapped = json.loads(bao("unwrap", "-format=json", made["token"]))["auth"]
    assert unwrapped["accessor"] == made["wrapped_accessor"]
    assert json.loads(bao("token", "lookup", "-format=json", unwrapped["client_token"]))["data"][
        "policies"
    ] == ["default"]
    assert NOT_VALID in bao.run("unwrap", made["token"]).stderr


def test_the_answers_of_every_kind_of_operation_can_wait(api: Api, mount: Callable[[str], str]) -> None:
    transit, pki = mount("transit"), mount("pki")
    api.ok("POST", f"{transit}/keys/app", {})
    plain = unwrap(api, wrap(api, "POST", f"{transit}/datakey/plaintext/app", {})["token"])
    assert len(plain.data["plaintext"]) == 44
    assert unwrap(api, wrap(api, "GET", f"{transit}/keys/app")["token"]).data["type"] == "aes256-gcm96"
    root = wrap(api, "POST", f"{pki}/root/generate/internal", {"common_name": "Root", "key_type": "ec"})
    assert unwrap(api, root["token"]).data["certificate"].startswith("-----BEGIN")
    for stored in (True, False):
        role = {"allow_any_name": True, "key_type": "ec", "no_store": not stored}
        api.ok("POST", f"{pki}/roles/{'kept' if stored else 'free'}", role)
        name = f"{pki}/issue/{'kept' if stored else 'free'}"
        leaf = unwrap(api, wrap(api, "POST", name, {"common_name": "a.example.test"})["token"])
        assert "PRIVATE KEY" in leaf.data["private_key"]


def test_what_cannot_be_wrapped(api: Api) -> None:
    for ttl, text in (
        ("-5", "cannot be negative"),
        ("soon", "invalid duration"),
        ("200000000h", "ten years"),
    ):
        answer = api.call("POST", "sys/wrapping/wrap", {"a": 1}, headers={"X-Vault-Wrap-TTL": ttl})
        assert answer.status == 400
        assert text in answer.errors[0]
    assert api.post("sys/wrapping/wrap", {"a": 1}).errors == [
        "endpoint requires response wrapping to be used"
    ]
    header = {"X-Vault-Wrap-TTL": "60"}
    assert api.call("POST", "cubbyhole/x", {"a": 1}, headers=header).status == 204, "there is nothing to wrap"
    assert api.call("GET", "cubbyhole/none", headers=header).status == 404
    assert api.call("GET", "sys/health", headers=header).json["initialized"] is True
    assert api.call("POST", "sys/unseal", {"key": "00"}, headers=header).status == 400


def test_a_fraction_of_a_second_does_not_mean_in_clear(api: Api) -> None:
    assert wrap(api, "POST", "sys/wrapping/wrap", {"a": 1}, ttl="500ms")["ttl"] == 1


def test_one_of_fifty_unwraps_and_the_others_are_told(server: DevServer, api: Api) -> None:
    token = wrap(api, "POST", "sys/wrapping/wrap", {"secret": "x"})["token"]
    barrier = threading.Barrier(50)

    def open_it(_number: int) -> int:
        with server.api(token) as client:
            barrier.wait(30)
            return client.call("POST", "sys/wrapping/unwrap").status

    with ThreadPoolExecutor(50) as pool:
        statuses = list(pool.map(open_it, range(50)))
    assert sorted(statuses) == [200] + [400] * 49


def test_a_wrapping_token_opens_its_answer_and_does_nothing_else(api: Api, token_with: TokenFactory) -> None:
    info = wrap(api, "POST", "sys/wrapping/wrap", {"secret": "x"})
    with api.as_token(info["token"]) as carrier:
        for verb, path in (
            ("GET", "auth/token/lookup-self"),
            ("POST", "auth/token/create"),
            ("POST", "auth/token/renew-self"),
            ("GET", "cubbyhole/response"),
            ("LIST", "cubbyhole"),
            ("POST", "sys/wrapping/rewrap"),
        ):
            assert carrier.call(verb, path).status == 403, path
        assert carrier.get("sys/wrapping/lookup").data["creation_ttl"] == 60
    assert unwrap(api, info["token"]).data == {"secret": "x"}
    mine = api.post("sys/wrapping/unwrap", {"token": api.token})
    assert (mine.status, mine.errors) == (400, [NOT_VALID]), "an ordinary token is no wrapping token"
    refused = api.post("auth/token/create", {"policies": ["response-wrapping"]})
    assert refused.status == 400
    other = token_with('path "sys/wrapping/unwrap" { capabilities = ["deny"] }')
    again = wrap(api, "POST", "sys/wrapping/wrap", {"secret": "y"})
    with api.as_token(other) as denied:
        assert denied.post("sys/wrapping/unwrap", {"token": again["token"]}).status == 403
    assert unwrap(api, again["token"]).data == {"secret": "y"}, "a denied try costs nothing"


def test_whoever_finds_the_courier_bribed_revokes_by_accessor(api: Api) -> None:
    info = wrap(api, "POST", "sys/wrapping/wrap", {"secret": "x"})
    api.ok("POST", "auth/token/revoke-accessor", {"accessor": info["accessor"]})
    assert unwrap(api, info["token"]).errors == [NOT_VALID]
    assert api.post("sys/wrapping/lookup", {"token": info["token"]}).errors == [NOT_VALID]


def test_policy_can_demand_wrapping_and_bound_its_time(api: Api, token_with: TokenFactory) -> None:
    path = f"cubbyhole/{secrets.token_hex(4)}"
    token = token_with(
        f'path "{path}" {{ capabilities = ["create", "update", "read"] }}\n'
        'path "sys/wrapping/wrap" { capabilities = ["update"] min_wrapping_ttl = "30s" max_wrapping_ttl = "90s" }'
    )
    with api.as_token(token) as bound:
        statuses = {
            ttl: bound.call("POST", "sys/wrapping/wrap", {"a": 1}, headers={"X-Vault-Wrap-TTL": ttl}).status
            for ttl in ("10s", "60s", "2m")
        }
    assert statuses == {"10s": 403, "60s": 200, "2m": 403}


def test_an_expired_wrapping_token_opens_nothing(api: Api) -> None:
    token = wrap(api, "POST", "sys/wrapping/wrap", {"secret": "x"}, ttl="1s")["token"]
    gone = threading.Event()
    for _ in range(50):
        if gone.wait(0.1) or api.post("sys/wrapping/lookup", {"token": token}).status == 400:
            break
    assert unwrap(api, token).errors == [NOT_VALID]


def test_a_wrapped_secret_is_nowhere_in_clear(server: DevServer, api: Api) -> None:
    canary = secrets.token_hex(16)
    token = wrap(api, "POST", "sys/wrapping/wrap", {"secret": canary})["token"]
    for path in (*server.data.rglob("*"), server.errors):
        if path.is_file():
            content = path.read_bytes()
            assert canary.encode() not in content, path
            assert token.encode() not in content, path


def test_a_cubbyhole_is_its_tokens_alone_and_goes_with_it(api: Api) -> None:
    made = api.post("auth/token/create", {"policies": ["default"], "ttl": "1h"}).json["auth"]
    with api.as_token(made["client_token"]) as owner:
        assert owner.list("cubbyhole").status == 404
        document = b'{"n": 1.50, "list": [1, {"z": 1, "a": 2}]}'
        assert owner.call("POST", "cubbyhole/a/b", raw=document).status == 204
        assert owner.post("cubbyhole/a/c", {"x": 1}).status == 204
        assert owner.post("cubbyhole/top", {"x": 1}).status == 204
        assert owner.list("cubbyhole").data["keys"] == ["a/", "top"]
        assert owner.list("cubbyhole/a").data["keys"] == ["b", "c"]
        assert b'"data":{"list":[1,{"a":2,"z":1}],"n":1.50}' in owner.get("cubbyhole/a/b").content
        assert owner.call("DELETE", "cubbyhole/a/c").status == 204
        assert owner.get("cubbyhole/a/c").status == 404
        assert owner.post("cubbyhole/a/d", {}).errors == ["missing data fields"]
        assert owner.call("GET", "cubbyhole/a/..%2fb").status in {400, 404}
        assert owner.post("cubbyhole/a%20b", {"x": 1}).status == 400
    assert api.get("cubbyhole/a/b").status == 404, "root reads its own only"
    api.ok("POST", "auth/token/revoke", {"token": made["client_token"]})
    with api.as_token(made["client_token"]) as dead:
        assert dead.get("cubbyhole/a/b").status == 403


def test_the_last_use_of_a_token_may_read_its_cubbyhole(api: Api) -> None:
    made = api.post("auth/token/create", {"policies": ["default"], "num_uses": 2}).json["auth"]
    with api.as_token(made["client_token"]) as owner:
        assert owner.post("cubbyhole/a", {"x": 1}).status == 204
        assert owner.get("cubbyhole/a").data == {"x": 1}
        assert owner.get("cubbyhole/a").status == 403
