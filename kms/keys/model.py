"""Named keys as they are stored, and the pure rules about them. Knows no database and no HSM.

A *name* (mount, name) points at a *key* (an id that is never used again), which has *versions*
numbered from 1. `NamedKey.latest_version` is the one primary version: it alone encrypts and signs by
default. Numbers are allotted by `NamedKey.allotted`, which only grows: a version whose making failed
leaves a gap, never a number that comes twice.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

import msgspec

from kms.hsm import KeyRef, KeySpec, Purpose, Resident, Wrapped
from kms.ids import CkaId
from kms.keys.catalogue import ALGORITHMS, Algorithm, Duty, Protection, Use
from kms.keys.life import NEVER, Life
from kms.keys.states import State


class RootProvider(Protocol):
    """Where the wrapping keys come from."""

    def candidates(self, purpose: Purpose) -> list[CkaId]:
        """CKA_IDs of the active roots of this purpose, the one first that new blobs are wrapped under if its token answers.

        Raises:
            KmsError(UNINITIALIZED): there is none.
        """
        ...


class JointProvider(Protocol):
    """Where wrapping keys come from that several HSM tokens hold."""

    def current(self, purpose: Purpose, *, first: bool) -> CkaId | None:
        """CKA_ID of the one of this purpose (kms.keys.joint.JointRoots)."""
        ...


class VersionState(StrEnum):
    """Where the material of one version stands (SP 800-57)."""

    PLANNED = "planned"  # its HSM object may or may not exist yet; not usable
    ACTIVE = "active"
    ABANDONED = "abandoned"  # its making failed; an object may have been left in the HSM
    CLEARED = "cleared"  # its making failed, and nothing of it is in the HSM
    RETIRED = "retired"  # trimmed: waits for its destruction, and can be restored until then
    DESTROYED = "destroyed"  # the row stays as a record; nothing of the material is left


class SoftwareMaterial(msgspec.Struct, frozen=True, tag="software"):
    """Key bytes, protected by the seal of the row that holds them.

    `secret` is a raw key (symmetric) or PKCS#8 DER. It is bytes because rows are encoded as they are;
    whoever takes it out puts it into a cipher object at once.
    """

    secret: bytes

    def __repr__(self) -> str:
        return f"<SoftwareMaterial {len(self.secret)} bytes>"


class WrappedMaterial(msgspec.Struct, frozen=True, tag="wrapped"):
    """A key that only the HSM can open: the fields of `kms.hsm.Wrapped`."""

    purpose: str
    spec: str
    wrapping: bytes
    blob: bytes
    probe: bytes
    context: bytes
    public: bytes
    joint: bool = False


class ResidentMaterial(msgspec.Struct, frozen=True, tag="resident"):
    """A key that lives in the HSM as a token object. `imported`: it was unwrapped there, not born."""

    purpose: str
    spec: str
    cka_id: bytes
    imported: bool = False


class NoMaterial(msgspec.Struct, frozen=True, tag="none"):
    """No secret half: only the public key was imported, or the material is destroyed."""


Material = SoftwareMaterial | WrappedMaterial | ResidentMaterial | NoMaterial


class Transfer(msgspec.Struct, frozen=True):
    """When a key was backed up or restored (Unix seconds), and its newest version then."""

    at: float
    version: int


class NamedKey(msgspec.Struct, frozen=True, kw_only=True):
    """What a name stands for.

    Args:
        id: 32 hex characters; a name may be used again after deletion, an id never.
        allotted: the highest version number ever given out.
        auto_rotate_period: seconds, 0 = never.
        key_size: bytes of an hmac key, else 0.
        derived: used only through keys that are derived from it per context.
        allow_rotation: whether an imported key may get versions that are born here.
        soft_deleted: refused for every use until it is restored.
        rotated: when the newest version was made (Unix seconds).
        life: its state, dates and owner.
        purpose: what an `hsm` pair is for; others do all that their type can.
        oaep_hash: of an `hsm` RSA key that decrypts, else "".
        multi_token: its versions are wrapped under a root that several HSM tokens hold.
    """

    id: str
    mount: str
    name: str
    type: str
    protection: Protection
    created: float
    latest_version: int = 1
    allotted: int = 1
    min_decryption_version: int = 1
    min_encryption_version: int = 0
    min_available_version: int = 0
    deletion_allowed: bool = False
    exportable: bool = False
    allow_plaintext_backup: bool = False
    auto_rotate_period: int = 0
    key_size: int = 0
    derived: bool = False
    convergent_encryption: bool = False
    imported: bool = False
    allow_rotation: bool = True
    soft_deleted: bool = False
    rotated: float = 0.0
    backed_up: Transfer | None = None
    restored: Transfer | None = None
    life: Life = Life()
    purpose: Duty = Duty.ANY
    oaep_hash: str = ""
    multi_token: bool = False

    @property
    def rotate_at(self) -> float:
        """When the jobs process has something to do for this key (Unix seconds), or NEVER.

        An index column, older than dates of state, hence its name.
        """
        return min(self.rotation_due, self.life.turn_at)

    @property
    def rotation_due(self) -> float:
        """When the next version is made (Unix seconds), or NEVER."""
        due = (
            self.auto_rotate_period
            and not self.soft_deleted
            and self.life.state is State.ACTIVE
            and (self.allow_rotation or not self.imported)
        )
        return max(self.rotated, self.created) + self.auto_rotate_period if due else NEVER

    @property
    def algorithm(self) -> Algorithm:
        """The row of the catalogue."""
        return ALGORITHMS[self.type]

    def allows(self, use: Use) -> bool:
        """Whether it may be asked to do this: an `hsm` pair that decrypts or derives never signs."""
        if self.purpose is Duty.DECRYPT:
            return use in (Use.ENCRYPT, Use.DECRYPT)
        return self.purpose is not Duty.DERIVE and self.algorithm.allows(use, self.protection)


class KeyVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One version's material. `public` is SubjectPublicKeyInfo DER, empty for symmetric types.

    Args:
        mac: the separate HMAC key that every version of a non-hmac key has; None for type hmac,
            whose `material` is the HMAC key.
        wrapping: hex CKA_ID of the root that wraps `material`, "" where none does; `mac_wrapping`
            the same for `mac`. Index columns: what still needs an old root is one count.
        planned_key: while planned, the key that this first version will belong to.
        certificate_chain: PEM, leaf first, as it was set for this version.
    """

    key_id: str
    version: int
    state: VersionState
    created: float
    material: Material
    mac: Material | None
    public: bytes = b""
    wrapping: str = ""
    mac_wrapping: str = ""
    planned_key: NamedKey | None = None
    certificate_chain: str = ""


class RetiredKey(msgspec.Struct, frozen=True, kw_only=True):
    """Material that waits for its destruction: of a deleted key, or of versions that were trimmed.

    Args:
        key: as it was. Once the material is destroyed this row stays as a record of it.
        deleted: Unix seconds.
        destroy_after: Unix seconds; NEVER once its destruction was called off or is done.
        first: the oldest trimmed version, 0 for a whole key.
        last: the newest trimmed version, 0 for a whole key.
        destroying: destruction has begun; nothing can be restored any more.
        destroyed: Unix seconds, 0 while the material exists.
    """

    key: NamedKey
    deleted: float
    destroy_after: float
    first: int = 0
    last: int = 0
    destroying: bool = False
    destroyed: float = 0.0


class MountSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What transit/config/keys and transit/cache-config hold for one mount.

    Args:
        disable_upsert: whether encrypt never makes a key.
        cache_size: as the Vault API has it; keys in memory are bounded by kms.keys.live instead.
        allowed_types: of new keys; empty for all.
        min_strength: of new keys, in bits of security.
        protection: of new keys; "" for any.
    """

    disable_upsert: bool = False
    cache_size: int = 0
    allowed_types: tuple[str, ...] = ()
    min_strength: int = 0
    protection: str = ""


class ImportKey(msgspec.Struct, frozen=True, kw_only=True):
    """The pair that callers wrap keys for a mount with. `public` is SubjectPublicKeyInfo DER."""

    created: float
    material: Material
    public: bytes


class JointRoot(msgspec.Struct, frozen=True, kw_only=True):
    """A wrapping root that several HSM tokens hold under one CKA_ID. Holds nothing secret.

    Args:
        purpose: ROOT_WRAP_*.
        state: of kms.keys.roots.
        version: of the roots that the tokens had of their own when it was made; 0 once one of them was given up.
        created: Unix seconds.
        attempt: who made it.
        tokens: the names of those that it was put into.
    """

    purpose: str
    state: str
    version: int
    created: float
    attempt: str
    tokens: tuple[str, ...]


class KeyUsage(msgspec.Struct, frozen=True, kw_only=True):
    """How many uses of one AEAD key version have been handed out to workers (SP 800-38D 8.3)."""

    drawn: int
    drawn_at: float


class Alias(msgspec.Struct, frozen=True, kw_only=True):
    """A second name of a key.

    Args:
        name: of the key that it points to.
        key_id: of that key: a new key that gets the name is not meant.
        created: Unix seconds; `moved` when it was last pointed somewhere else.
    """

    name: str
    key_id: str
    created: float
    moved: float


def to_material(ref: KeyRef) -> WrappedMaterial | ResidentMaterial:
    """The stored form of an HSM key reference."""
    if isinstance(ref, Resident):
        return ResidentMaterial(ref.purpose.value, ref.spec.value, ref.cka_id, ref.imported)
    return WrappedMaterial(
        ref.purpose.value,
        ref.spec.value,
        ref.wrapping,
        ref.blob,
        ref.probe,
        ref.context,
        ref.public,
        ref.joint,
    )


def to_ref(material: WrappedMaterial | ResidentMaterial) -> KeyRef:
    """The HSM key reference of a stored form."""
    purpose, spec = Purpose(material.purpose), KeySpec(material.spec)
    if isinstance(material, ResidentMaterial):
        return Resident(CkaId(material.cka_id), purpose, spec, material.imported)
    return Wrapped(
        purpose,
        spec,
        CkaId(material.wrapping),
        material.blob,
        material.probe,
        material.context,
        material.public,
        material.joint,
    )


def wrapping_of(material: Material | None) -> str:
    """Hex CKA_ID of the root that wraps this material, or ""."""
    return material.wrapping.hex() if isinstance(material, WrappedMaterial) else ""
