"""What the doors ask of the composition root: one process's `App`, as narrow protocols.

`kms.app` builds it (after the fork, in each worker and in the jobs process); nothing here constructs,
opens or configures anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from kms.http.vault.route import Route
from kms.operation import Call, MountRef, NamespaceRef, Operation, Result

NO_ROUTE = "sys.no_route"
"""The operation that a call takes when no route matches it.

It is authenticated and checked against policy like any other, and only then answers that the path
does not exist: who may not know what is mounted learns "permission denied". `Call.args` holds `path`
and `reason` ("mount", "path" or "verb"); the capability is replaced per verb by the door.
"""


class Receipt(Protocol):
    """Where the record of an answer lies."""

    def header(self) -> str:
        """The value of X-Keystead-Receipt."""
        ...


class Road(Protocol):
    """The pipeline."""

    def run(self, call: Call) -> tuple[Result, Receipt | None]:
        """Take one call down the whole road; raises KmsError."""
        ...

    def crashed(self, call: Call) -> None:
        """Leave the record of a call that ended in an unexpected exception."""
        ...


class Mounts(Protocol):
    """The mount table."""

    def resolve(self, path: str) -> tuple[MountRef, str] | None:
        """The mount with the longest matching prefix and the rest of the path, or None."""
        ...


class Namespaces(Protocol):
    """The tenants of the server."""

    @property
    def none(self) -> bool:
        """That there are none for sure: asked with every request. False also while nobody can know."""
        ...

    @property
    def some(self) -> bool:
        """Whether there are any; False also while nobody can know."""
        ...

    def named(self, header: str) -> NamespaceRef:
        """The one that a header names. Raises KmsError(NOT_FOUND)."""
        ...

    def of(self, path: str) -> NamespaceRef:
        """The innermost one that a full path lies in."""
        ...


class App(Protocol):
    """Everything of one process, as far as a door may see it."""

    @property
    def pipeline(self) -> Road: ...

    @property
    def registry(self) -> Mapping[str, Operation]: ...

    @property
    def routes(self) -> Mapping[str, tuple[Route, ...]]:
        """Engine type -> its routes."""
        ...

    @property
    def mounts(self) -> Mounts: ...

    @property
    def namespaces(self) -> Namespaces: ...

    def refresh(self) -> object:
        """Bring caches (the mount table among them) up to everything committed before this call."""
        ...
