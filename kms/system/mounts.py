"""Mounts: which engine answers under which path. Several mounts of one engine have nothing in common."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

import msgspec

from kms.errors import invalid
from kms.ids import base62, new_id, new_uuid
from kms.namespaces import NAMESPACES
from kms.operation import ROOT_NAMESPACE, LockoutRule, MountRef, NamespaceRef
from kms.tables import Reader, Row, Store, Table, Transaction
from kms.wholetable import WholeTable

# One canonical spelling: lower- and upper-case letters, digits, '_', '-', '.', segments joined by '/'.
_PATH = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.\-]*/)+\Z")
MAX_PATH = 256


class Mount(msgspec.Struct, frozen=True, kw_only=True):
    """One mounted engine. The row key is the full path, which ends in '/'.

    Args:
        namespace: ID of the namespace, "" for the root namespace.
        namespace_path: its full path, so that a mount is known by its own row; namespaces are never renamed.
    """

    id: str
    uuid: str
    type: str
    accessor: str
    description: str = ""
    default_lease_ttl: int = 0
    max_lease_ttl: int = 0
    listing_visibility: str = ""
    options: dict[str, str] | None = None
    builtin: bool = False
    audit_non_hmac_request_keys: tuple[str, ...] = ()
    audit_non_hmac_response_keys: tuple[str, ...] = ()
    passthrough_request_headers: tuple[str, ...] = ()
    allowed_response_headers: tuple[str, ...] = ()
    token_type: str = ""
    local: bool = False
    seal_wrap: bool = False
    lockout: LockoutRule | None = None
    namespace: str = ""
    namespace_path: str = ""

    @property
    def within(self) -> NamespaceRef:
        """The namespace that it belongs to, for ever."""
        return NamespaceRef(self.namespace, self.namespace_path) if self.namespace else ROOT_NAMESPACE


MOUNTS = Table("mount", "mounts", Mount, cached=True, digest="system")

# Present from init on, and from the birth of a namespace on; cannot be removed, moved or mounted again.
BUILTIN: tuple[tuple[str, str, str], ...] = (
    ("sys/", "system", "system endpoints used for control, policy and debugging"),
    ("auth/token/", "token", "token based credentials"),
    ("cubbyhole/", "cubbyhole", "per-token private secret storage"),
    ("identity/", "identity", "identity store"),
)

SYSTEM = MountRef(id="sys", path="sys/", type="system", accessor="")
"""sys/ as it is known before the table can be read."""


def new_mount(kind: str, description: str = "", *, builtin: bool = False) -> Mount:
    """A mount row with fresh ids."""
    accessor = f"{kind}_{new_id()[:8]}"
    return Mount(
        id=base62(16), uuid=new_uuid(), type=kind, accessor=accessor, description=description, builtin=builtin
    )


def canonical_path(path: str) -> str:
    """`path` with exactly one trailing slash.

    Raises:
        KmsError(INVALID): empty, too long, or with characters or segments that have two spellings.
    """
    wanted = path.strip("/") + "/"
    if len(wanted) > MAX_PATH or not _PATH.match(wanted):
        raise invalid(f"invalid mount path {path!r}: use letters, digits, '_', '-', '.' and '/'")
    return wanted


class MountTable:
    """All mounts, in memory, kept current through announcements. Lookup costs one dict probe a segment.

    Args:
        demand_open: returns when sealed rows can be read, or raises why they cannot.
    """

    def __init__(self, store: Store, demand_open: Callable[[], None]) -> None:
        self._all = WholeTable(store, MOUNTS, reference)
        self._demand_open = demand_open

    def rows(self) -> Mapping[str, Row[Mount]]:
        """Path -> row."""
        return self._all.get().rows

    def within(self, namespace: NamespaceRef) -> dict[str, Row[Mount]]:
        """The mounts of one namespace, by the path that they have inside it."""
        skipped = len(namespace.path)
        return {
            path[skipped:]: row
            for path, row in self.rows().items()
            if row.value.namespace == namespace.id and path.startswith(namespace.path)
        }

    def with_accessor(self, accessor: str, namespace: NamespaceRef | None = None) -> MountRef | None:
        """The mount that has this accessor now, of one namespace where that is given."""
        found = (
            reference(row)
            for row in self.rows().values()
            if row.value.accessor == accessor and (namespace is None or row.value.namespace == namespace.id)
        )
        return next(found, None)

    def resolve(self, path: str) -> tuple[MountRef, str] | None:
        """The mount that answers `path` (no leading slash), and the rest below it; or None.

        Mounts never nest, so the first one found is the only one. sys/ answers on a sealed server too.

        Raises:
            KmsError(UNINITIALIZED, SEALED, HSM_UNAVAILABLE): any other path, while nobody can know.
        """
        known = self._all.current
        if known is None:
            if path.startswith(SYSTEM.path):
                return SYSTEM, path[len(SYSTEM.path) :]
            self._demand_open()
            known = self._all.get()
        refs = known.made
        for end in _slashes(path):
            ref = refs.get(path[:end])
            if ref is not None:
                return ref, path[end:]
        return None

    def auth_types(self) -> set[str]:
        """Types of the auth methods that are mounted."""
        return {row.value.type for row in self.rows().values() if is_auth(row)}

    def accessors(self) -> dict[str, str]:
        """Mount id -> accessor."""
        return {row.value.id: row.value.accessor for row in self.rows().values()}

    def accessor_of(self, mount_id: str) -> str:
        """The accessor of the mount with this ID, "" when it is gone."""
        found = (row.value.accessor for row in self.rows().values() if row.value.id == mount_id)
        return next(found, "")

    def enable(self, tx: Transaction, path: str, mount: Mount) -> None:
        """Add a mount.

        Raises:
            KmsError(INVALID): the path is taken, or lies below or above another mount or in another namespace.
        """
        demand_free(tx, path, mount.within)
        tx.insert(MOUNTS, path, mount)


def demand_free(
    tx: Transaction, path: str, namespace: NamespaceRef, told: str = "path is already in use at {}"
) -> None:
    """Raise KmsError(INVALID), saying where, unless a mount of this namespace may have this full path."""
    above = [path[:end] for end in _slashes(path)]
    taken = next((key for key in above if tx.get(MOUNTS, key) is not None), None)
    for key in [taken] if taken is not None else tx.keys(MOUNTS, path, limit=1):
        raise invalid(told.format(key[len(namespace.path) :].removeprefix("auth/")))
    for key in above:
        if len(key) > len(namespace.path) and tx.get(NAMESPACES, key) is not None:
            raise invalid(f"existing mount at {key[len(namespace.path) :]}")


def mount_of(reader: Reader, namespace: NamespaceRef, path: str) -> Row[Mount] | None:
    """The mount that a namespace has at a path inside it; one of a namespace below is another's."""
    row = reader.get(MOUNTS, namespace.path + path)
    return row if row is not None and row.value.namespace == namespace.id else None


def is_auth(row: Row[Mount]) -> bool:
    """Whether a mount is one of an auth method."""
    return row.key.startswith("auth/", len(row.value.namespace_path))


def reference(row: Row[Mount]) -> MountRef:
    """The part of a mount that travels with a call."""
    mount = row.value
    return MountRef(
        id=mount.id,
        path=row.key,
        type=mount.type,
        accessor=mount.accessor,
        default_lease_ttl=mount.default_lease_ttl,
        max_lease_ttl=mount.max_lease_ttl,
        token_type=mount.token_type,
        lockout=mount.lockout,
        namespace=mount.within,
        passes=frozenset(name.lower() for name in mount.passthrough_request_headers),
        answers=frozenset(name.lower() for name in mount.allowed_response_headers),
    )


def _slashes(path: str) -> Iterator[int]:
    position = path.find("/")
    while position >= 0:
        yield position + 1
        position = path.find("/", position + 1)
