"""Derived keys and convergent encryption: one key per context, and nothing in between."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from kms.errors import ErrorKind, KmsError
from tests.keys.rig import Rig

P = "aGVsbG8="
A, B = (b64encode(name).decode() for name in (b"a", b"b"))
TYPES = ["aes128-gcm96", "aes256-gcm96", "chacha20-poly1305", "xchacha20-poly1305"]


def refused(rig: Rig, operation: str, **args: Any) -> str:
    with pytest.raises(KmsError) as caught:
        rig.run(operation, **args)
    assert caught.value.kind is ErrorKind.INVALID
    return caught.value.detail


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("convergent", [False, True])
def test_a_context_opens_only_what_it_closed(rig: Rig, type_: str, convergent: bool) -> None:
    rig.create("k", type_, derived=True, convergent_encryption=convergent)
    sealed = rig.run("encrypt", name="k", plaintext=P, context=A)["ciphertext"]
    assert rig.run("decrypt", name="k", ciphertext=sealed, context=A) == {"plaintext": P}
    assert "authentication failed" in refused(rig, "decrypt", name="k", ciphertext=sealed, context=B)
    for operation, args in (("encrypt", {"plaintext": P}), ("decrypt", {"ciphertext": sealed})):
        assert "missing 'context'" in refused(rig, operation, name="k", **args)
    again = rig.run("encrypt", name="k", plaintext=P, context=A)["ciphertext"]
    assert (again == sealed) is convergent
    rig.run("keys.rotate", name="k")
    newer = rig.run("rewrap", name="k", ciphertext=sealed, context=A)["ciphertext"]
    assert newer.startswith("vault:v2:")
    assert rig.run("decrypt", name="k", ciphertext=newer, context=A) == {"plaintext": P}
    assert rig.run("decrypt", name="k", ciphertext=sealed, context=A) == {"plaintext": P}


def test_a_convergent_ciphertext_depends_on_everything_that_it_should(rig: Rig) -> None:
    for name in ("k", "l"):
        rig.create(name, derived=True, convergent_encryption=True)
    rig.run("keys.rotate", name="k")
    requests: list[dict[str, Any]] = [
        {"name": "k", "plaintext": P, "context": A},
        {"name": "k", "plaintext": P, "context": B},
        {"name": "k", "plaintext": P, "context": A, "key_version": 1},
        {"name": "k", "plaintext": "", "context": A},
        {"name": "k", "plaintext": P, "context": A, "associated_data": A},
        {"name": "l", "plaintext": P, "context": A},
    ]
    first = [rig.run("encrypt", **request)["ciphertext"] for request in requests]
    assert len(set(first)) == len(first)
    assert [rig.run("encrypt", **request)["ciphertext"] for request in requests] == first


def test_items_of_a_batch_have_their_own_contexts(rig: Rig) -> None:
    rig.create("k", derived=True)
    items = [{"plaintext": P, "context": context} for context in (A, B, A)]
    sealed = rig.run("encrypt", name="k", batch_input=items)["batch_results"]
    opened = rig.run(
        "decrypt",
        name="k",
        batch_input=[
            {"ciphertext": each["ciphertext"], "context": context}
            for each, context in zip(sealed, (A, B, B), strict=True)
        ],
    )["batch_results"]
    assert [each.get("plaintext") for each in opened] == [P, P, ""]
    assert "authentication failed" in opened[2]["error"]
    moved = rig.run(
        "rewrap",
        name="k",
        batch_input=[{"ciphertext": sealed[1]["ciphertext"], "context": context} for context in (A, B)],
    )["batch_results"]
    assert "error" in moved[0]
    assert "error" not in moved[1]


def test_a_derived_data_key_opens_in_its_context(rig: Rig) -> None:
    rig.create("k", derived=True)
    data = rig.run("datakey", name="k", kind="plaintext", context=A)
    assert rig.run("decrypt", name="k", ciphertext=data["ciphertext"], context=A) == {
        "plaintext": data["plaintext"]
    }
    assert "authentication" in refused(rig, "decrypt", name="k", ciphertext=data["ciphertext"], context=B)


def test_a_context_of_a_signing_key_has_a_public_key_of_its_own(rig: Rig) -> None:
    rig.create("k", "ed25519", derived=True)
    made = rig.run("sign", name="k", input=P, context=A)
    assert rig.run("keys.read", name="k", context=A)["keys"]["1"]["public_key"] == made["public_key"]
    assert rig.run("keys.read", name="k")["keys"]["1"]["public_key"] == ""
    for context, valid in ((A, True), (B, False)):
        answer = rig.run("verify", name="k", input=P, signature=made["signature"], context=context)
        assert answer == {"valid": valid}
    assert "missing 'context'" in refused(rig, "sign", name="k", input=P)
    assert rig.run("sign", name="k", input=P, context=B)["public_key"] != made["public_key"]


def test_encrypting_with_a_context_makes_a_derived_key(rig: Rig) -> None:
    for name, convergent in (("k", False), ("c", True)):
        rig.run("encrypt", name=name, plaintext=P, context=A, convergent_encryption=convergent)
        data = rig.run("keys.read", name=name)
        assert (data["derived"], data["convergent_encryption"]) == (True, convergent)
    rig.run("encrypt", name="b", batch_input=[{"plaintext": P, "context": A}])
    assert rig.run("keys.read", name="b")["derived"]


def test_uses_of_contexts_are_counted(rig: Rig) -> None:
    rig.create("k", derived=True)
    rig.run("encrypt", name="k", plaintext=P, context=A)
    live = rig.service.get("mount-1", "k")
    assert live is not None
    allowance = live.version(1).allowance
    assert allowance is not None
    left = allowance._left
    rig.run("encrypt", name="k", plaintext=P, context=A)
    rig.run("encrypt", name="k", plaintext=P, context=B)
    assert allowance._left == left - 2
