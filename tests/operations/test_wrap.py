"""Wrapping callers' keys (RFC 3394, RFC 5649), and ML-KEM: formats, refusals, versions, export."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any

import pytest
from cryptography.hazmat.primitives import keywrap
from cryptography.hazmat.primitives.asymmetric import mldsa, mlkem

from kms.errors import ErrorKind, KmsError
from tests.keys.rig import Rig

KWP = ["aes128-kwp", "aes192-kwp", "aes256-kwp"]
KEMS: list[tuple[str, Any, int]] = [
    ("mlkem-768", mlkem.MLKEM768PrivateKey, 1088),
    ("mlkem-1024", mlkem.MLKEM1024PrivateKey, 1568),
]


def b64(data: bytes) -> str:
    return b64encode(data).decode()


def refused(rig: Rig, operation: str, **args: Any) -> str:
    with pytest.raises(KmsError) as caught:
        rig.run(operation, **args)
    assert caught.value.kind is ErrorKind.INVALID
    return caught.value.detail


@pytest.mark.parametrize("type_", KWP)
@pytest.mark.parametrize("size", [1, 7, 8, 16, 24, 32, 33, 1000])
def test_what_was_wrapped_comes_back(rig: Rig, type_: str, size: int) -> None:
    rig.create("k", type_)
    target = b64(bytes(i % 251 for i in range(size)))
    made = rig.run("wrap", name="k", plaintext=target)
    assert made["key_version"] == 1
    rig.run("keys.rotate", name="k")
    assert rig.run("unwrap", name="k", ciphertext=made["ciphertext"]) == {"plaintext": target}


@pytest.mark.parametrize("padded", [True, False])
def test_the_bytes_are_those_of_the_standard(rig: Rig, padded: bool) -> None:
    rig.create("k", "aes256-kwp", exportable=True)
    raw = b64decode(rig.run("export", name="k", kind="wrapping-key")["keys"]["1"])
    made = rig.run("wrap", name="k", plaintext=b64(bytes(32)), padding=padded)["ciphertext"]
    wrap = keywrap.aes_key_wrap_with_padding if padded else keywrap.aes_key_wrap
    assert made == f"vault:v1:{b64(wrap(raw, bytes(32)))}"
    assert rig.run("unwrap", name="k", ciphertext=made, padding=padded) == {"plaintext": b64(bytes(32))}


def test_everything_wrong_with_a_wrapped_key_has_one_answer(rig: Rig) -> None:
    rig.create("k", "aes128-kwp")
    rig.create("l", "aes128-kwp")
    made = rig.run("wrap", name="k", plaintext=b64(bytes(20)))["ciphertext"]
    raw = b64decode(made.split(":")[2])
    flipped = [raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :] for at in range(len(raw))]
    texts = {
        refused(rig, "unwrap", name="k", ciphertext=f"vault:v1:{b64(each)}")
        for each in [*flipped, raw[:-8], raw[:-1], raw + bytes(8), b"", b"x"]
    }
    texts |= {
        refused(rig, "unwrap", name="k", ciphertext=made, padding=False),
        refused(rig, "unwrap", name="l", ciphertext=made),
    }
    assert len(texts) == 1
    assert "does not open" in texts.pop()


def test_a_batch_tells_each_item(rig: Rig) -> None:
    rig.create("k", "aes256-kwp")
    items = [{"plaintext": b64(bytes(32)), "reference": "r"}, {"plaintext": "!!"}, {}]
    done = rig.run("wrap", name="k", batch_input=items)["batch_results"]
    assert [("error" in each, each["reference"]) for each in done] == [(False, "r"), (True, ""), (True, "")]
    back = rig.run(
        "unwrap", name="k", batch_input=[{"ciphertext": done[0]["ciphertext"]}, {"ciphertext": "x"}]
    )
    assert back["batch_results"][0]["plaintext"] == b64(bytes(32))
    assert "no prefix" in back["batch_results"][1]["error"]


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("wrap", {"name": "none", "plaintext": "YQ=="}, "encryption key not found"),
    ("wrap", {"name": "k"}, "missing plaintext to wrap"),
    ("wrap", {"name": "k", "plaintext": "!!"}, "illegal base64"),
    ("wrap", {"name": "k", "plaintext": b64(bytes(65_537))}, "1 to 65536 bytes"),
    ("wrap", {"name": "k", "plaintext": b64(bytes(8)), "padding": False}, "RFC 3394"),
    ("wrap", {"name": "k", "plaintext": b64(bytes(20)), "padding": False}, "RFC 3394"),
    ("wrap", {"name": "k", "plaintext": "YQ==", "key_version": 2}, "higher than the latest"),
    ("wrap", {"name": "aes", "plaintext": "YQ=="}, "does not wrap keys"),
    ("unwrap", {"name": "aes", "ciphertext": "vault:v1:YQ=="}, "does not wrap keys"),
    ("unwrap", {"name": "k"}, "missing ciphertext to unwrap"),
    ("unwrap", {"name": "k", "ciphertext": "vault:v1:!!"}, "could not decode base64"),
    ("unwrap", {"name": "k", "ciphertext": "vault:v2:YQ=="}, "version is too new"),
    ("encrypt", {"name": "k", "plaintext": "YQ=="}, "message encryption not supported"),
    ("decrypt", {"name": "k", "ciphertext": "vault:v1:YQ=="}, "message decryption not supported"),
    ("datakey", {"name": "k", "kind": "wrapped"}, "message encryption not supported"),
    ("encapsulate", {"name": "aes"}, "does not encapsulate"),
    ("decapsulate", {"name": "kem"}, "missing ciphertext to decapsulate"),
    ("decapsulate", {"name": "kem", "ciphertext": "vault:v1:YQ=="}, "another length"),
    ("encrypt", {"name": "kem", "plaintext": "YQ=="}, "message encryption not supported"),
    ("sign", {"name": "kem", "input": "YQ=="}, "does not support signing"),
    ("keys.create", {"name": "x", "type": "aes256-kwp", "protection": "hsm"}, "cannot have protection hsm"),
    ("keys.create", {"name": "x", "type": "mlkem-768", "protection": "hsm"}, "cannot have protection hsm"),
    ("keys.create", {"name": "x", "type": "mldsa-65", "protection": "hsm"}, "cannot have protection hsm"),
    ("keys.create", {"name": "x", "type": "ml-dsa", "parameter_set": "9"}, "unknown key type mldsa-9"),
]


@pytest.mark.parametrize(("operation", "args", "text"), REFUSED)
def test_what_is_refused(rig: Rig, operation: str, args: dict[str, Any], text: str) -> None:
    rig.create("k", "aes128-kwp")
    rig.create("aes")
    rig.create("kem", "mlkem-768")
    assert text in refused(rig, operation, **args)


@pytest.mark.parametrize(("type_", "private", "size"), KEMS)
def test_both_sides_find_one_secret(rig: Rig, type_: str, private: Any, size: int) -> None:
    rig.create("k", type_, exportable=True, allow_plaintext_backup=True)
    made = rig.run("encapsulate", name="k")
    ciphertext = b64decode(made["ciphertext"].split(":")[2])
    assert (len(ciphertext), len(b64decode(made["shared_secret"]))) == (size, 32)
    found = rig.run("decapsulate", name="k", ciphertext=made["ciphertext"])
    assert found["shared_secret"] == made["shared_secret"]
    seed = b64decode(rig.run("export", name="k", kind="decapsulation-key")["keys"]["1"])
    assert b64(private.from_seed_bytes(seed).decapsulate(ciphertext)) == made["shared_secret"]
    forged = f"vault:v1:{b64(ciphertext[:-1] + bytes([ciphertext[-1] ^ 1]))}"
    assert rig.run("decapsulate", name="k", ciphertext=forged)["shared_secret"] != made["shared_secret"]
    rig.run("keys.rotate", name="k")
    assert rig.run("encapsulate", name="k")["key_version"] == 2
    backup = rig.run("backup", name="k")["backup"]
    rig.result("restore", name="again", backup=backup)
    assert (
        rig.run("decapsulate", name="again", ciphertext=made["ciphertext"])["shared_secret"]
        == (made["shared_secret"])
    )


@pytest.mark.parametrize("type_", [*KWP, "aes192-cmac"])
def test_what_the_others_have_no_word_for_is_backed_up_too(rig: Rig, type_: str) -> None:
    rig.create("k", type_, exportable=True, allow_plaintext_backup=True)
    rig.result("restore", name="again", backup=rig.run("backup", name="k")["backup"])
    assert rig.run("keys.read", name="again")["type"] == type_


@pytest.mark.parametrize(
    ("level", "public"), [("44", mldsa.MLDSA44PublicKey), ("65", mldsa.MLDSA65PublicKey)]
)
def test_an_ml_dsa_signature_is_pure_and_without_context(rig: Rig, level: str, public: Any) -> None:
    data = rig.create("k", "ml-dsa", parameter_set=level)
    assert data["type"] == f"mldsa-{level}"
    signature = rig.run("sign", name="k", input=b64(b"hello"))["signature"]
    key = public.from_public_bytes(b64decode(data["keys"]["1"]["public_key"]))
    key.verify(b64decode(signature.split(":")[2]), b"hello")
    assert rig.run("verify", name="k", input=b64(b"hello"), signature=signature) == {"valid": True}
    assert rig.run("verify", name="k", input=b64(b"hullo"), signature=signature) == {"valid": False}
