"""A real file through a data key, with the real clients; rotation of key and root leaves old data readable."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path

import hvac
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.harness.api import Api
from tests.harness.bao import Bao

NONCE = bytes(12)  # each data key is used once
Mount = Callable[[str], str]


def seal_file(plain: Path, sealed: Path, key: str) -> None:
    sealed.write_bytes(AESGCM(base64.b64decode(key)).encrypt(NONCE, plain.read_bytes(), None))


def open_file(sealed: Path, key: str) -> bytes:
    return AESGCM(base64.b64decode(key)).decrypt(NONCE, sealed.read_bytes(), None)


@pytest.mark.parametrize("protection", ["hsm", "software"])
def test_file_through_a_data_key(protection: str, bao: Bao, mount: Mount, tmp_path: Path) -> None:
    transit = mount("transit")
    bao("write", f"{transit}/keys/files", "type=aes256-gcm96", f"protection={protection}")
    plain, sealed = tmp_path / "report.pdf", tmp_path / "report.sealed"
    plain.write_bytes(os.urandom(1 << 20))

    data = bao.json("write", "-f", f"{transit}/datakey/plaintext/files")["data"]
    seal_file(plain, sealed, data["plaintext"])
    assert plain.read_bytes()[:64] not in sealed.read_bytes()

    again = bao.field("plaintext", "write", f"{transit}/decrypt/files", f"ciphertext={data['ciphertext']}")
    assert open_file(sealed, again) == plain.read_bytes()


def test_wrapped_data_key_keeps_its_plaintext(root: hvac.Client, mount: Mount) -> None:
    transit = mount("transit")
    root.secrets.transit.create_key("files", key_type="aes256-gcm96", mount_point=transit)
    data = root.secrets.transit.generate_data_key("files", key_type="wrapped", mount_point=transit)["data"]
    assert "plaintext" not in data
    opened = root.secrets.transit.decrypt_data("files", data["ciphertext"], mount_point=transit)
    assert len(base64.b64decode(opened["data"]["plaintext"])) == 32


@pytest.mark.parametrize("bits", [128, 256, 512])
def test_data_keys_have_the_size_asked_for(bits: int, api: Api, mount: Mount) -> None:
    transit = mount("transit")
    api.ok("POST", f"{transit}/keys/k", {})
    data = api.ok("POST", f"{transit}/datakey/plaintext/k", {"bits": bits})
    assert len(base64.b64decode(data["plaintext"])) * 8 == bits


@pytest.mark.parametrize("protection", ["hsm", "software"])
def test_rotation_of_the_key_leaves_old_ciphertext_readable(
    protection: str, root: hvac.Client, mount: Mount
) -> None:
    transit = mount("transit")
    root.write_data(f"{transit}/keys/files", data={"type": "aes256-gcm96", "protection": protection})
    message = base64.b64encode(b"written before the rotation").decode()
    old = root.secrets.transit.encrypt_data("files", message, mount_point=transit)["data"]["ciphertext"]
    assert old.startswith("vault:v1:")

    root.secrets.transit.rotate_key("files", mount_point=transit)
    new = root.secrets.transit.encrypt_data("files", message, mount_point=transit)["data"]["ciphertext"]
    assert new.startswith("vault:v2:")
    for ciphertext in (old, new):
        opened = root.secrets.transit.decrypt_data("files", ciphertext, mount_point=transit)
        assert opened["data"]["plaintext"] == message

    moved = root.secrets.transit.rewrap_data("files", old, mount_point=transit)["data"]["ciphertext"]
    assert moved.startswith("vault:v2:")
    root.secrets.transit.update_key_configuration("files", min_decryption_version=2, mount_point=transit)
    assert (
        root.secrets.transit.decrypt_data("files", moved, mount_point=transit)["data"]["plaintext"] == message
    )
    with pytest.raises(hvac.exceptions.InvalidRequest, match="too old"):
        root.secrets.transit.decrypt_data("files", old, mount_point=transit)


def test_one_flipped_byte_of_the_file_or_the_key_is_refused(api: Api, mount: Mount, tmp_path: Path) -> None:
    transit = mount("transit")
    api.ok("POST", f"{transit}/keys/files", {})
    data = api.ok("POST", f"{transit}/datakey/plaintext/files", {})
    plain, sealed = tmp_path / "plain", tmp_path / "sealed"
    plain.write_bytes(b"contract")
    seal_file(plain, sealed, data["plaintext"])
    damaged = bytearray(sealed.read_bytes())
    damaged[0] ^= 1
    sealed.write_bytes(damaged)
    with pytest.raises(InvalidTag):
        open_file(sealed, data["plaintext"])

    raw = bytearray(base64.b64decode(data["ciphertext"].rpartition(":")[2]))
    for position in (0, 12, len(raw) - 1):
        changed = bytearray(raw)
        changed[position] ^= 1
        ciphertext = "vault:v1:" + base64.b64encode(changed).decode()
        answer = api.post(f"{transit}/decrypt/files", {"ciphertext": ciphertext})
        assert answer.status == 400
        assert answer.errors
        assert data["plaintext"].encode() not in answer.content
