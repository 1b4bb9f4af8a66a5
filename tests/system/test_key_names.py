"""Aliases and pages of lists on a real server, with real clients and real policies."""

from __future__ import annotations

import secrets
from base64 import b64encode

import hvac
import pytest
from hvac.exceptions import InvalidRequest

from tests.conftest import TokenFactory
from tests.harness.api import Api
from tests.harness.bao import Bao
from tests.harness.dev import DevServer

P = b64encode(b"card 4711").decode()


@pytest.fixture
def mount(api: Api) -> str:
    path = f"names-{secrets.token_hex(4)}"
    api.ok("POST", f"sys/mounts/{path}", {"type": "transit"})
    return path


def test_hvac_uses_an_alias_that_moves(server: DevServer, api: Api, root: hvac.Client, mount: str) -> None:
    transit = root.secrets.transit
    api.ok("POST", f"{mount}/keys/2026")
    api.ok("POST", f"{mount}/keys/2027", {"protection": "hsm"})
    api.ok("POST", f"{mount}/aliases/current", {"key": "2026"})
    old = transit.encrypt_data("current", plaintext=P, mount_point=mount)["data"]["ciphertext"]
    for key in ("2027", "2026") * 3:
        api.ok("POST", f"{mount}/aliases/current", {"key": key})
        for _ in range(6):  # every worker follows at once
            with server.api() as fresh:
                sealed = fresh.ok("POST", f"{mount}/encrypt/current", {"plaintext": P})["ciphertext"]
                assert fresh.ok("POST", f"{mount}/decrypt/{key}", {"ciphertext": sealed})["plaintext"] == P
    assert transit.read_key("current", mount_point=mount)["data"]["name"] == "2026"
    assert transit.decrypt_data("current", ciphertext=old, mount_point=mount)["data"]["plaintext"] == P
    with pytest.raises(InvalidRequest):
        transit.rotate_key("current", mount_point=mount)
    with pytest.raises(InvalidRequest, match="is an alias of key 2026"):
        transit.create_key("current", mount_point=mount)


def test_an_alias_needs_a_policy_that_grants_the_key(
    server: DevServer, api: Api, mount: str, token_with: TokenFactory
) -> None:
    for name in ("mine", "payroll"):
        api.ok("POST", f"{mount}/keys/{name}")
    token = token_with(
        f'path "{mount}/aliases/app" {{ capabilities = ["update"] }}\n'
        f'path "{mount}/aliases/to/mine" {{ capabilities = ["update"] }}\n'
        f'path "{mount}/decrypt/app" {{ capabilities = ["update"] }}'
    )
    with server.api(token) as app:
        assert app.post(f"{mount}/aliases/app", {"key": "payroll"}).status == 403
        assert app.post(f"{mount}/aliases/app", {"key": "nothing"}).status == 403
        assert app.post(f"{mount}/aliases/app", {"key": "mine"}).status == 200
        assert app.post(f"{mount}/aliases/other", {"key": "mine"}).status == 403
    api.ok("POST", f"{mount}/aliases/app", {"key": "payroll"})
    with server.api(token) as app:
        assert app.post(f"{mount}/aliases/app", {"key": "mine"}).status == 403  # not his to take away


def test_bao_lists_in_pages(bao: Bao, api: Api, mount: str) -> None:
    for n in range(5):
        api.ok("POST", f"{mount}/keys/k{n}")
        api.ok("POST", f"{mount}/aliases/a{n}", {"key": f"k{n}"})
    assert bao("list", "-format=json", f"{mount}/aliases").split('"')[1::2] == [f"a{n}" for n in range(5)]
    for folder, letter in (("keys", "k"), ("aliases", "a")):
        first = api.call("GET", f"{mount}/{folder}?list=true&limit=2").data["keys"]
        assert first == [f"{letter}0", f"{letter}1"]
        rest = api.call("GET", f"{mount}/{folder}?list=true&after={letter}1&limit=99").data["keys"]
        assert rest == [f"{letter}2", f"{letter}3", f"{letter}4"]
        assert api.call("GET", f"{mount}/{folder}?list=true&after={letter}4").status == 404
        assert len(api.call("GET", f"{mount}/{folder}?list=true&limit=-1").data["keys"]) == 5


def test_a_dry_run_is_decided_and_recorded_and_does_nothing(
    server: DevServer, api: Api, bao: Bao, mount: str, token_with: TokenFactory
) -> None:
    api.ok("POST", f"{mount}/keys/k")
    assert "dry_run" in bao("write", f"{mount}/encrypt/k", f"plaintext={P}", "dry_run=true")
    answer = api.post(f"{mount}/encrypt/fresh", {"plaintext": P, "dry_run": True})
    assert answer.data == {"dry_run": True}
    assert answer.headers["x-keystead-receipt"]
    assert api.get(f"{mount}/keys/fresh").status == 404
    assert api.call("DELETE", f"{mount}/keys/k?dry_run=true").status == 400  # deletion is not allowed
    token = token_with(f'path "{mount}/encrypt/k" {{ capabilities = ["update"] }}')
    with server.api(token) as app:
        assert app.post(f"{mount}/encrypt/k", {"plaintext": P, "dry_run": True}).status == 200
        assert app.post(f"{mount}/decrypt/k", {"ciphertext": "vault:v1:", "dry_run": True}).status == 403
        assert app.post(f"{mount}/encrypt/fresh", {"plaintext": P, "dry_run": True}).status == 403
