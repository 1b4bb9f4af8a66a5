"""Signatures of HSM keys, made through the real clients and checked by OpenSSL."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.api import Api
from tests.harness.bao import Bao

Mount = Callable[[str], str]
DOCUMENT = b"the quick brown fox\n"


def openssl_verify(public: Path, signature: Path, document: Path, *options: str) -> bool:
    command: list[str | Path] = ["openssl", "dgst", "-sha256", "-verify", public, "-signature", signature]
    return subprocess.run([*command, *options, document], capture_output=True, check=False).returncode == 0


SIGNERS = {
    "ecdsa-p256": ({}, []),
    "ecdsa-p384": ({"hash_algorithm": "sha2-256"}, []),
    "rsa-2048": ({"signature_algorithm": "pkcs1v15"}, []),
    "rsa-4096": ({"signature_algorithm": "pss", "salt_length": "hash"}, ["pss", "32"]),
}


@pytest.mark.parametrize("kind", SIGNERS)
def test_openssl_accepts_the_signature(kind: str, bao: Bao, mount: Mount, tmp_path: Path) -> None:
    transit = mount("transit")
    options, padding = SIGNERS[kind]
    bao("write", f"{transit}/keys/signer", f"type={kind}", "protection=hsm")
    key = bao.json("read", f"{transit}/keys/signer")["data"]
    public, signature, document = tmp_path / "public.pem", tmp_path / "signature", tmp_path / "document"
    public.write_text(key["keys"]["1"]["public_key"])
    document.write_bytes(DOCUMENT)

    given = [f"{name}={value}" for name, value in options.items()]
    text = bao.field(
        "signature", "write", f"{transit}/sign/signer", f"input={base64.b64encode(DOCUMENT).decode()}", *given
    )
    assert text.startswith("vault:v1:")
    signature.write_bytes(base64.b64decode(text.removeprefix("vault:v1:")))

    flags = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", f"rsa_pss_saltlen:{padding[1]}"] if padding else []
    assert openssl_verify(public, signature, document, *flags)
    document.write_bytes(DOCUMENT + b".")
    assert not openssl_verify(public, signature, document, *flags)


def test_openssl_accepts_an_ed25519_signature(api: Api, mount: Mount, tmp_path: Path) -> None:
    transit = mount("transit")
    api.ok("POST", f"{transit}/keys/signer", {"type": "ed25519"})
    raw = base64.b64decode(api.ok("GET", f"{transit}/keys/signer")["keys"]["1"]["public_key"])
    der = bytes.fromhex("302a300506032b6570032100") + raw
    public, signature, document = tmp_path / "public.der", tmp_path / "signature", tmp_path / "document"
    public.write_bytes(der)
    document.write_bytes(DOCUMENT)
    text = api.ok("POST", f"{transit}/sign/signer", {"input": base64.b64encode(DOCUMENT).decode()})[
        "signature"
    ]
    signature.write_bytes(base64.b64decode(text.removeprefix("vault:v1:")))
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", str(public), "-rawin"]
    done = subprocess.run(
        [*command, "-sigfile", signature, "-in", document], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_our_verify_agrees(api: Api, mount: Mount) -> None:
    transit = mount("transit")
    api.ok("POST", f"{transit}/keys/signer", {"type": "ecdsa-p256"})
    text = base64.b64encode(DOCUMENT).decode()
    signature = api.ok("POST", f"{transit}/sign/signer", {"input": text})["signature"]
    assert (
        api.ok("POST", f"{transit}/verify/signer", {"input": text, "signature": signature})["valid"] is True
    )
    other = base64.b64encode(b"another document").decode()
    assert (
        api.ok("POST", f"{transit}/verify/signer", {"input": other, "signature": signature})["valid"] is False
    )


@pytest.mark.parametrize("protection", ["hsm", "software"])
def test_private_keys_are_in_no_answer(protection: str, api: Api, mount: Mount) -> None:
    transit = mount("transit")
    for kind in ("ecdsa-p256", "ed25519", "rsa-2048", "aes256-gcm96"):
        made = api.post(f"{transit}/keys/{kind}", {"type": kind, "protection": protection})
        read = api.get(f"{transit}/keys/{kind}")
        for answer in (made, read):
            assert answer.status == 200
            assert b"PRIVATE" not in answer.content
        if "keys" in read.data and kind == "aes256-gcm96":
            assert all(isinstance(value, int) for value in read.data["keys"].values())
