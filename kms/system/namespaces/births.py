"""A new namespace: its name, its row and the mounts that are born with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from kms.errors import invalid
from kms.ids import base62, new_uuid
from kms.namespaces import NAMESPACES, Namespace
from kms.namespaces.model import ID_LENGTH
from kms.operation import NamespaceRef
from kms.system.mounts import BUILTIN, MOUNTS, demand_free, new_mount
from kms.tables import Row, Transaction

MAX_NAME: Final = 128
MAX_PATH: Final = 512
"""Characters of a full path; with it the depth has an end."""
MAX_METADATA: Final = 128
MAX_METADATA_TEXT: Final = 4096
_RESERVED: Final = frozenset({"root", "sys", "audit", "auth", "cubbyhole", "identity"})
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*\Z")  # as the segments of mounts: one spelling


def checked_name(path: object) -> str:
    """The name of a namespace, as it is called inside the one above it.

    Raises:
        KmsError(INVALID): more than one level, reserved, or with characters that have two spellings.
    """
    name = str(path or "").removesuffix("/")
    if "/" in name:
        raise invalid("namespace name cannot contain /")
    if name in _RESERVED:
        raise invalid(f'"{name}/" is a reserved path and cannot be used as a namespace name')
    for sign in "+*":
        if sign in name:
            raise invalid(
                f"\"{name}\" contains wildcard characters that cannot be used in a namespace name: '{sign}'"
            )
    if " " in name:
        raise invalid(f'"{name}" contains space characters that cannot be used in a namespace name')
    if len(name) > MAX_NAME or not _NAME.match(name):
        raise invalid(f"a namespace name has 1 to {MAX_NAME} letters, digits, '_', '-' and '.'")
    return name


def metadata(given: Mapping[str, Any] | None) -> dict[str, str]:
    """Custom metadata as it is kept. Raises KmsError(INVALID)."""
    kept = dict(given or {})
    if not all(isinstance(value, str) for value in kept.values()):
        raise invalid("custom_metadata values must be strings")
    if len(kept) > MAX_METADATA or any(
        len(name) > MAX_METADATA_TEXT or len(value) > MAX_METADATA_TEXT for name, value in kept.items()
    ):
        raise invalid(
            f"custom_metadata holds at most {MAX_METADATA} pairs of texts up to {MAX_METADATA_TEXT} characters"
        )
    return kept


def born(tx: Transaction, above: NamespaceRef, name: str, kept: dict[str, str]) -> Row[Namespace]:
    """Write a new namespace with its mounts; the caller has made sure that the one above lives and that this is none.

    Raises:
        KmsError(INVALID): a mount has the path, or lies below it; or the path is too long.
    """
    path = f"{above.path}{name}/"
    if len(path) > MAX_PATH:
        raise invalid(f"the full path of a namespace has at most {MAX_PATH} characters")
    demand_free(tx, path, above, "new namespace conflicts with existing mount: {}")
    row = tx.insert(NAMESPACES, path, Namespace(id=base62(ID_LENGTH), uuid=new_uuid(), custom_metadata=kept))
    for place, kind, description in BUILTIN:
        accessor = "auth_token" if kind == "token" else kind
        mount = msgspec.structs.replace(
            new_mount(accessor, description, builtin=True),
            type=kind,
            namespace=row.value.id,
            namespace_path=path,
        )
        tx.insert(MOUNTS, path + place, mount)
    return row
