"""What the server processes ask of the composition root."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from kms.clock import Clock
from kms.config import Config
from kms.devices import Devices
from kms.http.crossorigin import Rule
from kms.http.ports import App
from kms.jobs.scheduler import Task
from kms.sensitive import Sensitive
from kms.shared import Shared

Role = Literal["worker", "jobs", "start"]
"""`start` is a short-lived process before all others: it migrates, recovers the audit log, finishes what
a crash left half done, initialises when asked to, and exits. It alone may do what must happen once."""


class ServerApp(App, Protocol):
    """An `App` with what only the server's processes use."""

    @property
    def tasks(self) -> Sequence[Task]:
        """The periodic tasks; empty unless built for the jobs process."""
        ...

    @property
    def devices(self) -> Devices | None:
        """The audit devices."""
        ...

    @property
    def cross_origin(self) -> Rule:
        """Which web pages may read answers."""
        ...

    def leaving(self) -> bool:
        """Whether this process holds what it must forget (sealed after it was open), and so must end."""
        ...

    def well_known(self, path: str) -> str | None:
        """The path below /v1/ that `path` below /.well-known/ stands for, or None."""
        ...

    def page_key(self) -> Sensitive:
        """Of the proofs in pages for people. Raises KmsError while the server is sealed."""
        ...

    def close(self) -> None:
        """Flush the audit segment, write the closing line, log out of the HSM."""
        ...


Builder = Callable[[Config, Shared, Clock, Role], ServerApp]
"""`kms.app.build`. Raises KmsError with a sentence and a hint when the process cannot start."""
