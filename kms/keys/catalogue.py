"""The closed table of key types: our name -> what it is, may be used for, and costs.

Callers choose a purpose (by choosing a type) and a protection, never a mode or a mechanism. A type
that is not in this table does not exist; a use that a row does not list is refused by name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from kms.hsm import KeySpec


class Protection(StrEnum):
    """Where the bytes of a key may exist. Belongs to the key's name and never changes."""

    SOFTWARE = "software"  # a sealed row; in process memory while used
    HSM = "hsm"  # born in the HSM, never outside it


class Use(StrEnum):
    """What a key may be asked to do. Every key can also HMAC, with a separate key of its own."""

    ENCRYPT = "encrypt"
    DECRYPT = "decrypt"
    SIGN = "sign"
    MAC = "mac"


class Kind(StrEnum):
    """The family that decides formats and parameters."""

    AEAD = "aead"  # 12-byte nonce || ciphertext || 16-byte tag
    RSA = "rsa"  # OAEP-SHA256; PSS or PKCS#1 v1.5 signatures
    EC = "ec"  # ECDSA, asn1 or jws
    EDWARDS = "edwards"  # Ed25519, never pre-hashed
    MAC = "mac"


class Status(StrEnum):
    """Standing of the algorithm, for reports (SP 800-131A)."""

    APPROVED = "approved"
    NOT_APPROVED = "not-approved"  # sound, but outside FIPS 140


_ENCRYPTING: Final = frozenset({Use.ENCRYPT, Use.DECRYPT})
_SIGNING: Final = frozenset({Use.SIGN})
_ALL: Final = _ENCRYPTING | _SIGNING


@dataclass(frozen=True, slots=True)
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
        upsert: whether encrypt may create a key of this type.
    """

    name: str
    kind: Kind
    spec: KeySpec | None
    title: str
    bits: int
    strength: int
    default: Protection
    uses: MappingProxyType[Protection, frozenset[Use]]
    micros: MappingProxyType[Protection, int]
    upsert: bool = False
    status: Status = Status.APPROVED
    derivable: bool = field(default=False)

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
_TABLE: Final = (
    Algorithm(
        name="aes256-gcm96",
        kind=Kind.AEAD,
        spec=KeySpec.AES_256,
        title="",
        bits=256,
        strength=256,
        default=Protection.SOFTWARE,
        uses=_by(_ENCRYPTING, _ENCRYPTING),
        micros=_cost(3, 40),
        upsert=True,
        derivable=True,
    ),
    Algorithm(
        name="chacha20-poly1305",
        kind=Kind.AEAD,
        spec=None,
        title="",
        bits=256,
        strength=256,
        default=Protection.SOFTWARE,
        uses=_by(_ENCRYPTING, None),
        micros=_cost(4, 0),
        upsert=True,
        status=Status.NOT_APPROVED,
        derivable=True,
    ),
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
        derivable=True,
    ),
    Algorithm(
        name="ecdsa-p256",
        kind=Kind.EC,
        spec=KeySpec.EC_P256,
        title="P-256",
        bits=256,
        strength=128,
        default=Protection.HSM,
        uses=_by(_SIGNING, _SIGNING),
        micros=_cost(60, 140),
    ),
    Algorithm(
        name="ecdsa-p384",
        kind=Kind.EC,
        spec=KeySpec.EC_P384,
        title="P-384",
        bits=384,
        strength=192,
        default=Protection.HSM,
        uses=_by(_SIGNING, _SIGNING),
        micros=_cost(600, 2_200),
    ),
    Algorithm(
        name="rsa-2048",
        kind=Kind.RSA,
        spec=KeySpec.RSA_2048,
        title="rsa-2048",
        bits=2048,
        strength=112,
        default=Protection.SOFTWARE,
        # SoftHSM's OAEP knows SHA-1 only, and ours is SHA-256 (decision 8): hsm RSA keys sign only.
        uses=_by(_ALL, _SIGNING),
        micros=_cost(1_600, 1_600),
    ),
    Algorithm(
        name="rsa-4096",
        kind=Kind.RSA,
        spec=KeySpec.RSA_4096,
        title="rsa-4096",
        bits=4096,
        strength=128,
        default=Protection.SOFTWARE,
        uses=_by(_ALL, _SIGNING),
        micros=_cost(4_000, 9_000),
    ),
    Algorithm(
        name="hmac",
        kind=Kind.MAC,
        spec=KeySpec.HMAC,
        title="",
        bits=256,
        strength=256,
        default=Protection.SOFTWARE,
        uses=_by(frozenset({Use.MAC}), frozenset({Use.MAC})),
        micros=_cost(3, 40),
    ),
)

ALGORITHMS: Final = MappingProxyType({row.name: row for row in _TABLE})

DEFAULT_TYPE: Final = "aes256-gcm96"
# Bytes of an HMAC key: the HSM makes 32; software keys may be of any size in this range.
HMAC_BYTES: Final = 32
MIN_HMAC_BYTES: Final = 32
MAX_HMAC_BYTES: Final = 512
