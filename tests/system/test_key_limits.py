"""What a mount and the operator demand of new keys, on real servers with real clients."""

from __future__ import annotations

import secrets
from base64 import b64encode
from pathlib import Path

import hvac
import pytest
from hvac.exceptions import InvalidRequest

from tests.harness.api import Api
from tests.harness.bao import Bao
from tests.harness.dev import ConfiguredServer

P = b64encode(b"card 4711").decode()


def test_a_mount_takes_only_what_it_allows(api: Api, bao: Bao, root: hvac.Client) -> None:
    mount = f"limits-{secrets.token_hex(4)}"
    api.ok("POST", f"sys/mounts/{mount}", {"type": "transit"})
    bao("write", f"{mount}/config/keys", "allowed_types=aes256-gcm96,ecdsa-p384", "protection=hsm")
    transit = root.secrets.transit
    with pytest.raises(InvalidRequest, match="does not take keys of type rsa-2048"):
        transit.create_key("k", key_type="rsa-2048", mount_point=mount)
    assert "demands protection hsm" in bao.run("write", f"{mount}/keys/k", "protection=software").stderr
    with pytest.raises(InvalidRequest, match="demands protection hsm"):
        transit.encrypt_data("fresh", plaintext=P, mount_point=mount)  # would make a software key
    transit.create_key("k", mount_point=mount)
    assert transit.read_key("k", mount_point=mount)["data"]["protection"] == "hsm"
    transit.encrypt_data("k", plaintext=P, mount_point=mount)


def test_what_the_operator_demands_no_token_can_lift(tmp_path: Path) -> None:
    server = ConfiguredServer(tmp_path / "server", workers=2)
    server.prepare(lambda text: f'{text}\n[keys]\nprotection = "hsm"\n')
    server.start()
    try:
        with server.api() as api:
            api.ok("POST", "sys/mounts/transit", {"type": "transit"})
            api.ok("POST", "transit/config/keys", {"protection": ""})
            for body in ({"protection": "software"}, {"type": "chacha20-poly1305"}, {"exportable": True}):
                assert api.post("transit/keys/k", body).status == 400
            assert api.ok("POST", "transit/keys/k", {})["protection"] == "hsm"
    finally:
        server.stop()
