"""The closed table from our names to PKCS#11 mechanisms. Nothing else in Keystead names a mechanism."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from pkcs11.constants import ObjectClass
from pkcs11.mechanisms import MGF, KeyType, Mechanism

from kms.errors import invalid
from kms.hsm.model import KeySpec, Scheme

# SoftHSM calls 0x210A AES-KEY-WRAP-PAD and does RFC 5649 with it (H9). Newer modules have the same under
# 0x210B. NSS gives 0x210A another meaning, which the self-test's comparison with RFC 5649 finds.
KWP_CANDIDATES: Final = (Mechanism.AES_KEY_WRAP_KWP, Mechanism.AES_KEY_WRAP_PAD)


@dataclass(frozen=True)
class SpecRow:
    """How a key type is generated and what class its secret half has."""

    key_type: KeyType
    bits: int
    generate: Mechanism
    object_class: ObjectClass
    curve: bytes = b""  # CKA_EC_PARAMS: the named curve in DER (RFC 5480 2.1.1)
    coordinate: int = 0  # bytes of a field element


def _ec(oid: str, bits: int) -> SpecRow:
    return SpecRow(
        KeyType.EC,
        bits,
        Mechanism.EC_KEY_PAIR_GEN,
        ObjectClass.PRIVATE_KEY,
        curve=bytes.fromhex(oid),
        coordinate=(bits + 7) // 8,
    )


def _rsa(bits: int) -> SpecRow:
    return SpecRow(KeyType.RSA, bits, Mechanism.RSA_PKCS_KEY_PAIR_GEN, ObjectClass.PRIVATE_KEY)


def _aes(bits: int) -> SpecRow:
    return SpecRow(KeyType.AES, bits, Mechanism.AES_KEY_GEN, ObjectClass.SECRET_KEY)


SPECS: Final = MappingProxyType(
    {
        KeySpec.AES_128: _aes(128),
        KeySpec.AES_192: _aes(192),
        KeySpec.AES_256: _aes(256),
        # SoftHSM refuses an HMAC whose key is shorter than the hash, so 64 bytes serve them all.
        KeySpec.HMAC: SpecRow(
            KeyType.GENERIC_SECRET, 512, Mechanism.GENERIC_SECRET_KEY_GEN, ObjectClass.SECRET_KEY
        ),
        KeySpec.EC_P256: _ec("06082a8648ce3d030107", 256),
        KeySpec.EC_P384: _ec("06052b81040022", 384),
        KeySpec.EC_P521: _ec("06052b81040023", 521),
        KeySpec.ED25519: SpecRow(
            KeyType.EC_EDWARDS,
            256,
            Mechanism.EC_EDWARDS_KEY_PAIR_GEN,
            ObjectClass.PRIVATE_KEY,
            # PrintableString "edwards25519": what PKCS#11 2.40 modules want; OIDs came with 3.0.
            curve=bytes.fromhex("130c656477617264733235353139"),
        ),
        KeySpec.RSA_2048: _rsa(2048),
        KeySpec.RSA_3072: _rsa(3072),
        KeySpec.RSA_4096: _rsa(4096),
    }
)

HMACS: Final = MappingProxyType(
    {
        "sha224": (Mechanism.SHA224_HMAC, 28),
        "sha256": (Mechanism.SHA256_HMAC, 32),
        "sha384": (Mechanism.SHA384_HMAC, 48),
        "sha512": (Mechanism.SHA512_HMAC, 64),
        "sha3-224": (Mechanism.SHA3_224_HMAC, 28),
        "sha3-256": (Mechanism.SHA3_256_HMAC, 32),
        "sha3-384": (Mechanism.SHA3_384_HMAC, 48),
        "sha3-512": (Mechanism.SHA3_512_HMAC, 64),
    }
)

# DigestInfo up to the digest itself (RFC 8017 section 9.2, note 1; SHA-3: RFC 9688), and the digest's size.
_PKCS1: Final = MappingProxyType(
    {
        Scheme.RSA_PKCS1_NONE: (b"", 0),
        Scheme.RSA_PKCS1_SHA224: (bytes.fromhex("302d300d06096086480165030402040500041c"), 28),
        Scheme.RSA_PKCS1_SHA256: (bytes.fromhex("3031300d060960864801650304020105000420"), 32),
        Scheme.RSA_PKCS1_SHA384: (bytes.fromhex("3041300d060960864801650304020205000430"), 48),
        Scheme.RSA_PKCS1_SHA512: (bytes.fromhex("3051300d060960864801650304020305000440"), 64),
        Scheme.RSA_PKCS1_SHA3_224: (bytes.fromhex("302d300d06096086480165030402070500041c"), 28),
        Scheme.RSA_PKCS1_SHA3_256: (bytes.fromhex("3031300d060960864801650304020805000420"), 32),
        Scheme.RSA_PKCS1_SHA3_384: (bytes.fromhex("3041300d060960864801650304020905000430"), 48),
        Scheme.RSA_PKCS1_SHA3_512: (bytes.fromhex("3051300d060960864801650304020a05000440"), 64),
    }
)
_PSS: Final = MappingProxyType(
    {
        Scheme.RSA_PSS_SHA224: (Mechanism.SHA224, MGF.SHA224, 28),
        Scheme.RSA_PSS_SHA256: (Mechanism.SHA256, MGF.SHA256, 32),
        Scheme.RSA_PSS_SHA384: (Mechanism.SHA384, MGF.SHA384, 48),
        Scheme.RSA_PSS_SHA512: (Mechanism.SHA512, MGF.SHA512, 64),
    }
)

# RSA-OAEP (RFC 8017 7.1) with no label and MGF1 of the same hash, best first: parameters, and the hash's size.
OAEPS: Final = MappingProxyType(
    {
        "sha256": ((Mechanism.SHA256, MGF.SHA256, None), 32),
        "sha384": ((Mechanism.SHA384, MGF.SHA384, None), 48),
        "sha512": ((Mechanism.SHA512, MGF.SHA512, None), 64),
        "sha224": ((Mechanism.SHA224, MGF.SHA224, None), 28),
        "sha1": ((Mechanism.SHA_1, MGF.SHA1, None), 20),
    }
)

MAX_ECDSA_DIGEST: Final = 64
MAX_EDDSA_MESSAGE: Final = 1 << 25
SignCall = tuple[Mechanism, tuple[Mechanism, MGF, int] | None, bytes, int]


def sign_call(spec: KeySpec, scheme: Scheme, payload: bytes, salt_length: int | None) -> SignCall:
    """The mechanism, its parameter, the bytes to hand over and the size of the signature in bytes.

    Raises:
        KmsError(INVALID): the scheme does not belong to the key type, or the payload has the wrong size.
    """
    row = SPECS[spec]
    if scheme is Scheme.ECDSA and row.key_type is KeyType.EC:
        if not 0 < len(payload) <= MAX_ECDSA_DIGEST:
            raise invalid(f"an ECDSA payload is a digest of 1 to {MAX_ECDSA_DIGEST} bytes")
        return Mechanism.ECDSA, None, payload[: row.coordinate], 2 * row.coordinate
    if scheme is Scheme.EDDSA and row.key_type is KeyType.EC_EDWARDS:
        if len(payload) > MAX_EDDSA_MESSAGE:
            raise invalid(f"an EdDSA message has at most {MAX_EDDSA_MESSAGE} bytes")
        return Mechanism.EDDSA, None, payload, 64
    if row.key_type is KeyType.RSA and scheme in _PKCS1:
        prefix, size = _PKCS1[scheme]
        if size and len(payload) != size:
            raise invalid(f"the payload for {scheme} is a digest of {size} bytes")
        if len(payload) > row.bits // 8 - 11:
            raise invalid("the payload is too long for the RSA key")
        return Mechanism.RSA_PKCS, None, prefix + payload, row.bits // 8
    if row.key_type is KeyType.RSA and scheme in _PSS:
        return _pss(row, scheme, payload, salt_length)
    raise invalid(f"a key of type {spec} does not sign with {scheme}")


def _pss(row: SpecRow, scheme: Scheme, payload: bytes, salt_length: int | None) -> SignCall:
    hash_name, mgf, size = _PSS[scheme]
    if len(payload) != size:
        raise invalid(f"the payload for {scheme} is a digest of {size} bytes")
    salt = size if salt_length is None else salt_length
    if not 0 <= salt <= row.bits // 8 - size - 2:
        raise invalid("the salt is too long for the RSA key")
    return Mechanism.RSA_PKCS_PSS, (hash_name, mgf, salt), payload, row.bits // 8
