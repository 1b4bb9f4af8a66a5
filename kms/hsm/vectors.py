"""Known answers for the primitives that run in this process; the token is then compared with them."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding

from kms.errors import ErrorKind, KmsError
from kms.hsm.model import KeySpec
from kms.hsm.public import verify_proof


class SelfTestError(KmsError):
    """A self-test had a wrong answer: the service stops (503) until one is right."""

    def __init__(self, what: str) -> None:
        super().__init__(ErrorKind.HSM_UNAVAILABLE, f"self-test failed: {what}")


def failed(what: str) -> SelfTestError:
    """The refusal after a wrong answer."""
    return SelfTestError(what)


def must(good: object, what: str) -> None:
    """Raise `failed(what)` unless `good`."""
    if not good:
        raise failed(what)


def check() -> None:
    """Published answers for the primitives of this process.

    FIPS 180-4 "abc", RFC 4231 case 2, the GCM specification's case 16 (256-bit key, with AAD), RFC 5649 section 6, RFC 6979
    A.2.5 (P-256, SHA-256, "sample") and RFC 8032 7.1 test 2.

    Raises:
        KmsError(HSM_UNAVAILABLE): a primitive gives another answer.
    """
    for name, start in _SHA.items():
        must(hashlib.new(name, b"abc").hexdigest().startswith(start), name)
    tag = hmac.digest(b"Jefe", b"what do ya want for nothing?", "sha256").hex()
    must(tag.startswith("5bdcc146bf60754e6a042426089575c7"), "HMAC-SHA-256")
    key, nonce, plain, aad, sealed = (bytes.fromhex(part) for part in _GCM)
    gcm = AESGCM(key)
    must(gcm.encrypt(nonce, plain, aad) == sealed, "AES-256-GCM")
    try:
        gcm.decrypt(nonce, sealed[:-1] + bytes([sealed[-1] ^ 1]), aad)
        raise failed("AES-256-GCM accepts a wrong tag")
    except InvalidTag:
        pass
    kek, data, wrapped = (bytes.fromhex(part) for part in _KWP)
    must(aes_key_wrap_with_padding(kek, data) == wrapped, "AES-KWP")
    digest = hashlib.sha256(b"sample").digest()
    for spec, spki, payload, signature in (
        (KeySpec.EC_P256, _P256[0], digest, _P256[1]),
        (KeySpec.ED25519, _ED25519[0], b"\x72", _ED25519[1]),
    ):
        public, good = bytes.fromhex(spki), bytes.fromhex(signature)
        must(verify_proof(public, spec, payload, good), f"{spec} verification")
        bad = bytes([good[0] ^ 1]) + good[1:]
        must(not verify_proof(public, spec, payload, bad), f"{spec} accepts a wrong signature")


_SHA: Final = {
    "sha256": "ba7816bf8f01cfea414140de5dae2223",
    "sha384": "cb00753f45a35e8bb5a03d699ac65007",
    "sha512": "ddaf35a193617abacc417349ae204131",
    "sha3_256": "3a985da74fe225b2045c172d6bd390bd",
}
_GCM: Final = (
    "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
    "cafebabefacedbaddecaf888",
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
    "feedfacedeadbeeffeedfacedeadbeefabaddad2",
    (
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
        "76fc6ece0f4e1768cddf8853bb2d551b"
    ),
)
_KWP: Final = (
    "5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8",
    "c37b7e6492584340bed12207808941155068f738",
    "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a",
)
_P256: Final = (
    (
        "3059301306072a8648ce3d020106082a8648ce3d0301070342000460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
        "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"
    ),
    (
        "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f"
        "843acda8"
    ),
)
_ED25519: Final = (
    "302a300506032b65700321003d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d29161"
        "2bb0c00"
    ),
)
