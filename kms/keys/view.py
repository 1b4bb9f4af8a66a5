"""The key object of the transit API, as create, read, rotate and config answer it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from kms.clock import rfc3339
from kms.keys.aead import Derivation
from kms.keys.catalogue import Kind, Use
from kms.keys.life import shown
from kms.keys.model import KeyVersion, NamedKey, VersionState, WrappedMaterial
from kms.keys.store import ALIASES, KEY_VERSIONS
from kms.tables import Reader

PublicOf = Callable[[KeyVersion], str]


def key_object(
    reader: Reader, key: NamedKey, public_of: PublicOf | None = None, now: float = 0.0
) -> dict[str, Any]:
    """Everything public about a key. Reads one row per version; not for the hot path.

    Args:
        reader: where the versions are.
        key: as it now stands.
        public_of: gives the public keys of a derived pair, which has one per context and none itself.
        now: Unix seconds, as a date may have changed its state; 0 for a key that was written just now.
    """
    algorithm, protection = key.algorithm, key.protection
    data: dict[str, Any] = {
        "name": key.name,
        "type": key.type,
        "protection": protection.value,
        "derived": key.derived,
        "deletion_allowed": key.deletion_allowed,
        "exportable": key.exportable,
        "allow_plaintext_backup": key.allow_plaintext_backup,
        "auto_rotate_period": key.auto_rotate_period,
        "imported_key": key.imported,
        "latest_version": key.latest_version,
        "min_available_version": key.min_available_version,
        "min_decryption_version": key.min_decryption_version,
        "min_encryption_version": key.min_encryption_version,
        "supports_encryption": key.allows(Use.ENCRYPT),
        "supports_decryption": key.allows(Use.DECRYPT),
        "supports_signing": key.allows(Use.SIGN),
        "supports_derivation": algorithm.derivable,
        "soft_deleted": key.soft_deleted,
        **shown(key.life, key.created, now),
        "aliases": [row.key.partition("/")[2] for row in reader.find(ALIASES, {"key_id": key.id})],
    }
    data |= _of_the_hsm(reader, key)
    if key.derived:
        data |= {"kdf": "hkdf_sha256", "convergent_encryption": key.convergent_encryption}
    if key.convergent_encryption:
        data["convergent_encryption_version"] = -1  # each version says for itself which scheme it has
    if key.imported:
        data["imported_key_allow_rotation"] = key.allow_rotation
    for member, transfer in (("backup_info", key.backed_up), ("restore_info", key.restored)):
        if transfer is not None:
            data[member] = {"time": rfc3339(transfer.at), "version": transfer.version}
    if algorithm.kind is Kind.MAC:
        data["key_size"] = key.key_size
    else:
        if key.derived and public_of is None:
            public_of = _none
        data["keys"] = {
            str(v.version): _version(algorithm.title, v, public_of or public_text)
            for v in _usable(reader, key)
        }
    return data


def _usable(reader: Reader, key: NamedKey) -> list[KeyVersion]:
    versions = (row.value for row in reader.scan(KEY_VERSIONS, f"{key.id}/"))
    return [
        version
        for version in versions
        if version.state is VersionState.ACTIVE and version.version >= key.min_decryption_version
    ]


def _of_the_hsm(reader: Reader, key: NamedKey) -> dict[str, Any]:
    """What only keys of protection hsm have."""
    data: dict[str, Any] = {}
    if key.purpose:
        data["purpose"] = key.purpose.value
    if key.oaep_hash:
        data["hash_function"] = key.oaep_hash.upper()
    if key.multi_token:
        data |= {"multi_token": True, "multi_token_versions": _shared(reader, key)}
    return data


def _shared(reader: Reader, key: NamedKey) -> list[int]:
    """Versions that are wrapped under a root which several tokens hold; others were born when there was one token."""
    return [
        version.version
        for version in _usable(reader, key)
        if isinstance(version.material, WrappedMaterial) and version.material.joint
    ]


def _none(_version: KeyVersion) -> str:
    return ""


def _version(title: str, version: KeyVersion, public_of: PublicOf) -> int | dict[str, str]:
    if not title:
        return int(version.created)
    return {
        "certificate_chain": version.certificate_chain,
        "creation_time": rfc3339(version.created),
        "name": title,
        "public_key": public_of(version),
    }


def public_text(version: KeyVersion) -> str:
    """The public key as the Vault API writes it: PEM for EC and RSA, the raw bytes in base64 for others."""
    public = load_der_public_key(version.public)
    if not isinstance(public, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raw: bytes = public.public_bytes_raw()  # type: ignore[union-attr]  # every other type that we make has it
        return b64encode(raw).decode()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def public_of_context(derivation: Derivation, context: bytes) -> str:
    """The public key of a context of a derived Ed25519 key, in the same form."""
    return b64encode(derivation.signer(context).public_key().public_bytes_raw()).decode()
