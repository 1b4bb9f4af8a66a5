"""What policy denies does not happen: default deny, least rights, one spelling of a path."""

from __future__ import annotations

import base64
from collections.abc import Callable

import hvac
import pytest

from tests.conftest import TokenFactory
from tests.harness.api import Api
from tests.harness.bao import Bao
from tests.harness.dev import DevServer

Mount = Callable[[str], str]
PLAINTEXT = base64.b64encode(b"x").decode()


@pytest.fixture
def transit(api: Api, mount: Mount) -> str:
    path = mount("transit")
    for name in ("mine", "yours"):
        api.ok("POST", f"{path}/keys/{name}", {})
    return path


DENIED = {
    "another key": ("POST", "T/encrypt/yours", {"plaintext": PLAINTEXT}),
    "another operation": ("POST", "T/decrypt/mine", {"ciphertext": "vault:v1:" + "A" * 64}),
    "reading the key": ("GET", "T/keys/mine", None),
    "listing": ("LIST", "T/keys", None),
    "rotating": ("POST", "T/keys/mine/rotate", {}),
    "creating": ("POST", "T/keys/fresh", {}),
    "deleting": ("DELETE", "T/keys/mine", None),
    "another mount": ("POST", "nosuch/encrypt/mine", {"plaintext": PLAINTEXT}),
    "policies": ("POST", "sys/policies/acl/mine", {"policy": 'path "*" { capabilities = ["sudo"] }'}),
    "mounts": ("GET", "sys/mounts", None),
    "sealing": ("POST", "sys/seal", {}),
    "a stronger child": ("POST", "auth/token/create", {"policies": ["root"]}),
    "doubled slash": ("POST", "T//encrypt/mine", {"plaintext": PLAINTEXT}),
    "other letters": ("POST", "T/Encrypt/mine", {"plaintext": PLAINTEXT}),
    "dots": ("POST", "T/encrypt/mine/../yours", {"plaintext": PLAINTEXT}),
    "encoded dots": ("POST", "T/encrypt/mine/%2e%2e/yours", {"plaintext": PLAINTEXT}),
    "NUL": ("POST", "T/encrypt/mine%00", {"plaintext": PLAINTEXT}),
}


@pytest.mark.parametrize("name", DENIED)
def test_what_no_rule_allows_is_denied(name: str, transit: str, api: Api, token_with: TokenFactory) -> None:
    verb, path, body = DENIED[name]
    weak = api.as_token(token_with(f'path "{transit}/encrypt/mine" {{ capabilities = ["update"] }}'))
    with weak:
        assert weak.post(f"{transit}/encrypt/mine", {"plaintext": PLAINTEXT}).status == 200
        before = api.list(f"{transit}/keys").data
        answer = weak.call(verb, path.replace("T", transit, 1), body)
        assert answer.status in {400, 403, 404, 307}, answer
        assert answer.status == 403 or name in {
            "doubled slash",
            "dots",
            "encoded dots",
            "NUL",
            "encoded slash",
        }
        assert b"ciphertext" not in answer.content
        assert api.list(f"{transit}/keys").data == before


def test_bao_says_permission_denied(
    transit: str, server: DevServer, bao: Bao, token_with: TokenFactory
) -> None:
    weak = bao.run("read", f"{transit}/keys/mine")
    assert weak.returncode == 0
    bao.environment["BAO_TOKEN"] = token_with(
        f'path "{transit}/encrypt/mine" {{ capabilities = ["update"] }}'
    )
    denied = bao.run("read", f"{transit}/keys/mine")
    assert denied.returncode == 2
    assert "permission denied" in denied.stderr
    assert server.token not in denied.stderr


def test_hvac_raises_forbidden(transit: str, server: DevServer, token_with: TokenFactory) -> None:
    token = token_with(f'path "{transit}/encrypt/mine" {{ capabilities = ["update"] }}')
    client = hvac.Client(url=server.address, token=token)
    with pytest.raises(hvac.exceptions.Forbidden):
        client.secrets.transit.rotate_key("mine", mount_point=transit)
    client.adapter.close()


def test_deny_beats_a_wider_grant(transit: str, api: Api, token_with: TokenFactory) -> None:
    policy = f"""
        path "{transit}/encrypt/*" {{ capabilities = ["update"] }}
        path "{transit}/encrypt/yours" {{ capabilities = ["deny"] }}
    """
    with api.as_token(token_with(policy)) as weak:
        assert weak.post(f"{transit}/encrypt/mine", {"plaintext": PLAINTEXT}).status == 200
        assert weak.post(f"{transit}/encrypt/yours", {"plaintext": PLAINTEXT}).status == 403


def test_changed_policy_holds_at_once(transit: str, api: Api, token_with: TokenFactory) -> None:
    token = token_with(f'path "{transit}/encrypt/mine" {{ capabilities = ["update"] }}')
    with api.as_token(token) as weak:
        policies = weak.ok("GET", "auth/token/lookup-self")["policies"]
        name = next(name for name in policies if name != "default")
        for _ in range(20):
            text = f'path "{transit}/encrypt/mine" {{ capabilities = ["deny"] }}'
            api.ok("POST", f"sys/policies/acl/{name}", {"policy": text})
            assert weak.post(f"{transit}/encrypt/mine", {"plaintext": PLAINTEXT}).status == 403
            text = f'path "{transit}/encrypt/mine" {{ capabilities = ["update"] }}'
            api.ok("POST", f"sys/policies/acl/{name}", {"policy": text})
            assert weak.post(f"{transit}/encrypt/mine", {"plaintext": PLAINTEXT}).status == 200
