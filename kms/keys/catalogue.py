"""The closed table of key types: our name -> what it is, may be used for, and costs.

Callers choose a purpose (by choosing a type) and a protection, never a mode or a mechanism. A type
that is not in this table does not exist; a use that a row does not list is refused by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from kms.hsm import KeySpec


class Protection(StrEnum):
    """Where the bytes of a key may exist. Belongs to the key's name and never changes."""

    SOFTWARE = "software"  # a sealed row; in process memory while used
    HSM = "hsm"  # born in the HSM, never outside it


class Duty(StrEnum):
    """The one thing that a pair of protection hsm is for. A private key in the HSM has one use, for ever."""

    ANY = ""  # it signs, if it is an `hsm` pair
    SIGN = "sign"
    DECRYPT = "decrypt"  # RSA
    DERIVE = "derive"  # EC: agrees on keys (ECDH)


class Use(StrEnum):
    """What a key may be asked to do. Every key can also HMAC, with a separate key of its own."""

    ENCRYPT = "encrypt"
    DECRYPT = "decrypt"
    SIGN = "sign"
    MAC = "mac"
    CMAC = "cmac"
    WRAP = "wrap"  # and unwrap
    ENCAPSULATE = "encapsulate"  # and decapsulate


class Kind(StrEnum):
    """The family that decides formats and parameters."""

    AEAD = "aead"  # nonce || ciphertext || 16-byte tag
    RSA = "rsa"  # OAEP-SHA256; PSS or PKCS#1 v1.5 signatures
    EC = "ec"  # ECDSA, asn1 or jws
    EDWARDS = "edwards"  # Ed25519, never pre-hashed
    MAC = "mac"  # HMAC and nothing else
    CMAC = "cmac"  # AES-CMAC (SP 800-38B)
    KWP = "kwp"  # wraps keys of callers (RFC 3394, RFC 5649), and is never an encrypt key
    MLDSA = "mldsa"  # ML-DSA (FIPS 204), pure
    MLKEM = "mlkem"  # ML-KEM (FIPS 203)


class Status(StrEnum):
    """Standing of the algorithm, for reports (SP 800-131A)."""

    APPROVED = "approved"
    NOT_APPROVED = "not-approved"  # sound, but outside FIPS 140


_ENCRYPTING: Final = frozenset({Use.ENCRYPT, Use.DECRYPT})
_SIGNING: Final = frozenset({Use.SIGN})
_ALL: Final = _ENCRYPTING | _SIGNING


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """One key type.

    Args:
        name: as callers write it.
        spec: what the HSM is asked to make; None where no HSM makes it.
        title: the `name` of one key version in the key object; "" for symmetric types.
        bits: of key material, for software generation.
        strength: security strength in bits (SP 800-57 part 1, table 2).
        default: the protection of a key for which the caller chose none.
        uses: by protection; a protection that is absent is refused at creation.
        micros: rough cost of one operation by protection, to keep slow ones off an event loop.
        verify_micros: the same of one verification, which is always in software.
        nonce_bytes: of an AEAD.
        upsert: whether encrypt may create a key of this type.
        derivable: whether per-context keys can be derived from a key of this type.
        convergent: whether it can encrypt convergently.
    """

    name: str
    kind: Kind
    spec: KeySpec | None
    bits: int
    strength: int
    uses: MappingProxyType[Protection, frozenset[Use]]
    micros: MappingProxyType[Protection, int]
    title: str = ""
    default: Protection = Protection.SOFTWARE
    verify_micros: int = 3
    nonce_bytes: int = 0
    upsert: bool = False
    status: Status = Status.APPROVED
    derivable: bool = False
    convergent: bool = False

    def allows(self, use: Use, protection: Protection) -> bool:
        """Whether keys of this type and protection may do this."""
        return use in self.uses.get(protection, frozenset())


def _by(software: frozenset[Use], hsm: frozenset[Use] | None) -> MappingProxyType[Protection, frozenset[Use]]:
    uses = {Protection.SOFTWARE: software}
    if hsm is not None:
        uses[Protection.HSM] = hsm
    return MappingProxyType(uses)


def _cost(software: int, hsm: int) -> MappingProxyType[Protection, int]:
    return MappingProxyType({Protection.SOFTWARE: software, Protection.HSM: hsm})


# Costs are those of SoftHSM, measured; a network HSM only makes the second column slower. RSA is
# rated over the budget of an event loop on purpose (kms.operations.pace).


def _aes(bits: int, spec: KeySpec) -> Algorithm:
    return Algorithm(
        name=f"aes{bits}-gcm96",
        kind=Kind.AEAD,
        spec=spec,
        bits=bits,
        strength=bits,
        uses=_by(_ENCRYPTING, _ENCRYPTING),
        micros=_cost(3, 40),
        nonce_bytes=12,
        upsert=True,
        derivable=True,
        convergent=True,
    )


def _chacha(name: str, nonce_bytes: int) -> Algorithm:
    return Algorithm(
        name=name,
        kind=Kind.AEAD,
        spec=None,
        bits=256,
        strength=256,
        uses=_by(_ENCRYPTING, None),
        micros=_cost(8, 0),
        nonce_bytes=nonce_bytes,
        upsert=True,
        status=Status.NOT_APPROVED,
        derivable=True,
        convergent=True,
    )


def _ec(bits: int, spec: KeySpec, strength: int, micros: tuple[int, int, int]) -> Algorithm:
    return Algorithm(
        name=f"ecdsa-p{bits}",
        kind=Kind.EC,
        spec=spec,
        title=f"P-{bits}",
        bits=bits,
        strength=strength,
        default=Protection.HSM,
        uses=_by(_SIGNING, _SIGNING),
        micros=_cost(*micros[:2]),
        verify_micros=micros[2],
    )


def _rsa(bits: int, spec: KeySpec, strength: int, micros: tuple[int, int]) -> Algorithm:
    return Algorithm(
        name=f"rsa-{bits}",
        kind=Kind.RSA,
        spec=spec,
        title=f"rsa-{bits}",
        bits=bits,
        strength=strength,
        # In the HSM they sign, or decrypt (Duty); which hashes of OAEP there are is the token's affair.
        uses=_by(_ALL, _SIGNING),
        micros=_cost(*micros),
        verify_micros=60,
    )


def _cmac(bits: int, spec: KeySpec) -> Algorithm:
    return Algorithm(
        name=f"aes{bits}-cmac",
        kind=Kind.CMAC,
        spec=spec,
        bits=bits,
        strength=bits,
        uses=_by(frozenset({Use.CMAC}), frozenset({Use.CMAC})),
        micros=_cost(6, 40),
    )


def _kwp(bits: int) -> Algorithm:
    return Algorithm(
        name=f"aes{bits}-kwp",
        kind=Kind.KWP,
        spec=None,
        bits=bits,
        strength=bits,
        uses=_by(frozenset({Use.WRAP}), None),
        micros=_cost(15, 0),
    )


def _mldsa(level: int, strength: int, micros: int) -> Algorithm:
    return Algorithm(
        name=f"mldsa-{level}",
        kind=Kind.MLDSA,
        spec=None,
        title=f"mldsa-{level}",
        bits=256,
        strength=strength,
        uses=_by(_SIGNING, None),
        micros=_cost(micros, 0),
        verify_micros=micros // 2,
    )


def _mlkem(level: int, strength: int) -> Algorithm:
    return Algorithm(
        name=f"mlkem-{level}",
        kind=Kind.MLKEM,
        spec=None,
        title=f"mlkem-{level}",
        bits=512,
        strength=strength,
        uses=_by(frozenset({Use.ENCAPSULATE}), None),
        micros=_cost(120, 0),
    )


_TABLE: Final = (
    _aes(128, KeySpec.AES_128),
    _aes(256, KeySpec.AES_256),
    _chacha("chacha20-poly1305", 12),
    _chacha("xchacha20-poly1305", 24),
    Algorithm(
        name="ed25519",
        kind=Kind.EDWARDS,
        spec=KeySpec.ED25519,
        title="ed25519",
        bits=256,
        strength=128,
        default=Protection.HSM,
        uses=_by(_SIGNING, _SIGNING),
        micros=_cost(70, 520),
        verify_micros=150,
        derivable=True,
    ),
    _ec(256, KeySpec.EC_P256, 128, (60, 140, 120)),
    _ec(384, KeySpec.EC_P384, 192, (600, 2_200, 800)),
    _ec(521, KeySpec.EC_P521, 256, (900, 3_500, 900)),
    # For ledgers and their wallets (SEC 2; JWS calls it ES256K, RFC 8812); no NIST curve, so not approved.
    Algorithm(
        name="ecdsa-secp256k1",
        kind=Kind.EC,
        spec=None,
        title="secp256k1",
        bits=256,
        strength=128,
        uses=_by(_SIGNING, None),
        micros=_cost(600, 0),
        verify_micros=500,
        status=Status.NOT_APPROVED,
    ),
    _rsa(2048, KeySpec.RSA_2048, 112, (1_600, 1_600)),
    _rsa(3072, KeySpec.RSA_3072, 128, (2_600, 4_500)),
    _rsa(4096, KeySpec.RSA_4096, 128, (4_000, 9_000)),
    Algorithm(
        name="hmac",
        kind=Kind.MAC,
        spec=KeySpec.HMAC,
        bits=256,
        strength=256,
        uses=_by(frozenset({Use.MAC}), frozenset({Use.MAC})),
        micros=_cost(3, 40),
    ),
    _cmac(128, KeySpec.AES_128),
    _cmac(192, KeySpec.AES_192),
    _cmac(256, KeySpec.AES_256),
    _kwp(128),
    _kwp(192),
    _kwp(256),
    _mldsa(44, 128, 900),
    _mldsa(65, 192, 1_400),
    _mldsa(87, 256, 1_800),
    _mlkem(768, 192),
    _mlkem(1024, 256),
)

ALGORITHMS: Final = MappingProxyType({row.name: row for row in _TABLE})

DEFAULT_TYPE: Final = "aes256-gcm96"
# Bytes of an HMAC key: the HSM makes 32; software keys may be of any size in this range.
HMAC_BYTES: Final = 32
MIN_HMAC_BYTES: Final = 32
MAX_HMAC_BYTES: Final = 512
