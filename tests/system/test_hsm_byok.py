"""A caller's key goes into the HSM over HTTP, wrapped by OpenSSL and the real bao; the answer is never 500 or 405."""

from __future__ import annotations

import os
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path

import hvac
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.harness.api import Api
from tests.harness.bao import Bao

P = b64encode(b"card 4711").decode()
TYPES = ("ecdsa-p256", "rsa-2048")


def openssl(folder: Path, *arguments: str) -> bytes:
    done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def parcel(folder: Path, bao: Bao, mount: str, target: bytes) -> str:
    """As an operator does it with OpenSSL: an AES key in RSA-OAEP, and the target in AES-KWP under it."""
    public = bao.field("public_key", "read", f"{mount}/wrapping_key", "protection=hsm")
    (folder / "wrapping.pem").write_text(public + "\n")
    ephemeral = os.urandom(32)
    (folder / "ephemeral").write_bytes(ephemeral)
    (folder / "target").write_bytes(target)
    how = ("-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha1")
    block = openssl(
        folder, "pkeyutl", "-encrypt", "-pubin", "-inkey", "wrapping.pem", *how, "-in", "ephemeral"
    )
    kwp = ("-id-aes256-wrap-pad", "-K", ephemeral.hex(), "-iv", "A65959A6", "-in", "target")
    return b64encode(block + openssl(folder, "enc", *kwp)).decode()


def test_an_aes_key(tmp_path: Path, bao: Bao, root: hvac.Client, mount: Callable[[str], str]) -> None:
    at = mount("transit")
    key = os.urandom(32)
    sent = parcel(tmp_path, bao, at, key)
    wrong = bao.run("write", f"{at}/keys/mine/import", f"ciphertext={sent}", "protection=hsm")
    assert "Code: 400" in wrong.stderr
    assert "CKM_RSA_PKCS_OAEP with SHA256" in wrong.stderr
    bao("write", f"{at}/keys/mine/import", f"ciphertext={sent}", "protection=hsm", "hash_function=SHA1")
    shown = root.secrets.transit.read_key("mine", mount_point=at)["data"]
    assert (shown["protection"], shown["imported_key"]) == ("hsm", True)
    sealed = root.secrets.transit.encrypt_data("mine", plaintext=P, mount_point=at)["data"]["ciphertext"]
    raw = b64decode(sealed.split(":")[2])
    assert AESGCM(key).decrypt(raw[:12], raw[12:], None) == b"card 4711"


@pytest.mark.parametrize("type_", TYPES)
def test_a_pair_of_openssl_signs_in_the_hsm(
    tmp_path: Path, bao: Bao, mount: Callable[[str], str], type_: str
) -> None:
    at = mount("transit")
    make = ("EC", "ec_paramgen_curve:P-256") if type_ == "ecdsa-p256" else ("RSA", "rsa_keygen_bits:2048")
    options = ("-algorithm", make[0], "-pkeyopt", make[1], "-out", "key.pem")
    openssl(tmp_path, "genpkey", *options)
    target = openssl(tmp_path, "pkcs8", "-topk8", "-nocrypt", "-in", "key.pem", "-outform", "DER")
    sent = parcel(tmp_path, bao, at, target)
    arguments = (f"ciphertext={sent}", "protection=hsm", "hash_function=SHA1", f"type={type_}")
    bao("write", f"{at}/keys/pair/import", *arguments)
    signature = bao.field(
        "signature",
        "write",
        f"{at}/sign/pair",
        f"input={b64encode(b'message').decode()}",
        "signature_algorithm=pkcs1v15",
    )
    (tmp_path / "signature").write_bytes(b64decode(signature.split(":")[2]))
    (tmp_path / "message").write_bytes(b"message")
    checked = ("-sha256", "-prverify", "key.pem", "-signature", "signature", "message")
    assert b"Verified OK" in openssl(tmp_path, "dgst", *checked)


LACKING = [
    (
        "keys/k",
        {"type": "rsa-2048", "protection": "hsm", "purpose": "decrypt"},
        "CKM_RSA_PKCS_OAEP with SHA256",
    ),
    ("keys/k", {"type": "mldsa-65", "protection": "hsm"}, "cannot have protection hsm"),
    ("keys/k", {"type": "xchacha20-poly1305", "protection": "hsm"}, "cannot have protection hsm"),
]


@pytest.mark.parametrize(("path", "body", "text"), LACKING)
def test_what_the_token_lacks_is_a_400_that_names_it(
    api: Api, mount: Callable[[str], str], path: str, body: dict[str, str], text: str
) -> None:
    answer = api.post(f"{mount('transit')}/{path}", body)
    assert answer.status == 400
    assert text in answer.errors[0]


def test_a_hash_that_the_token_has_no_hmac_for(api: Api, mount: Callable[[str], str]) -> None:
    """SoftHSM 2.6.1 has no CKM_SHA3_256_HMAC."""
    at = mount("transit")
    api.ok("POST", f"{at}/keys/mac", {"type": "hmac", "protection": "hsm"})
    answer = api.post(f"{at}/hmac/mac/sha3-256", {"input": P})
    assert answer.status == 400
    assert "CKM_SHA3_256_HMAC" in answer.errors[0]


def test_rsa_decryption_and_ecdh_in_the_hsm(api: Api, bao: Bao, mount: Callable[[str], str]) -> None:
    at = mount("transit")
    bao("write", f"{at}/keys/d", "type=rsa-2048", "protection=hsm", "purpose=decrypt", "hash_function=SHA1")
    sealed = bao.field("ciphertext", "write", f"{at}/encrypt/d", f"plaintext={P}")
    assert bao.field("plaintext", "write", f"{at}/decrypt/d", f"ciphertext={sealed}") == P
    for name, protection in (("a", "hsm"), ("b", "software")):
        body = {"type": "ecdsa-p384", "protection": protection, "purpose": "derive"}
        api.ok("POST", f"{at}/keys/{name}", body)
    public = {name: api.ok("GET", f"{at}/keys/{name}")["keys"]["1"]["public_key"] for name in ("a", "b")}
    for name, base, peer in (("ab", "a", "b"), ("ba", "b", "a")):
        api.ok("POST", f"{at}/derive-key/{name}", {"base_key_name": base, "peer_public_key": public[peer]})
    sealed = api.ok("POST", f"{at}/encrypt/ab", {"plaintext": P})["ciphertext"]
    assert api.ok("POST", f"{at}/decrypt/ba", {"ciphertext": sealed})["plaintext"] == P
