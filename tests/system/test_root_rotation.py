"""Rotating the root of the HSM: nothing that a client stored changes, nothing it holds stops working."""

from __future__ import annotations

import base64
import subprocess

import pytest

from tests.conftest import ServerFactory
from tests.harness.api import Api
from tests.harness.bao import Bao
from tests.harness.dev import KEYSTEAD
from tests.harness.processes import wait_for

PLAINTEXT = base64.b64encode(b"older than the root").decode()


def rotate_by_api(bao: Bao) -> None:
    bao("write", "-f", "sys/hsm/root/rotate")


def rotate_by_command(bao: Bao) -> None:
    done = subprocess.run(
        [KEYSTEAD, "rotate-root"],
        env=bao.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def rotation(api: Api) -> dict[str, object]:
    return api.ok("GET", "sys/hsm/root/rotate")


@pytest.mark.parametrize("rotate", [rotate_by_api, rotate_by_command])
def test_old_ciphertext_and_signatures_outlive_the_root(rotate: object, fresh_server: ServerFactory) -> None:
    running = fresh_server(workers=2)
    with running.api() as api:
        bao = Bao(running.address, running.token, running.folder)
        api.ok("POST", "sys/mounts/transit", {"type": "transit"})
        api.ok("POST", "transit/keys/soft", {"type": "aes256-gcm96", "protection": "software"})
        api.ok("POST", "transit/keys/hard", {"type": "aes256-gcm96", "protection": "hsm"})
        api.ok("POST", "transit/keys/signer", {"type": "ecdsa-p256"})
        old = {
            name: api.ok("POST", f"transit/encrypt/{name}", {"plaintext": PLAINTEXT})
            for name in ("soft", "hard")
        }
        signature = api.ok("POST", "transit/sign/signer", {"input": PLAINTEXT})["signature"]
        public = api.ok("GET", "transit/keys/signer")["keys"]["1"]["public_key"]

        for _ in range(2):
            assert callable(rotate)
            rotate(bao)
            wait_for(lambda: rotation(api).get("state") == "complete", 30, "root rotation")

        assert rotation(api)["version"] == 3
        for name, data in old.items():
            opened = api.ok("POST", f"transit/decrypt/{name}", {"ciphertext": data["ciphertext"]})
            assert opened["plaintext"] == PLAINTEXT
        verified = api.ok("POST", "transit/verify/signer", {"input": PLAINTEXT, "signature": signature})
        assert verified["valid"] is True
        assert api.ok("GET", "transit/keys/signer")["keys"]["1"]["public_key"] == public
        api.ok("POST", "transit/keys/hard/rotate")
        assert api.ok("POST", "transit/encrypt/hard", {"plaintext": PLAINTEXT})["key_version"] == 2

    running.stop()
    running.start()
    with running.api() as api:
        for name, data in old.items():
            opened = api.ok("POST", f"transit/decrypt/{name}", {"ciphertext": data["ciphertext"]})
            assert opened["plaintext"] == PLAINTEXT


def test_rotation_needs_the_right(api: Api, token_with: object) -> None:
    assert callable(token_with)
    weak = api.as_token(token_with('path "transit/*" { capabilities = ["update"] }'))
    before = rotation(api)
    answer = weak.post("sys/hsm/root/rotate")
    weak.close()
    assert answer.status == 403
    assert answer.errors
    assert rotation(api) == before
