"""All namespaces in memory, kept current through announcements."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kms.errors import not_found
from kms.namespaces.model import NAMESPACES, Namespace
from kms.operation import ROOT_NAMESPACE, NamespaceRef
from kms.tables import Row, Store

_ROOT_NAMES = frozenset({"", "root"})


class NamespaceTable:
    """One per process, safe to use from several threads. Reads are as of the last `Store.refresh`.

    A server that has none asks one attribute per request and nothing else.

    Args:
        ready: whether sealed rows can be read.
        demand_open: returns when they can, or raises why they cannot.

    Attributes:
        none: there are none for sure; False while nobody has looked.
    """

    def __init__(self, store: Store, ready: Callable[[], bool], demand_open: Callable[[], None]) -> None:
        self._store = store
        self._ready = ready
        self._demand_open = demand_open
        self._rows: dict[str, Row[Namespace]] | None = None
        self._by_id: dict[str, NamespaceRef] = {}
        self._epoch = 0
        self.none = False
        store.watch(NAMESPACES, self)

    def drop(self, _key: str) -> None:
        """A namespace changed (kms.tables.CacheListener)."""
        self.clear()

    def clear(self) -> None:
        """Forget all (kms.tables.CacheListener)."""
        self._epoch += 1
        self.none = False
        self._rows = None

    def rows(self) -> Mapping[str, Row[Namespace]]:
        """Full path -> row."""
        rows = self._rows
        if rows is None:
            # A change that arrives while we read must not be hidden by what we read before it.
            before = self._epoch
            rows = {row.key: row for row in self._store.reader().scan(NAMESPACES)}
            by_id = {row.value.id: NamespaceRef(row.value.id, path) for path, row in rows.items()}
            if self._epoch == before:
                self._by_id = by_id
                self._rows = rows
                self.none = not rows
        return rows

    @property
    def some(self) -> bool:
        """Whether there are any; False while nobody can know."""
        rows = self._rows
        if rows is None:
            return self._ready() and bool(self.rows())
        return bool(rows)

    def named(self, header: str) -> NamespaceRef:
        """The namespace that a header names, with or without slashes around it.

        Raises:
            KmsError(NOT_FOUND): there is none of that name.
            KmsError(UNINITIALIZED, SEALED, HSM_UNAVAILABLE): nobody can know.
        """
        name = header.strip().strip("/")
        if name in _ROOT_NAMES:
            return ROOT_NAMESPACE
        if self._rows is None:
            self._demand_open()
        row = self.rows().get(f"{name}/")
        if row is None:
            raise not_found("namespace not found")
        return NamespaceRef(row.value.id, row.key)

    def of(self, path: str) -> NamespaceRef:
        """The innermost namespace that a full path lies in."""
        rows, found, end = self.rows(), ROOT_NAMESPACE, path.find("/")
        while end >= 0:
            row = rows.get(path[: end + 1])
            if row is None:  # each level of a namespace is one
                return found
            found = NamespaceRef(row.value.id, row.key)
            end = path.find("/", end + 1)
        return found

    def living(self, namespace_id: str) -> NamespaceRef | None:
        """The namespace with this ID, unless it or one above it is being removed. "" is the root namespace."""
        if not namespace_id:
            return ROOT_NAMESPACE
        if not self.some:
            return None
        rows = self.rows()
        ref = self._by_id.get(namespace_id) or next(
            (NamespaceRef(row.value.id, key) for key, row in rows.items() if row.value.id == namespace_id),
            None,
        )
        return ref if ref is not None and not any(row.value.tainted for row in self.above(ref)) else None

    def above(self, namespace: NamespaceRef) -> list[Row[Namespace]]:
        """The row of a namespace and those of all above it, the outermost first."""
        rows, path = self.rows(), namespace.path
        ends = [index + 1 for index, sign in enumerate(path) if sign == "/"]
        return [rows[path[:end]] for end in ends if path[:end] in rows]
