"""All namespaces in memory, kept current through announcements."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kms.errors import not_found
from kms.namespaces.model import NAMESPACES, Namespace
from kms.operation import ROOT_NAMESPACE, NamespaceRef
from kms.tables import Row, Store
from kms.wholetable import WholeTable

_ROOT_NAMES = frozenset({"", "root"})


class NamespaceTable:
    """One per process, safe to use from several threads. Reads are as of the last `Store.refresh`.

    A server that has none asks one attribute per request and nothing else.

    Args:
        ready: whether sealed rows can be read.
        demand_open: returns when they can, or raises why they cannot.

    """

    def __init__(self, store: Store, ready: Callable[[], bool], demand_open: Callable[[], None]) -> None:
        self._ready = ready
        self._demand_open = demand_open
        self._all = WholeTable(store, NAMESPACES, lambda row: NamespaceRef(row.value.id, row.key))
        self._named: tuple[object, dict[str, NamespaceRef]] = (None, {})

    def rows(self) -> Mapping[str, Row[Namespace]]:
        """Full path -> row."""
        return self._all.get().rows

    @property
    def none(self) -> bool:
        """That there are none for sure; False while nobody has looked."""
        known = self._all.current
        return known is not None and not known.rows

    @property
    def some(self) -> bool:
        """Whether there are any; False while nobody can know."""
        known = self._all.current
        if known is None:
            return self._ready() and bool(self.rows())
        return bool(known.rows)

    def named(self, header: str) -> NamespaceRef:
        """The namespace that a header names, with or without slashes around it.

        Raises:
            KmsError(NOT_FOUND): there is none of that name.
            KmsError(UNINITIALIZED, SEALED, HSM_UNAVAILABLE): nobody can know.
        """
        name = header.strip().strip("/")
        if name in _ROOT_NAMES:
            return ROOT_NAMESPACE
        if self._all.current is None:
            self._demand_open()
        found = self._all.get().made.get(f"{name}/")
        if found is None:
            raise not_found("namespace not found")
        return found

    def of(self, path: str) -> NamespaceRef:
        """The innermost namespace that a full path lies in."""
        refs, found, end = self._all.get().made, ROOT_NAMESPACE, path.find("/")
        while end >= 0:
            ref = refs.get(path[: end + 1])
            if ref is None:  # each level of a namespace is one
                return found
            found = ref
            end = path.find("/", end + 1)
        return found

    def living(self, namespace_id: str) -> NamespaceRef | None:
        """The namespace with this ID, unless it or one above it is being removed. "" is the root namespace."""
        if not namespace_id:
            return ROOT_NAMESPACE
        if not self.some:
            return None
        ref = self._by_id().get(namespace_id)
        return ref if ref is not None and not any(row.value.tainted for row in self.above(ref)) else None

    def _by_id(self) -> dict[str, NamespaceRef]:
        known = self._all.get()
        held, by_id = self._named
        if held is not known:
            by_id = {ref.id: ref for ref in known.made.values()}
            self._named = (known, by_id)
        return by_id

    def above(self, namespace: NamespaceRef) -> list[Row[Namespace]]:
        """The row of a namespace and those of all above it, the outermost first."""
        rows, path = self.rows(), namespace.path
        ends = [index + 1 for index, sign in enumerate(path) if sign == "/"]
        return [rows[path[:end]] for end in ends if path[:end] in rows]
