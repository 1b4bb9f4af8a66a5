"""sys/config/reload: what SIGHUP does, for those who have no shell on the server.

Workers are replaced by new ones, which read everything anew, while requests under way are finished; so each name
below stands for all three. The named one's files are looked at first: what could not be used is refused, and the
workers stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kms.errors import ErrorKind, KmsError
from kms.operation import Call, Capability, Change, Effect, Field, Operation, Record, Result


class ReloadHandlers:
    """Handlers. One per process, safe to use from several threads.

    Args:
        checks: subsystem -> raises KmsError(INVALID) where what would be read cannot be used.
        reload: asks for it; None in processes that nobody would hear.
    """

    def __init__(self, checks: Mapping[str, Callable[[], None]], reload: Callable[[], None] | None) -> None:
        self._checks = checks
        self._reload = reload

    def reload(self, call: Call) -> Change:
        """The record is durable before anything ends, this process too."""
        check = self._checks.get(call.args["subsystem"])
        if check is None or self._reload is None:
            raise KmsError(ErrorKind.NO_ROUTE, "1 error occurred:\n\t* unsupported path\n\n")
        check()
        return Change(lambda _tx: Result(), after=self._reload)

    def table(self) -> list[Operation]:
        """The operations."""
        return [
            Operation(
                "sys.config.reload",
                Capability.UPDATE,
                self.reload,
                effect=Effect.STATE,
                sudo=True,
                fields=(Field("subsystem", record=Record.CLEAR),),
            )
        ]
