"""CMAC: lengths, versions, batches, and what else its keys can do (nothing but HMAC)."""

from __future__ import annotations

from typing import Any

import pytest

from kms.errors import ErrorKind, KmsError
from tests.keys.rig import Rig

P = "aGVsbG8="
TYPES = ["aes128-cmac", "aes192-cmac", "aes256-cmac"]


def refused(rig: Rig, operation: str, **args: Any) -> str:
    with pytest.raises(KmsError) as caught:
        rig.run(operation, **args)
    assert caught.value.kind is ErrorKind.INVALID
    return caught.value.detail


@pytest.mark.parametrize("protection", ["software", "hsm"])
@pytest.mark.parametrize("type_", TYPES)
def test_what_was_maced_verifies(hsm_rig: Rig, type_: str, protection: str) -> None:
    hsm_rig.create("k", type_, protection=protection)
    made = hsm_rig.run("cmac", name="k", input=P)["cmac"]
    assert made == hsm_rig.run("cmac", name="k", input=P)["cmac"]
    assert hsm_rig.run("verify", name="k", input=P, cmac=made) == {"valid": True}
    assert hsm_rig.run("verify", name="k", input="", cmac=made) == {"valid": False}
    hsm_rig.run("keys.rotate", name="k")
    assert hsm_rig.run("verify", name="k", input=P, cmac=made) == {"valid": True}
    assert hsm_rig.run("cmac", name="k", input=P)["cmac"].startswith("vault:v2:")
    assert hsm_rig.run("cmac", name="k", input=P, key_version=1)["cmac"] == made


def test_a_shorter_tag_is_valid_only_where_it_is_asked_for(rig: Rig) -> None:
    rig.create("k", TYPES[0])
    short = rig.run("cmac", name="k", input=P, mac_length=8)["cmac"]
    assert rig.run("cmac", name="k", input=P, urlmaclength="8")["cmac"] == short
    assert rig.run("verify", name="k", input=P, cmac=short) == {"valid": False}
    assert rig.run("verify", name="k", input=P, cmac=short, mac_length=8) == {"valid": True}


def test_a_batch_tells_each_item(rig: Rig) -> None:
    rig.create("k", TYPES[2])
    items = [{"input": P, "reference": "r"}, {"input": "!!"}, {}]
    done = rig.run("cmac", name="k", batch_input=items)["batch_results"]
    assert done[0]["reference"] == "r"
    assert "unable to decode input" in done[1]["error"]
    assert done[2]["error"] == "missing input for CMAC"
    checked = rig.run("verify", name="k", batch_input=[{"input": P, "cmac": done[0]["cmac"]}])
    assert checked["batch_results"] == [{"valid": True, "reference": ""}]


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("cmac", {"name": "k"}, "missing input for CMAC"),
    ("cmac", {"name": "k", "input": P, "mac_length": 7}, "mac_length is 8 to 16 bytes"),
    ("cmac", {"name": "k", "input": P, "mac_length": 17}, "mac_length is 8 to 16 bytes"),
    ("cmac", {"name": "k", "input": P, "urlmaclength": "x"}, "mac_length is 8 to 16 bytes"),
    ("cmac", {"name": "aes", "input": P}, "key type aes256-gcm96 does not support CMAC"),
    ("verify", {"name": "aes", "input": P, "cmac": "vault:v1:YQ=="}, "does not support CMAC"),
    ("verify", {"name": "k", "input": P, "cmac": "x"}, "invalid CMAC to verify: no prefix"),
    ("verify", {"name": "k", "input": P, "cmac": "vault:v1:!!"}, "unable to decode verification CMAC"),
    ("verify", {"name": "k", "input": P, "cmac": "vault:v2:YQ=="}, "invalid CMAC: version is too new"),
    ("encrypt", {"name": "k", "plaintext": P}, "message encryption not supported"),
    ("decrypt", {"name": "k", "ciphertext": "vault:v1:YQ=="}, "message decryption not supported"),
    ("sign", {"name": "k", "input": P}, "does not support signing"),
    ("datakey", {"name": "k", "kind": "wrapped"}, "message encryption not supported"),
]


@pytest.mark.parametrize(("operation", "args", "text"), REFUSED)
def test_what_is_refused(rig: Rig, operation: str, args: dict[str, Any], text: str) -> None:
    rig.create("k", TYPES[0])
    rig.create("aes")
    assert text in refused(rig, operation, **args)
