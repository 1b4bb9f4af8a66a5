"""hmac, random and hash."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from typing import Any

import pytest

from kms.errors import ErrorKind, KmsError
from kms.keys.model import SoftwareMaterial
from kms.keys.store import KEY_VERSIONS
from tests.keys.rig import Rig

MESSAGE = b"hello"
P = b64encode(MESSAGE).decode()
NAMES = {
    "sha1": "sha1",
    "sha2-224": "sha224",
    "sha2-256": "sha256",
    "sha2-384": "sha384",
    "sha2-512": "sha512",
    "sha3-224": "sha3_224",
    "sha3-256": "sha3_256",
    "sha3-384": "sha3_384",
    "sha3-512": "sha3_512",
}


def refused(rig: Rig, operation: str, **args: Any) -> str:
    with pytest.raises(KmsError) as caught:
        rig.run(operation, **args)
    assert caught.value.kind is ErrorKind.INVALID
    return caught.value.detail


UNDECODABLE = "unable to decode input as base64: illegal base64 data at input byte 0"
HMAC_REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"name": "none"}, "encryption key not found"),
    ({"input": None}, "missing input for HMAC"),
    ({"input": "!!"}, UNDECODABLE),
    ({"algorithm": "none"}, "algorithm cannot be none"),
    ({"urlalgorithm": "bogus"}, 'unsupported algorithm "bogus"'),
    ({"key_version": 9}, "key version does not exist; latest key version is 1"),
    ({"key_version": -1}, "key version does not exist (cannot be negative)"),
    ({"batch_input": []}, "missing batch input to process"),
]


@pytest.mark.parametrize(("args", "text"), HMAC_REFUSED)
def test_hmac_refuses(rig: Rig, args: dict[str, Any], text: str) -> None:
    rig.create("k")
    assert refused(rig, "hmac", **{"name": "k", "input": P, **args}) == text


@pytest.mark.parametrize("type_", ["aes256-gcm96", "hmac"])
def test_an_hmac_is_one_of_fips_198(rig: Rig, type_: str) -> None:
    rig.create("k", type_)
    [row] = rig.store.reader().scan(KEY_VERSIONS)
    material = row.value.mac or row.value.material
    assert isinstance(material, SoftwareMaterial)
    for ours, theirs in NAMES.items():
        text = rig.run("hmac", name="k", input=P, algorithm=ours)["hmac"]
        expected = hmac.digest(material.secret, MESSAGE, theirs)
        assert text == f"vault:v1:{b64encode(expected).decode()}"
        assert rig.run("verify", name="k", input=P, hmac=text, hash_algorithm=ours) == {"valid": True}


def test_the_mac_key_is_not_the_main_key(rig: Rig) -> None:
    rig.create("k")
    [row] = rig.store.reader().scan(KEY_VERSIONS)
    assert row.value.mac != row.value.material


@pytest.mark.parametrize("type_", ["aes256-gcm96", "hmac", "ecdsa-p256"])
def test_the_hsm_macs_too(hsm_rig: Rig, type_: str) -> None:
    hsm_rig.create("k", type_, protection="hsm")
    for name in ("sha2-224", "sha2-256", "sha2-384", "sha2-512"):
        text = hsm_rig.run("hmac", name="k", input=P, algorithm=name)["hmac"]
        assert len(b64decode(text.split(":")[2])) == hashlib.new(NAMES[name]).digest_size
        assert hsm_rig.run("verify", name="k", input=P, hmac=text, hash_algorithm=name) == {"valid": True}
        wrong = b64encode(b"other").decode()
        assert hsm_rig.run("verify", name="k", input=wrong, hmac=text, algorithm=name) == {"valid": False}
    assert refused(hsm_rig, "hmac", name="k", input=P, algorithm="sha1")


def test_an_hmac_batch_answers_item_by_item(rig: Rig) -> None:
    rig.create("k")
    one = rig.run("hmac", name="k", input=P)["hmac"]
    items = [{"input": P, "reference": "x"}, {"input": "!!"}, {}]
    assert rig.run("hmac", name="k", batch_input=items) == {
        "batch_results": [
            {"hmac": one, "reference": "x"},
            {"error": UNDECODABLE, "reference": ""},
            {"error": "missing input for HMAC", "reference": ""},
        ]
    }


def test_an_empty_input_has_an_hmac(rig: Rig) -> None:
    rig.create("k")
    assert rig.run("hmac", name="k", input="")["hmac"].startswith("vault:v1:")


RANDOM_REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"bytes": 0}, "'bytes' cannot be less than 1"),
    ({"bytes": -1}, "'bytes' cannot be less than 1"),
    ({"bytes": 131_073}, "'bytes' should be less than 131072"),
    ({"urlsource": "platform", "urlbytes": "0"}, "'bytes' cannot be less than 1"),
    ({"format": "x"}, 'unsupported encoding format "x"; must be "hex" or "base64"'),
    ({"source": "x"}, 'unsupported entropy source "x"; must be "platform" or "seal", or "all"'),
    (
        {"urlsource": "x", "urlbytes": "4"},
        'unsupported entropy source "x"; must be "platform" or "seal", or "all"',
    ),
    ({"urlsource": "x"}, 'error parsing url-set byte count: strconv.Atoi: parsing "x": invalid syntax'),
    (
        {"urlsource": "all", "urlbytes": "x"},
        'error parsing url-set byte count: strconv.Atoi: parsing "x": invalid syntax',
    ),
]


@pytest.mark.parametrize(("args", "text"), RANDOM_REFUSED)
def test_random_refuses(rig: Rig, args: dict[str, Any], text: str) -> None:
    assert refused(rig, "random", **args) == text


RANDOM: list[tuple[dict[str, Any], int]] = [
    ({}, 32),
    ({"bytes": 131_072}, 131_072),
    ({"urlsource": "16"}, 16),
    ({"urlsource": "seal"}, 32),
    ({"urlsource": "all", "urlbytes": "16"}, 16),
    ({"source": "all", "bytes": 5}, 5),
    ({"urlsource": "platform", "urlbytes": "7", "bytes": 9, "source": "seal"}, 7),
]


@pytest.mark.parametrize(("args", "size"), RANDOM)
def test_random_bytes_come_from_where_they_were_asked(hsm_rig: Rig, args: dict[str, Any], size: int) -> None:
    first, second = (hsm_rig.run("random", **args)["random_bytes"] for _ in range(2))
    assert len(b64decode(first)) == size
    assert first != second
    assert len(bytes.fromhex(hsm_rig.run("random", format="hex", **args)["random_bytes"])) == size


HASH_REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"input": None}, "input missing"),
    ({"input": "!!"}, UNDECODABLE),
    ({"format": "x"}, 'unsupported encoding format x; must be "hex" or "base64"'),
    ({"algorithm": "bogus"}, "unsupported algorithm bogus"),
    ({"urlalgorithm": "none"}, "unsupported algorithm none"),
    ({"urlalgorithm": "sha1"}, "unsupported algorithm sha1"),
]


@pytest.mark.parametrize(("args", "text"), HASH_REFUSED)
def test_hash_refuses(rig: Rig, args: dict[str, Any], text: str) -> None:
    assert refused(rig, "hash", **{"input": P, **args}) == text


@pytest.mark.parametrize(("ours", "theirs"), [pair for pair in NAMES.items() if pair[0] != "sha1"])
def test_a_hash_is_the_hash(rig: Rig, ours: str, theirs: str) -> None:
    digest = hashlib.new(theirs, MESSAGE).digest()
    assert rig.run("hash", input=P, urlalgorithm=ours) == {"sum": digest.hex()}
    assert rig.run("hash", input=P, algorithm=ours, format="base64") == {"sum": b64encode(digest).decode()}
