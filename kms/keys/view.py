"""The key object of the transit API, as create, read, rotate and config answer it."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from kms.clock import rfc3339
from kms.keys.catalogue import Kind, Use
from kms.keys.model import KeyVersion, NamedKey, VersionState
from kms.keys.store import KEY_VERSIONS
from kms.tables import Reader


def key_object(reader: Reader, key: NamedKey) -> dict[str, Any]:
    """Everything public about a key. Reads one row per version; not for the hot path."""
    algorithm, protection = key.algorithm, key.protection
    data: dict[str, Any] = {
        "name": key.name,
        "type": key.type,
        "protection": protection.value,
        "derived": False,
        "deletion_allowed": key.deletion_allowed,
        "exportable": key.exportable,
        "allow_plaintext_backup": key.allow_plaintext_backup,
        "auto_rotate_period": key.auto_rotate_period,
        "imported_key": False,
        "latest_version": key.latest_version,
        "min_available_version": key.min_available_version,
        "min_decryption_version": key.min_decryption_version,
        "min_encryption_version": key.min_encryption_version,
        "supports_encryption": algorithm.allows(Use.ENCRYPT, protection),
        "supports_decryption": algorithm.allows(Use.DECRYPT, protection),
        "supports_signing": algorithm.allows(Use.SIGN, protection),
        "supports_derivation": algorithm.derivable,
        "soft_deleted": False,
    }
    if algorithm.kind is Kind.MAC:
        data["key_size"] = key.key_size
    else:
        data["keys"] = {str(v.version): _version(algorithm.title, v) for v in _usable(reader, key)}
    return data


def _usable(reader: Reader, key: NamedKey) -> list[KeyVersion]:
    versions = (row.value for row in reader.scan(KEY_VERSIONS, f"{key.id}/"))
    return [
        version
        for version in versions
        if version.state is VersionState.ACTIVE and version.version >= key.min_decryption_version
    ]


def _version(title: str, version: KeyVersion) -> int | dict[str, str]:
    if not title:
        return int(version.created)
    public = load_der_public_key(version.public)
    if title == "ed25519":
        # The Vault API gives the 32 raw bytes in base64 here, not PEM.
        text = b64encode(public.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
    else:
        text = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return {
        "certificate_chain": "",
        "creation_time": rfc3339(version.created),
        "name": title,
        "public_key": text,
    }
