"""Tables of named keys. Row keys: a name is "<mount id>/<name>", a version "<key id>/<version>", retired
material "<mount id>/<pending id>", an alias "<mount id>/<alias>", a transition "<key id>/<number>".

Key state is a security domain: a row that is deleted or rolled back behind our back shows in the
state digest, so a key cannot be made to forget a rotation or its raised minimum version.
"""

from __future__ import annotations

from typing import Final

from kms.ids import KeyId
from kms.keys.life import Transition
from kms.keys.model import (
    Alias,
    ImportKey,
    JointRoot,
    KeyUsage,
    KeyVersion,
    MountSettings,
    NamedKey,
    RetiredKey,
)
from kms.tables import Table

DIGEST: Final = "keys"

NAMED_KEYS: Final = Table(
    "named-key", "named_keys", NamedKey, index=("rotate_at",), cached=True, digest=DIGEST
)
KEY_VERSIONS: Final = Table(
    "key-version",
    "key_versions",
    KeyVersion,
    index=("key_id", "state", "wrapping", "mac_wrapping"),
    cached=True,
    digest=DIGEST,
)
RETIRED_KEYS: Final = Table(
    "retired-key", "retired_keys", RetiredKey, index=("destroy_after",), digest=DIGEST
)
MOUNT_SETTINGS: Final = Table(
    "key-mount-settings", "key_mount_settings", MountSettings, cached=True, digest=DIGEST
)
IMPORT_KEYS: Final = Table("key-import", "import_keys", ImportKey, digest=DIGEST)
TRANSITIONS: Final = Table("key-transition", "key_transitions", Transition, digest=DIGEST)
ALIASES: Final = Table("key-alias", "key_aliases", Alias, index=("key_id",), cached=True, digest=DIGEST)
JOINT_ROOTS: Final = Table(
    "joint-root", "joint_roots", JointRoot, index=("purpose", "state"), cached=True, digest=DIGEST
)
# Usage is written by every worker as it draws; it is outside the digest so that a draw stays one row.
KEY_USAGE: Final = Table("key-usage", "key_usage", KeyUsage)

TABLES: Final = (
    NAMED_KEYS,
    KEY_VERSIONS,
    RETIRED_KEYS,
    MOUNT_SETTINGS,
    IMPORT_KEYS,
    TRANSITIONS,
    ALIASES,
    JOINT_ROOTS,
    KEY_USAGE,
)


def name_key(mount_id: str, name: str) -> str:
    """Row key of a name."""
    return f"{mount_id}/{name}"


def version_key(key_id: KeyId | str, version: int) -> str:
    """Row key of a version; zero-padded, so that rows sort by number."""
    return f"{key_id}/{version:08d}"
