"""Bringing keys of one's own, and handing them on, against the real server."""

from __future__ import annotations

import os
from base64 import b64encode
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)

from kms.keys.software import PrivateKey
from tests.keys.rig import Rig
from tests.operations.peer import CLIENT_FAULT, STRICTER, Case, P, Pair, ask, compare, post

PRIVATE: dict[str, PrivateKey] = {
    "ecdsa-p256": ec.generate_private_key(ec.SECP256R1()),
    "ecdsa-p384": ec.generate_private_key(ec.SECP384R1()),
    "ecdsa-p521": ec.generate_private_key(ec.SECP521R1()),
    "ed25519": Ed25519PrivateKey.generate(),
    "rsa-2048": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "mldsa-44": mldsa.MLDSA44PrivateKey.generate(),
    "mldsa-87": mldsa.MLDSA87PrivateKey.generate(),
    "rsa-3072": rsa.generate_private_key(public_exponent=65537, key_size=3072),
}
SYMMETRIC = {
    "aes128-gcm96": 16,
    "aes256-gcm96": 32,
    "chacha20-poly1305": 32,
    "xchacha20-poly1305": 32,
    "hmac": 40,
}


def pkcs8(name: str) -> bytes:
    return PRIVATE[name].private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def public(name: str) -> str:
    key = PRIVATE[name].public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def material(type_: str) -> bytes:
    return pkcs8(type_) if type_ in PRIVATE else bytes(range(SYMMETRIC[type_]))


def sealed(pem: str, target: bytes, hash_: hashes.HashAlgorithm, bits: int = 256) -> str:
    wrapping = load_pem_public_key(pem.encode())
    assert isinstance(wrapping, rsa.RSAPublicKey)
    ephemeral = os.urandom(bits // 8)
    block = wrapping.encrypt(ephemeral, padding.OAEP(padding.MGF1(hash_), hash_, None))
    return b64encode(block + keywrap.aes_key_wrap_with_padding(ephemeral, target)).decode()


class Both:
    """Makes the same import for either server, each under its own wrapping key."""

    def __init__(self, peer: httpx.Client, rig: Rig) -> None:
        self.peer, self.rig = peer, rig
        self.keys = (
            str(peer.get("transit/wrapping_key").json()["data"]["public_key"]),
            str(rig.run("wrapping-key")["public_key"]),
        )

    def __call__(
        self, path: str, target: bytes, allowed: str = "", *, bits: int = 256, **fields: Any
    ) -> Pair:
        hash_ = {"SHA1": hashes.SHA1(), "SHA512": hashes.SHA512()}.get(  # noqa: S303  (OAEP)
            fields.pop("sealed_with", fields.get("hash_function", "")), hashes.SHA256()
        )
        theirs, ours = (
            post(path, {"ciphertext": sealed(pem, target, hash_, bits), **fields}, allowed)
            for pem in self.keys
        )
        return theirs, ours


@pytest.fixture
def both(peer: httpx.Client, rig: Rig) -> Both:
    return Both(peer, rig)


def fault(path: str, **body: Any) -> Case:
    return post(path, body, CLIENT_FAULT)


def test_every_request_gets_the_real_servers_answer(peer: httpx.Client, rig: Rig, both: Both) -> None:
    setup: list[Case | Pair] = [
        post("keys/born", exportable=True),
        post("keys/shut"),
        *(both(f"keys/{type_}/import", material(type_), type=type_) for type_ in [*SYMMETRIC, *PRIVATE]),
        both("keys/sha1/import", bytes(32), hash_function="SHA1"),
        both("keys/sha512/import", bytes(32), hash_function="sha512", sealed_with="SHA512"),
        both("keys/turning/import", bytes(32), allow_rotation=True, auto_rotate_period="24h"),
        post("keys/half/import", type="ecdsa-p256", public_key=public("ecdsa-p256")),
        post("keys/halfrsa/import", type="rsa-2048", public_key=public("rsa-2048")),
        post("keys/halfed/import", type="ed25519", public_key=public("ed25519")),
    ]
    new = "keys/new/import"
    cases: list[Case | Pair] = [
        Case("GET", "wrapping_key"),
        *(Case("GET", f"keys/{type_}") for type_ in [*SYMMETRIC, *PRIVATE]),
        *(Case("GET", f"keys/{name}") for name in ("turning", "half", "halfrsa", "halfed")),
        fault(new),
        fault(new, ciphertext="!!"),
        fault(new, ciphertext="YQ=="),
        fault(new, ciphertext=b64encode(bytes(600)).decode()),
        post(new, ciphertext="YQ==", type="bogus"),
        post(new, ciphertext="YQ==", hash_function="MD5"),
        post(new, ciphertext="YQ==", hash_function=""),
        both(new, bytes(31), CLIENT_FAULT),
        both(new, bytes(16), CLIENT_FAULT),
        both(new, bytes(31), CLIENT_FAULT, type="hmac"),
        both(new, bytes(32), CLIENT_FAULT, bits=128),
        both(new, bytes(32), CLIENT_FAULT, sealed_with="SHA1"),
        both(new, pkcs8("ecdsa-p384"), CLIENT_FAULT, type="ecdsa-p256"),
        both(new, pkcs8("rsa-3072"), CLIENT_FAULT, type="rsa-2048"),
        both(new, bytes(32), CLIENT_FAULT, type="ecdsa-p256"),
        both(new, bytes(32), CLIENT_FAULT, auto_rotate_period="24h"),
        both(new, bytes(32), STRICTER, auto_rotate_period="1m", allow_rotation=True),
        both("keys/born/import", bytes(32), CLIENT_FAULT),
        fault(new, public_key=public("ecdsa-p256")),
        fault(new, public_key="x", type="ecdsa-p256"),
        fault(new, public_key=public("ecdsa-p256"), type="rsa-2048"),
        fault(new, public_key=public("ecdsa-p256"), type="ecdsa-p384"),
        fault(new, public_key=public("ecdsa-p256"), type="hmac"),
        fault(new, public_key=public("rsa-2048"), type="rsa-4096"),
        fault("keys/aes256-gcm96/rotate"),
        post("keys/turning/rotate"),
        both("keys/turning/import_version", bytes(32), CLIENT_FAULT),
        both("keys/aes256-gcm96/import_version", bytes(32)),
        Case("GET", "keys/aes256-gcm96"),
        both("keys/aes256-gcm96/import_version", bytes(16), CLIENT_FAULT),
        both("keys/aes256-gcm96/import_version", bytes(32), CLIENT_FAULT, version=1),
        fault("keys/none/import_version", public_key="x"),
        fault("keys/born/import_version", public_key="x"),
        fault("keys/half/import_version"),
        fault("sign/half", input=P),
        post("verify/half", input=P, signature="vault:v1:MAYCAQECAQE="),
        post("hmac/half", input=P),
        post("encrypt/halfrsa", plaintext=P),
        fault("decrypt/halfrsa", ciphertext="vault:v1:YQ=="),
        fault("sign/halfrsa", input=P),
        Case("GET", "export/public-key/half"),
        Case("GET", "export/signing-key/half"),
        both("keys/half/import_version", pkcs8("ecdsa-p384"), CLIENT_FAULT, version=1),
        both("keys/half/import_version", pkcs8("ecdsa-p256"), CLIENT_FAULT, version=2),
        both("keys/half/import_version", pkcs8("ecdsa-p256"), version=1),
        both("keys/half/import_version", pkcs8("ecdsa-p256"), CLIENT_FAULT, version=1),
        post("sign/half", input=P),
        post("keys/half/import_version", public_key=public("ecdsa-p256")),
        Case("GET", "keys/half"),
        Case("GET", "byok-export/none/born", allowed=CLIENT_FAULT),
        Case("GET", "byok-export/rsa-2048/none", allowed=CLIENT_FAULT),
        Case("GET", "byok-export/ecdsa-p256/born", allowed=CLIENT_FAULT),
        Case("GET", "byok-export/rsa-2048/born/9"),
    ]
    compare(peer, rig, setup, cases)


@pytest.mark.parametrize("type_", [*SYMMETRIC, *PRIVATE])
def test_an_imported_key_is_that_key_on_both(peer: httpx.Client, rig: Rig, both: Both, type_: str) -> None:
    name = f"same-{type_}"
    theirs, ours = both(f"keys/{name}/import", material(type_), type=type_, exportable=True)
    assert ask(peer, theirs)[0] == 204
    rig.result("keys.import", name=name, **(ours.body or {}))
    kind = "hmac-key" if type_ == "hmac" else "signing-key" if type_ in PRIVATE else "encryption-key"
    answer = peer.get(f"transit/export/{kind}/{name}").json()["data"]
    assert rig.run("export", name=name, kind=kind) == answer


@pytest.mark.parametrize("type_", [*SYMMETRIC, *PRIVATE])
def test_what_either_hands_on_the_other_takes(peer: httpx.Client, rig: Rig, both: Both, type_: str) -> None:
    for receiver in both.keys:
        for server in ("peer", "ours"):
            body: dict[str, Any] = {"public_key": receiver, "type": "rsa-4096"}
            name = f"to-{type_}-{server}-{both.keys.index(receiver)}"
            if server == "peer":
                peer.post(f"transit/keys/{name}/import", json=body).raise_for_status()
            else:
                rig.result("keys.import", name=name, **body)
    theirs, ours = both(f"keys/on-{type_}/import", material(type_), type=type_, exportable=True)
    assert ask(peer, theirs)[0] == 204
    rig.result("keys.import", name=f"on-{type_}", **(ours.body or {}))
    from_peer = peer.get(f"transit/byok-export/to-{type_}-peer-1/on-{type_}").json()["data"]["keys"]["1"]
    rig.result("keys.import", name=f"got-{type_}", ciphertext=from_peer, type=type_)
    from_us = rig.run("byok-export", destination=f"to-{type_}-ours-0", source=f"on-{type_}")["keys"]["1"]
    wrapped = {"ciphertext": from_us, "type": type_}
    peer.post(f"transit/keys/got-{type_}/import", json=wrapped).raise_for_status()
