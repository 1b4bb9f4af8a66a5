"""encrypt, decrypt, rewrap and data keys: refusals first, then layouts, then batches."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kms.errors import ErrorKind, KmsError
from kms.keys.model import SoftwareMaterial
from kms.keys.store import KEY_VERSIONS, NAMED_KEYS
from kms.operation import Capability
from tests.keys.rig import Rig

P = b64encode(b"hello").decode()


def secret_of(rig: Rig, number: int = 1) -> bytes:
    [row] = [row for row in rig.store.reader().scan(KEY_VERSIONS) if row.value.version == number]
    assert isinstance(row.value.material, SoftwareMaterial)
    return row.value.material.secret


def refused(rig: Rig, operation: str, **args: Any) -> str:
    with pytest.raises(KmsError) as caught:
        rig.run(operation, **args)
    assert caught.value.kind is ErrorKind.INVALID
    return caught.value.detail


@pytest.fixture
def keyed(rig: Rig) -> Rig:
    """Keys: a (aes, 2 versions), c (chacha), r (rsa-2048), m (hmac)."""
    rig.create("a")
    rig.run("keys.rotate", name="a")
    rig.create("c", "chacha20-poly1305")
    rig.create("r", "rsa-2048")
    rig.create("m", "hmac")
    return rig


ENCRYPT_REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("a", {}, "missing plaintext to encrypt"),
    ("a", {"plaintext": "!!!"}, "illegal base64 data at input byte 0"),
    ("a", {"plaintext": P, "context": "!!"}, "illegal base64 data at input byte 0"),
    (
        "a",
        {"plaintext": P, "associated_data": "!!"},
        "unable to decode associated_data as base64: illegal base64 data at input byte 0",
    ),
    (
        "a",
        {"plaintext": P, "key_version": 5},
        "requested version for encryption is higher than the latest key version",
    ),
    ("a", {"plaintext": P, "key_version": -1}, "requested version for encryption is negative"),
    ("m", {"plaintext": P}, "message encryption not supported for key type hmac"),
    (
        "r",
        {"plaintext": P, "associated_data": P},
        "'associated_data' provided for non-AEAD cipher suite rsa-2048",
    ),
    (
        "r",
        {"plaintext": b64encode(bytes(191)).decode()},
        "the plaintext is too long for this RSA key: at most 190 bytes; use a data key",
    ),
    ("a", {"batch_input": []}, "missing batch input to process"),
    ("a", {"batch_input": ["x"]}, "failed to parse batch input: [0] expected a map"),
    (
        "a",
        {"batch_input": [{"plaintext": P}, {}]},
        "failed to parse batch input: '[1].plaintext' missing plaintext to encrypt",
    ),
    (
        "a",
        {"batch_input": [{"plaintext": 5}]},
        "failed to parse batch input: '[0].plaintext' expected type 'string'",
    ),
    (
        "a",
        {"batch_input": [{"plaintext": P, "key_version": "1"}]},
        "failed to parse batch input: '[0].key_version' expected type 'int'",
    ),
    (
        "a",
        {"batch_input": [{"plaintext": P, "key_version": True}]},
        "failed to parse batch input: '[0].key_version' expected type 'int'",
    ),
    (
        "a",
        {"batch_input": [{"plaintext": P, "reference": 5}]},
        "failed to parse batch input: '[0].reference' expected type 'string'",
    ),
    ("a", {"batch_input": [{"plaintext": P}] * 10_001}, "a batch holds at most 10000 items"),
]


@pytest.mark.parametrize(("name", "args", "text"), ENCRYPT_REFUSED)
def test_encrypt_refuses(keyed: Rig, name: str, args: dict[str, Any], text: str) -> None:
    assert refused(keyed, "encrypt", name=name, **args) == text


SHORT = b64encode(bytes(27)).decode()
DECRYPT_REFUSED: list[tuple[str, str, str]] = [
    ("a", "", "missing ciphertext to decrypt"),
    ("a", "x", "invalid ciphertext: no prefix"),
    ("a", "vault:v1", "invalid ciphertext: wrong number of fields"),
    ("a", "vault:v1:", "invalid ciphertext length"),
    ("a", "vault:v1:!!", "invalid ciphertext: could not decode base64"),
    ("a", f"vault:v1:{SHORT}", "cipher: message authentication failed"),
    ("a", f"vault:v1:{SHORT}:x", "invalid ciphertext: could not decode base64"),
    ("a", f"vault:v9:{SHORT}", "invalid ciphertext: version is too new"),
    ("a", f"vault:v-1:{SHORT}", "ciphertext or signature version is disallowed by policy (too old)"),
    ("m", f"vault:v1:{SHORT}", "message decryption not supported for key type hmac"),
    ("r", f"vault:v1:{SHORT}", "failed to RSA decrypt the ciphertext"),
    ("r", "vault:v1:", "failed to RSA decrypt the ciphertext"),
    ("none", f"vault:v1:{SHORT}", "encryption key not found"),
]


@pytest.mark.parametrize(("name", "ciphertext", "text"), DECRYPT_REFUSED)
def test_decrypt_refuses(keyed: Rig, name: str, ciphertext: str, text: str) -> None:
    assert refused(keyed, "decrypt", name=name, ciphertext=ciphertext) == text


def _flip(text: str, at: int) -> str:
    raw = bytearray(b64decode(text.split(":")[2]))
    raw[at] ^= 1
    return f"{text.rpartition(':')[0]}:{b64encode(bytes(raw)).decode()}"


@pytest.mark.parametrize("name", ["a", "c"])
def test_everything_that_does_not_authenticate_gets_one_answer(keyed: Rig, name: str) -> None:
    """T-05: the text must not say what was wrong."""
    sealed = keyed.run("encrypt", name=name, plaintext=P, associated_data=P)["ciphertext"]
    length = len(b64decode(sealed.split(":")[2]))
    bad = [
        *({"ciphertext": _flip(sealed, at), "associated_data": P} for at in range(length)),
        {"ciphertext": sealed},
        {"ciphertext": sealed, "associated_data": b64encode(b"other").decode()},
        {"ciphertext": _flip(sealed, 0)},
    ]
    if name == "a":
        bad.append({"ciphertext": sealed.replace("v2", "v1"), "associated_data": P})
    texts = {refused(keyed, "decrypt", name=name, **case) for case in bad}
    cipher = "cipher" if name == "a" else "chacha20poly1305"
    assert texts == {f"{cipher}: message authentication failed"}


CIPHERS: dict[str, type[AESGCM | ChaCha20Poly1305]] = {
    "aes256-gcm96": AESGCM,
    "chacha20-poly1305": ChaCha20Poly1305,
}


@pytest.mark.parametrize("type_", CIPHERS)
def test_the_layout_is_nonce_ciphertext_tag(rig: Rig, type_: str) -> None:
    rig.create("k", type_)
    aad = b64encode(b"where").decode()
    sealed = rig.run("encrypt", name="k", plaintext=P, associated_data=aad)
    assert sealed["key_version"] == 1
    prefix, version, payload = sealed["ciphertext"].split(":")
    assert (prefix, version) == ("vault", "v1")
    raw = b64decode(payload, validate=True)
    assert len(raw) == 12 + 5 + 16
    assert CIPHERS[type_](secret_of(rig)).decrypt(raw[:12], raw[12:], b"where") == b"hello"


@pytest.mark.parametrize("type_", CIPHERS)
def test_a_ciphertext_made_elsewhere_under_the_same_key_opens(rig: Rig, type_: str) -> None:
    rig.create("k", type_)
    raw = bytes(12) + CIPHERS[type_](secret_of(rig)).encrypt(bytes(12), b"hello", None)
    for version in ("v1", "v0"):  # v0 is what Vault before 0.3 wrote
        text = f"vault:{version}:{b64encode(raw).decode()}"
        assert rig.run("decrypt", name="k", ciphertext=text) == {"plaintext": P}


@pytest.mark.parametrize("protection", ["software", "hsm"])
def test_both_protections_speak_one_format(hsm_rig: Rig, protection: str) -> None:
    hsm_rig.create("k", protection=protection)
    for plaintext in ("", P, b64encode(bytes(5000)).decode()):
        sealed = hsm_rig.run("encrypt", name="k", plaintext=plaintext, associated_data=P)["ciphertext"]
        assert len(b64decode(sealed.split(":")[2])) == 28 + len(b64decode(plaintext))
        opened = hsm_rig.run("decrypt", name="k", ciphertext=sealed, associated_data=P)
        assert opened == {"plaintext": plaintext}
        for bad in (_flip(sealed, -1), _flip(sealed, 0)):
            text = refused(hsm_rig, "decrypt", name="k", ciphertext=bad, associated_data=P)
            assert text == "cipher: message authentication failed"
        assert "authentication failed" in refused(hsm_rig, "decrypt", name="k", ciphertext=sealed)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=40))
def test_what_was_encrypted_decrypts(keyed: Rig, plaintext: bytes, aad: bytes) -> None:
    given_ = {"associated_data": b64encode(aad).decode()}
    sealed = keyed.run("encrypt", name="a", plaintext=b64encode(plaintext).decode(), **given_)
    opened = keyed.run("decrypt", name="a", ciphertext=sealed["ciphertext"], **given_)
    assert b64decode(opened["plaintext"]) == plaintext


def test_nonces_do_not_repeat(keyed: Rig) -> None:
    seen = set()
    for _ in range(20):
        data = keyed.run("encrypt", name="a", batch_input=[{"plaintext": P}] * 50)
        for item in data["batch_results"]:
            seen.add(b64decode(item["ciphertext"].split(":")[2])[:12])
    assert len(seen) == 1000


def test_rsa_is_oaep_sha256(keyed: Rig) -> None:
    sealed = keyed.run("encrypt", name="r", plaintext=P)["ciphertext"]
    assert len(b64decode(sealed.split(":")[2])) == 256
    assert keyed.run("decrypt", name="r", ciphertext=sealed) == {"plaintext": P}


def test_an_rsa_key_of_the_hsm_only_signs(hsm_rig: Rig) -> None:
    data = hsm_rig.create("k", "rsa-2048", protection="hsm")
    assert (data["supports_encryption"], data["supports_decryption"], data["supports_signing"]) == (
        False,
        False,
        True,
    )
    assert "with protection hsm" in refused(hsm_rig, "encrypt", name="k", plaintext=P)
    assert "with protection hsm" in refused(hsm_rig, "decrypt", name="k", ciphertext=f"vault:v1:{SHORT}")


# -- creating by encrypting --------------------------------------------------------------------------

UPSERT_REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"plaintext": P, "type": "ed25519"}, "unknown key type ed25519"),
    ({"plaintext": P, "type": "rsa-2048"}, "unknown key type rsa-2048"),
    ({"plaintext": P, "type": "bogus"}, "unknown key type bogus"),
    ({"plaintext": "!!"}, "illegal base64 data at input byte 0"),
    (
        {"plaintext": P, "convergent_encryption": True},
        "convergent encryption requires derivation to be enabled, so context is required",
    ),
    (
        {"batch_input": [{"plaintext": 5}]},
        "failed to parse batch input: '[0].plaintext' expected type 'string'",
    ),
]


@pytest.mark.parametrize(("args", "text"), UPSERT_REFUSED)
def test_a_refused_upsert_makes_no_key(rig: Rig, args: dict[str, Any], text: str) -> None:
    assert refused(rig, "encrypt", name="new", **args) == text
    assert rig.store.reader().keys(NAMED_KEYS) == []


def test_only_one_who_may_create_creates(rig: Rig) -> None:
    call = rig.call("encrypt", name="new", plaintext=P)
    assert call.capability is Capability.CREATE
    call.capability = Capability.UPDATE
    with pytest.raises(KmsError, match="encryption key not found"):
        call.operation.act(call)


@pytest.mark.parametrize("type_", ["aes256-gcm96", "chacha20-poly1305"])
def test_encrypting_makes_a_missing_key(rig: Rig, type_: str) -> None:
    sealed = rig.run("encrypt", name="new", plaintext=P, type=type_)
    assert rig.steps == ["change"]
    assert rig.run("keys.read", name="new")["type"] == type_
    assert rig.run("decrypt", name="new", ciphertext=sealed["ciphertext"]) == {"plaintext": P}
    rig.run("encrypt", name="new", plaintext=P)
    assert rig.steps == ["result"]


def test_two_who_make_the_same_key_share_it(rig: Rig) -> None:
    call = rig.call("encrypt", name="new", plaintext=P)
    outcomes: list[Any] = [call.operation.act(call) for _ in range(2)]
    for outcome in outcomes:
        with rig.store.transaction() as tx:
            data = outcome.write(tx).data
        assert rig.run("decrypt", name="new", ciphertext=data["ciphertext"]) == {"plaintext": P}
    assert len(rig.store.reader().keys(KEY_VERSIONS)) == 1


def test_a_batch_makes_its_key_once(rig: Rig) -> None:
    data = rig.run("encrypt", name="new", batch_input=[{"plaintext": P}, {"plaintext": "!!"}])
    assert [sorted(item) for item in data["batch_results"]] == [
        ["ciphertext", "key_version", "reference"],
        ["error", "reference"],
    ]


# -- batches --------------------------------------------------------------------------------------------


def test_an_encrypt_batch_says_which_items_failed(keyed: Rig) -> None:
    result = keyed.result(
        "encrypt",
        name="a",
        batch_input=[
            {"plaintext": P, "reference": "r1"},
            {"plaintext": P, "key_version": 9, "reference": "r2"},
            {"plaintext": "!!"},
            {"plaintext": None, "key_version": 1},
        ],
    )
    assert result.partial
    assert result.items == 4
    first, second, third, fourth = (result.data or {})["batch_results"]
    assert (first["key_version"], first["reference"]) == (2, "r1")
    assert second == {
        "error": "requested version for encryption is higher than the latest key version",
        "reference": "r2",
    }
    assert third == {"error": "illegal base64 data at input byte 0", "reference": ""}
    assert fourth["ciphertext"].startswith("vault:v1:")


def test_a_decrypt_batch_says_which_items_failed(keyed: Rig) -> None:
    sealed = keyed.run("encrypt", name="a", plaintext=P)["ciphertext"]
    items = [{"ciphertext": sealed, "reference": "q"}, {"ciphertext": "x"}]
    result = keyed.result("decrypt", name="a", batch_input=items)
    assert result.partial
    assert result.data == {
        "batch_results": [
            {"plaintext": P, "reference": "q"},
            {"plaintext": "", "error": "invalid ciphertext: no prefix", "reference": ""},
        ]
    }


PARTIAL: list[tuple[list[dict[str, Any]], int, bool, int | None]] = [
    ([{"plaintext": P}], 207, False, None),
    ([{"plaintext": P}, {"plaintext": "!"}], 207, True, 207),
    ([{"plaintext": P}, {"plaintext": "!"}], 0, True, None),
    ([{"plaintext": "!"}], 207, True, None),
]


@pytest.mark.parametrize(("items", "code", "partial", "status"), PARTIAL)
def test_the_code_for_partial_failure_needs_a_success(
    keyed: Rig, items: list[dict[str, Any]], code: int, *, partial: bool, status: int | None
) -> None:
    result = keyed.result("encrypt", name="a", batch_input=items, partial_failure_response_code=code)
    assert (result.partial, result.partial_status) == (partial, status)


@pytest.mark.parametrize("code", [-1, 1, 100, 101, 199, 204, 205, 304, 600, 9999, 10**18])
@pytest.mark.parametrize("name", ["encrypt", "decrypt"])
def test_no_status_that_http_has_not(keyed: Rig, name: str, code: int) -> None:
    batch = [{"plaintext": P, "ciphertext": "junk"}, {"plaintext": "!", "ciphertext": "junk"}]
    with pytest.raises(KmsError, match="must be a status with content"):
        keyed.result(name, name="a", batch_input=batch, partial_failure_response_code=code)


# -- rewrap and data keys -----------------------------------------------------------------------------------


def test_rewrap_moves_to_the_newest_version(keyed: Rig) -> None:
    old = keyed.run("encrypt", name="a", plaintext=P, key_version=1)["ciphertext"]
    new = keyed.run("rewrap", name="a", ciphertext=old)
    assert new["key_version"] == 2
    assert keyed.run("decrypt", name="a", ciphertext=new["ciphertext"]) == {"plaintext": P}
    assert keyed.run("rewrap", name="a", ciphertext=old, key_version=1)["key_version"] == 1


REWRAP_REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "missing ciphertext to decrypt"),
    ({"ciphertext": "x"}, "invalid ciphertext: no prefix"),
    ({"ciphertext": "x", "context": "!"}, "illegal base64 data at input byte 0"),
    ({"batch_input": []}, "missing batch input to process"),
]


@pytest.mark.parametrize(("args", "text"), REWRAP_REFUSED)
def test_rewrap_refuses(keyed: Rig, args: dict[str, Any], text: str) -> None:
    assert refused(keyed, "rewrap", name="a", **args) == text


def test_a_rewrap_batch_is_never_partial(keyed: Rig) -> None:
    old = keyed.run("encrypt", name="a", plaintext=P, key_version=1)["ciphertext"]
    items = [
        {"ciphertext": old, "reference": "q"},
        {"ciphertext": "x", "reference": "z"},
        {},
        {"ciphertext": 5},
        {"ciphertext": old, "key_version": 9},
    ]
    result = keyed.result("rewrap", name="a", batch_input=items)
    assert not result.partial
    results = (result.data or {})["batch_results"]
    assert (results[0]["key_version"], results[0]["reference"]) == (2, "q")
    assert [item.get("error") for item in results[1:]] == [
        "invalid ciphertext: no prefix",
        "missing ciphertext to decrypt",
        "invalid ciphertext: no prefix",
        "requested version for encryption is higher than the latest key version",
    ]


DATAKEY_REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"kind": "bogus"}, "Invalid path, must be 'plaintext' or 'wrapped'"),
    ({"bits": 1}, "invalid bit length"),
    ({"bits": 0}, "invalid bit length"),
    ({"bits": 129}, "invalid bit length"),
    ({"context": "!!"}, "failed to base64-decode context"),
    ({"key_version": 9}, "requested version for encryption is higher than the latest key version"),
    ({"name": "none"}, "encryption key not found"),
    ({"name": "m"}, "message encryption not supported for key type hmac"),
]


@pytest.mark.parametrize(("args", "text"), DATAKEY_REFUSED)
def test_datakey_refuses(keyed: Rig, args: dict[str, Any], text: str) -> None:
    assert refused(keyed, "datakey", **{"name": "a", "kind": "plaintext", **args}) == text


@pytest.mark.parametrize("bits", [128, 256, 512])
@pytest.mark.parametrize("protection", ["software", "hsm"])
def test_a_data_key_is_random_and_wrapped(hsm_rig: Rig, bits: int, protection: str) -> None:
    hsm_rig.create("k", protection=protection)
    data = hsm_rig.run("datakey", name="k", kind="plaintext", bits=bits, associated_data=P)
    assert len(b64decode(data["plaintext"])) == bits // 8
    opened = hsm_rig.run("decrypt", name="k", ciphertext=data["ciphertext"], associated_data=P)
    assert opened["plaintext"] == data["plaintext"]
    other = hsm_rig.run("datakey", name="k", kind="plaintext", bits=bits)
    assert other["plaintext"] != data["plaintext"]
    assert sorted(hsm_rig.run("datakey", name="k", kind="wrapped")) == ["ciphertext", "key_version"]
