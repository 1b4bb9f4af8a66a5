"""Signatures, MACs and ciphertexts that are nearly right: each kind of damage, each kind of key, each refused."""

from __future__ import annotations

import secrets
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from tests.harness.api import Api
from tests.harness.dev import DevServer

MESSAGE = b64encode(b"what was signed").decode()
ORDERS = {  # of the groups, for signatures that differ by a multiple of it
    "ecdsa-p256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "ecdsa-secp256k1": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141,
    "ed25519": 2**252 + 27742317777372353535851937790883648493,
}
Damage = Callable[[bytes], bytes]


def tlv(tag: int, body: bytes) -> bytes:
    return bytes([tag, len(body)]) + body


def integers(signature: bytes) -> tuple[bytes, bytes]:
    """The two INTEGERs' contents of a short DER signature."""
    first = signature[4 : 4 + signature[3]]
    return first, signature[6 + len(first) :]


def sequence(first: bytes, second: bytes) -> bytes:
    return tlv(0x30, tlv(2, first) + tlv(2, second))


def ecdsa_damages(type_: str) -> dict[str, Damage]:
    order = ORDERS.get(type_)
    damages: dict[str, Damage] = {
        "trailing zero": lambda s: s + b"\0",
        "trailing data inside": lambda s: tlv(0x30, s[2:] + tlv(2, b"\1")),
        "twice": lambda s: s + s,
        "long form of the length": lambda s: b"\x30\x81" + s[1:],
        "indefinite length": lambda s: b"\x30\x80" + s[2:] + b"\0\0",
        "length too great": lambda s: bytes([s[0], s[1] + 1]) + s[2:],
        "length too small": lambda s: bytes([s[0], s[1] - 1]) + s[2:],
        "another tag": lambda s: b"\x31" + s[1:],
        "integer with a needless zero": lambda s: sequence(b"\0" + integers(s)[0], integers(s)[1]),
        "second integer with a needless zero": lambda s: sequence(integers(s)[0], b"\0" + integers(s)[1]),
        "negative r": lambda s: sequence(b"\xff" + integers(s)[0].lstrip(b"\0"), integers(s)[1]),
        "r is zero": lambda s: sequence(b"\0", integers(s)[1]),
        "s is zero": lambda s: sequence(integers(s)[0], b"\0"),
        "no integers": lambda _: b"\x30\0",
        "raw r and s": lambda s: b"".join(part.lstrip(b"\0").rjust(32, b"\0") for part in integers(s)),
        "swapped": lambda s: sequence(*reversed(integers(s))),
    }
    if order is not None:

        def beyond(signature: bytes) -> bytes:
            r, s = decode_dss_signature(signature)
            return encode_dss_signature(r, s + order)

        damages["s beyond the order"] = beyond
    return damages


def edwards_beyond(signature: bytes) -> bytes:
    """S + L: the same point (RFC 8032 section 5.1.7 refuses it)."""
    s = int.from_bytes(signature[32:], "little") + ORDERS["ed25519"]
    return signature[:32] + s.to_bytes(32, "little")


COMMON: dict[str, Damage] = {
    "nothing": lambda _: b"",
    "one byte more": lambda s: s + b"\0",
    "one byte before": lambda s: b"\0" + s,
    "one byte less": lambda s: s[:-1],
    "first bit": lambda s: bytes([s[0] ^ 0x80]) + s[1:],
    "last bit": lambda s: s[:-1] + bytes([s[-1] ^ 1]),
    "all zero": lambda s: bytes(len(s)),
    "all ones": lambda s: b"\xff" * len(s),
    "half": lambda s: s[: len(s) // 2],
}
SIGNED = {
    "ecdsa-p256": COMMON | ecdsa_damages("ecdsa-p256"),
    "ecdsa-secp256k1": COMMON | ecdsa_damages("ecdsa-secp256k1"),
    "ed25519": COMMON | {"S beyond the order": edwards_beyond},
    "rsa-2048": COMMON,
    "mldsa-44": COMMON,
    "mldsa-87": COMMON,
    "hmac": COMMON,
    "aes256-cmac": COMMON,
}
SEALED = ["aes128-gcm96", "aes256-gcm96", "chacha20-poly1305", "xchacha20-poly1305", "rsa-2048"]
NO_PREFIX = (
    "",
    "vault",
    "vault:",
    "vault:v",
    "vault:v1",
    "vault:1:{}",
    "vault:v:{}",
    "vault:v2:{}",
    "VAULT:v1:{}",
)
DAMAGED_TEXT = (
    *NO_PREFIX,
    "vault:v1:{}:",
    "vault:v1:{}=",
    "vault:v1: {}",
    "vault:v-1:{}",
    "vault:v1:{}!",
    "{}",
)


@dataclass(frozen=True)
class Bench:
    """A mount with a key of each type under its type's name."""

    api: Api
    mount: str

    def ask(self, operation: str, name: str, **body: Any) -> tuple[int, dict[str, Any]]:
        answer = self.api.post(f"{self.mount}/{operation}/{name}", body)
        return answer.status, answer.json.get("data") or {}


@pytest.fixture(scope="module")
def bench(server: DevServer) -> Iterator[Bench]:
    with server.api() as api:
        mount = f"malformed-{secrets.token_hex(4)}"
        api.ok("POST", f"sys/mounts/{mount}", {"type": "transit"})
        for name in {*SIGNED, *SEALED, "aes256-kwp", "mlkem-768"}:
            api.ok("POST", f"{mount}/keys/{name}", {"type": name})
        yield Bench(api, mount)


def made(bench: Bench, type_: str) -> tuple[str, str]:
    """A good signature or MAC: its field, and its text."""
    field = {"hmac": "hmac", "aes256-cmac": "cmac"}.get(type_, "signature")
    _, data = bench.ask("sign" if field == "signature" else field, type_, input=MESSAGE)
    return field, data[field]


def good(bench: Bench, type_: str, field: str, text: str) -> bool:
    status, data = bench.ask("verify", type_, input=MESSAGE, **{field: text})
    assert status in {200, 400}, status
    _, batch = bench.ask("verify", type_, batch_input=[{"input": MESSAGE, field: text}])
    one = status == 200 and data["valid"] is True
    assert one is (bool(batch) and batch["batch_results"][0].get("valid") is True)
    return one


@pytest.mark.parametrize("type_", SIGNED)
def test_a_damaged_signature_is_refused(type_: str, bench: Bench) -> None:
    accepted = []
    for name, damage in SIGNED[type_].items():
        field, text = made(bench, type_)
        head, _, body = text.rpartition(":")
        raw = b64decode(body)
        damaged = damage(raw)
        if damaged != raw and good(bench, type_, field, f"{head}:{b64encode(damaged).decode()}"):
            accepted.append(name)
    assert not accepted
    assert good(bench, type_, *made(bench, type_))


@pytest.mark.parametrize("type_", SIGNED)
def test_a_signature_in_a_damaged_envelope_is_refused(type_: str, bench: Bench) -> None:
    field, text = made(bench, type_)
    body = text.rpartition(":")[2]
    assert not [form for form in DAMAGED_TEXT if good(bench, type_, field, form.format(body))]
    assert not good(bench, type_, field, f"vault:v1:{urlsafe_b64encode(b64decode(body) + b'').decode()}x")


@pytest.mark.parametrize("damage", COMMON)
def test_a_damaged_jws_signature_is_refused(damage: str, bench: Bench) -> None:
    _, data = bench.ask("sign", "ecdsa-p256", input=MESSAGE, marshaling_algorithm="jws")
    raw = urlsafe_b64decode(data["signature"].split(":")[2] + "==")
    body = urlsafe_b64encode(COMMON[damage](raw)).decode().rstrip("=")
    status, data = bench.ask(
        "verify", "ecdsa-p256", input=MESSAGE, marshaling_algorithm="jws", signature=f"vault:v1:{body}"
    )
    assert status == 400 or data == {"valid": False}


@pytest.mark.parametrize("type_", SEALED)
def test_a_damaged_ciphertext_is_refused(type_: str, bench: Bench) -> None:
    _, data = bench.ask("encrypt", type_, plaintext=MESSAGE)
    head, _, body = data["ciphertext"].rpartition(":")
    forms = [form.format(body) for form in DAMAGED_TEXT]
    raw = b64decode(body)
    cuts = {name: damage(raw) for name, damage in COMMON.items()} | {
        "tag cut to 12 bytes": raw[:-4],
        "nonce alone": raw[:12],
        "nonce and tag": raw[:12] + raw[-16:],
    }
    forms += [f"{head}:{b64encode(damaged).decode()}" for damaged in cuts.values()]
    for operation in ("decrypt", "rewrap"):
        for form in forms:
            status, answer = bench.ask(operation, type_, ciphertext=form)
            assert (status, answer) == (400, {}), (operation, form)
    assert bench.ask("decrypt", type_, ciphertext=data["ciphertext"])[1] == {"plaintext": MESSAGE}


def test_a_damaged_wrapped_key_is_refused(bench: Bench) -> None:
    _, data = bench.ask("wrap", "aes256-kwp", plaintext=b64encode(bytes(range(32))).decode())
    head, _, body = data["ciphertext"].rpartition(":")
    for damage in COMMON.values():
        text = f"{head}:{b64encode(damage(b64decode(body))).decode()}"
        assert bench.ask("unwrap", "aes256-kwp", ciphertext=text)[0] == 400
    assert bench.ask("unwrap", "aes256-kwp", ciphertext=data["ciphertext"], padding=False)[0] == 400
    assert bench.ask("unwrap", "aes256-kwp", ciphertext=data["ciphertext"])[0] == 200


def test_a_damaged_encapsulation_gives_no_secret_or_another(bench: Bench) -> None:
    _, data = bench.ask("encapsulate", "mlkem-768")
    head, _, body = data["ciphertext"].rpartition(":")
    for name, damage in COMMON.items():
        text = f"{head}:{b64encode(damage(b64decode(body))).decode()}"
        status, answer = bench.ask("decapsulate", "mlkem-768", ciphertext=text)
        # FIPS 203 gives a forged ciphertext of the right length a secret that nobody knows.
        assert status == 400 or answer["shared_secret"] != data["shared_secret"], name
    _, answer = bench.ask("decapsulate", "mlkem-768", ciphertext=data["ciphertext"])
    assert answer["shared_secret"] == data["shared_secret"]


CONTEXTS = [
    ("mldsa-44", "!!", "unable to decode signature_context as base64"),
    ("mldsa-44", b64encode(bytes(256)).decode(), "signature_context has at most 255 bytes"),
    ("ed25519", MESSAGE, "signature_context is for ML-DSA keys"),
]


@pytest.mark.parametrize(("type_", "context", "text"), CONTEXTS)
def test_a_context_that_fits_no_signature_is_refused(
    type_: str, context: str, text: str, bench: Bench
) -> None:
    body = {"input": MESSAGE, "signature_context": context}
    answer = bench.api.post(f"{bench.mount}/sign/{type_}", body)
    assert answer.status == 400
    assert text in answer.errors[0]


def test_a_signature_holds_in_its_own_context_only(bench: Bench) -> None:
    _, data = bench.ask("sign", "mldsa-44", input=MESSAGE, signature_context=MESSAGE)
    body = {"input": MESSAGE, "signature": data["signature"]}
    assert bench.ask("verify", "mldsa-44", **body)[1] == {"valid": False}
    assert bench.ask("verify", "mldsa-44", **body, signature_context="YQ==")[1] == {"valid": False}
    assert bench.ask("verify", "mldsa-44", **body, signature_context=MESSAGE)[1] == {"valid": True}
