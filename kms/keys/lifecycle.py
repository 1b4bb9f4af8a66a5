"""The rules of named keys, as pure functions: what may be created, configured, and used when.

Error texts are those of the Vault API, which clients match.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from kms.errors import ErrorKind, KmsError, invalid
from kms.keys.catalogue import (
    ALGORITHMS,
    DEFAULT_TYPE,
    HMAC_BYTES,
    MAX_HMAC_BYTES,
    MIN_HMAC_BYTES,
    Algorithm,
    Duty,
    Kind,
    Protection,
    Use,
)
from kms.keys.life import Life, check_act, check_version
from kms.keys.lifefields import configured
from kms.keys.model import KeyVersion, NamedKey
from kms.keys.states import Act

DEFAULT_OAEP: Final = "sha256"  # what the Vault API fixes; a token may know only another
OAEP_HASHES: Final = ("sha1", "sha224", "sha256", "sha384", "sha512")
MIN_AUTO_ROTATE_SECONDS: Final = 3600
_NUMBERING = (
    "since Vault 0.3 (prior to the OpenBao fork), transit key numbering starts at 1; forcing minimum to 1"
)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller asks of a new key. `protection`, `purpose`, `hash_function` are "" when not given."""

    type: str = DEFAULT_TYPE
    protection: str = ""
    purpose: str = ""
    hash_function: str = ""
    derived: bool = False
    convergent_encryption: bool = False
    exportable: bool = False
    allow_plaintext_backup: bool = False
    auto_rotate_period: int = 0
    key_size: int = 0
    multi_token: bool = False
    life: Life = field(default_factory=Life)


def check_wish(wish: Wish) -> Algorithm:
    """What is wrong with a wish whatever the key: asked even when the name has a key already.

    Raises:
        KmsError(INVALID): unknown type, a size for a type that has one, convergence without derivation,
            a period of less than an hour.
    """
    algorithm = ALGORITHMS.get(wish.type)
    if algorithm is None:
        raise invalid(f"unknown key type {wish.type}")
    if wish.convergent_encryption and not wish.derived:
        raise invalid("convergent encryption requires derivation to be enabled")
    if wish.key_size and algorithm.kind is not Kind.MAC:
        raise invalid(f"key_size is not valid for algorithm {algorithm.name}")
    _check_period(wish.auto_rotate_period)
    return algorithm


def plan(key_id: str, mount: str, name: str, wish: Wish, now: float) -> NamedKey:
    """The key that answers a wish.

    Raises:
        KmsError(INVALID): unknown type, or properties that do not go together.
    """
    algorithm = check_wish(wish)
    if wish.derived:
        if not algorithm.derivable:
            raise invalid(
                f"key derivation and convergent encryption not supported for keys of type {algorithm.name}"
            )
        if wish.convergent_encryption and not algorithm.convergent:
            raise invalid(f"convergent encryption not supported for keys of type {algorithm.name}")
    protection = _protection(algorithm, wish)
    if wish.multi_token and protection is not Protection.HSM:
        raise invalid("multi_token is for keys of protection hsm: a software key is bound to no token")
    return NamedKey(
        id=key_id,
        mount=mount,
        name=name,
        type=algorithm.name,
        protection=protection,
        created=now,
        exportable=wish.exportable,
        allow_plaintext_backup=wish.allow_plaintext_backup,
        auto_rotate_period=wish.auto_rotate_period,
        key_size=_key_size(algorithm, protection, wish.key_size),
        derived=wish.derived,
        convergent_encryption=wish.convergent_encryption,
        multi_token=wish.multi_token,
        life=wish.life,
        **_duty(algorithm, protection, wish),
    )


def _protection(algorithm: Algorithm, wish: Wish) -> Protection:
    asked = [flag for flag in ("exportable", "allow_plaintext_backup", "derived") if getattr(wish, flag)]
    clear = asked[0] if asked else ""
    if not wish.protection:
        return Protection.SOFTWARE if clear else algorithm.default
    try:
        protection = Protection(wish.protection)
    except ValueError:
        raise invalid(f"unknown protection {wish.protection}; use 'software' or 'hsm'") from None
    if protection is Protection.HSM and clear:
        raise invalid(f"{clear} cannot be set on a key of protection hsm: its bytes never leave the HSM")
    if protection not in algorithm.uses:
        raise invalid(f"keys of type {algorithm.name} cannot have protection {protection.value}")
    return protection


def _duty(algorithm: Algorithm, protection: Protection, wish: Wish) -> dict[str, Any]:
    """What an `hsm` pair is for. A software pair does all that its type can, and names no hash."""
    try:
        duty = Duty(wish.purpose)
    except ValueError:
        raise invalid(f"unknown purpose {wish.purpose}; use 'sign', 'decrypt' or 'derive'") from None
    if protection is Protection.SOFTWARE:
        return {}
    fits = {Duty.DECRYPT: Kind.RSA, Duty.DERIVE: Kind.EC}.get(duty, algorithm.kind)
    if fits is not algorithm.kind or (duty is Duty.SIGN and not algorithm.allows(Use.SIGN, protection)):
        raise invalid(f"keys of type {algorithm.name} with protection hsm do not have the purpose {duty}")
    if duty is not Duty.DECRYPT:
        return {"purpose": duty}
    hash_name = (wish.hash_function or DEFAULT_OAEP).lower()
    if hash_name not in OAEP_HASHES:
        raise invalid(f"unknown hash function: {wish.hash_function}")
    return {"purpose": duty, "oaep_hash": hash_name}


def _key_size(algorithm: Algorithm, protection: Protection, wanted: int) -> int:
    if algorithm.kind is not Kind.MAC:
        return 0
    size = wanted or HMAC_BYTES
    if not MIN_HMAC_BYTES <= size <= MAX_HMAC_BYTES:
        raise invalid(f"invalid key_size {wanted}")
    if protection is Protection.HSM and size != HMAC_BYTES:
        raise invalid(f"hmac keys of protection hsm have a key_size of {HMAC_BYTES}")
    return size


def _check_period(seconds: int) -> None:
    if seconds != 0 and seconds < MIN_AUTO_ROTATE_SECONDS:
        raise invalid("auto rotate period must be 0 to disable or at least an hour")


def configure(key: NamedKey, given: Mapping[str, Any], now: float) -> tuple[NamedKey, tuple[str, ...]]:
    """The key after `config` with the fields that the caller gave, and warnings for him.

    `exportable` and `allow_plaintext_backup` can be set but never taken back, as whoever exported
    has the bytes.

    Raises:
        KmsError(INVALID): nothing is changed then.
    """
    changes: dict[str, Any] = {}
    warnings: list[str] = []
    if "min_decryption_version" in given:
        wanted = given["min_decryption_version"]
        _check_minimum(key, "decryption", wanted)
        if wanted == 0:
            wanted = 1
            warnings.append(_NUMBERING)
        changes["min_decryption_version"] = wanted
    if "min_encryption_version" in given:
        _check_minimum(key, "encryption", given["min_encryption_version"])
        changes["min_encryption_version"] = given["min_encryption_version"]
    if "auto_rotate_period" in given:
        _check_period(given["auto_rotate_period"])
        changes["auto_rotate_period"] = given["auto_rotate_period"]
    if "deletion_allowed" in given:
        changes["deletion_allowed"] = given["deletion_allowed"]
    for flag in ("exportable", "allow_plaintext_backup"):
        if given.get(flag):
            if key.protection is Protection.HSM:
                raise invalid(
                    f"{flag} cannot be set on a key of protection hsm: its bytes never leave the HSM"
                )
            changes[flag] = True
    changes["life"] = configured(key.life, given, now)
    changed = msgspec.structs.replace(key, **changes)
    _check_available(changed, given)
    encryption, decryption = changed.min_encryption_version, changed.min_decryption_version
    if 0 < encryption < decryption:
        raise invalid(
            "cannot set min encryption/decryption values; "
            f"min encryption version of {encryption} must be greater than or equal to "
            f"min decryption version of {decryption}"
        )
    return changed, tuple(warnings)


def _check_available(key: NamedKey, given: Mapping[str, Any]) -> None:
    """What is trimmed cannot be allowed again; restoring it is another verb."""
    if "min_decryption_version" in given and key.min_decryption_version < key.min_available_version:
        raise invalid("min decryption version should not be less then min available version")
    # 0 means the newest, which a trimmed key may not fall back to silently.
    if "min_encryption_version" in given and key.min_encryption_version == 0 < key.min_available_version:
        raise invalid("min encryption version should not be less than min available version")


def trim(key: NamedKey, wanted: int) -> NamedKey:
    """The key after its versions below `wanted` became unavailable.

    Raises:
        KmsError(INVALID): they are still allowed to decrypt, or `wanted` goes back.
    """
    if wanted < key.min_available_version:
        raise invalid("minimum available version cannot be decremented")
    if key.min_encryption_version == 0:
        raise invalid("minimum available version cannot be set when minimum encryption version is not set")
    if wanted > key.min_encryption_version:
        raise invalid("minimum available version cannot be greater than minmum encryption version")
    if wanted > key.min_decryption_version:
        raise invalid("minimum available version cannot be greater than minimum decryption version")
    if wanted == 0:
        raise invalid("minimum available version should be positive")
    return msgspec.structs.replace(key, min_available_version=wanted)


MIN_WAIT_DAYS: Final = 7
MAX_WAIT_DAYS: Final = 30


def destruction_time(now: float, days: int) -> float:
    """When material that is retired now may be destroyed (Unix seconds).

    Raises:
        KmsError(INVALID): the waiting time is out of its bounds, which nothing shortens.
    """
    if not MIN_WAIT_DAYS <= days <= MAX_WAIT_DAYS:
        raise invalid(f"waiting_days is {MIN_WAIT_DAYS} to {MAX_WAIT_DAYS}: destruction waits that long")
    return now + days * 86_400.0


def _check_minimum(key: NamedKey, what: str, wanted: int) -> None:
    if wanted < 0:
        raise invalid(f"min {what} version cannot be negative")
    if wanted > key.latest_version:
        raise invalid(
            f"cannot set min {what} version of {wanted}, latest key version is {key.latest_version}"
        )


def protecting_version(key: NamedKey, requested: int, what: str) -> int:
    """Which version encrypts or signs (`what` is "encryption" or "signing"); 0 asks for the newest.

    Raises:
        KmsError(INVALID): that version may not.
    """
    if requested in (0, key.latest_version):
        return key.latest_version
    if requested < 0:
        raise invalid(f"requested version for {what} is negative")
    if requested > key.latest_version:
        raise invalid(f"requested version for {what} is higher than the latest key version")
    if requested < key.min_encryption_version:
        raise invalid(f"requested version for {what} is less than the minimum encryption key version")
    if requested < key.min_decryption_version:
        raise invalid("no such key version")
    return requested


def processing_version(key: NamedKey, number: int, what: str) -> int:
    """Check the version that a ciphertext or signature (`what`) names.

    Raises:
        KmsError(INVALID): it is above the newest, or below the minimum.
    """
    if number > key.latest_version:
        raise invalid(f"invalid {what}: version is too new")
    if number < key.min_decryption_version:
        raise invalid("ciphertext or signature version is disallowed by policy (too old)")
    return number


def mac_version(key: NamedKey, requested: int) -> int:
    """Which version makes an HMAC; 0 asks for the newest.

    Raises:
        KmsError(INVALID): that version may not.
    """
    if requested in (0, key.latest_version):
        return key.latest_version
    if requested < 0:
        raise invalid("key version does not exist (cannot be negative)")
    if requested < max(1, key.min_encryption_version, key.min_decryption_version):
        raise invalid("cannot generate HMAC: version is too old (disallowed by policy)")
    if requested > key.latest_version:
        raise invalid(f"key version does not exist; latest key version is {key.latest_version}")
    return requested


def check_rotation(key: NamedKey, now: float) -> None:
    """Raise KmsError(INVALID) unless new versions may be born here."""
    check_use(key, Act.ROTATE, now)
    if key.imported and not key.allow_rotation:
        raise invalid(f"imported key {key.name} does not allow rotation within Vault")
    refuse_soft_deleted(key)


def check_deletion(key: NamedKey) -> None:
    """Raise KmsError(INVALID) unless the key may be deleted."""
    if not key.deletion_allowed:
        raise invalid(f"error deleting policy {key.name}: deletion is not allowed for this key")


def check_use(key: NamedKey, act: Act, now: float) -> None:
    """Raise KmsError(INVALID) if the key's state does not allow this."""
    check_act(key.name, key.life, act, now)


def check_version_use(key: NamedKey, version: KeyVersion, act: Act, now: float) -> None:
    """Raise KmsError(INVALID) if one version may not do this: it is stolen, or past its cryptoperiod."""
    check_version(key.name, key.life, act, version.version, version.created, now)


def refuse_soft_deleted(key: NamedKey) -> None:
    """Raise KmsError(INVALID) if the key is soft-deleted."""
    if key.soft_deleted:
        raise invalid("refusing to use soft-deleted key")


def moved(key: NamedKey) -> KmsError:
    """Another request changed the key between our look and our write."""
    return KmsError(ErrorKind.CONFLICT, f"key {key.name} was changed by another request; try again")
