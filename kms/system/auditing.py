"""sys/audit: the tamper-evident log, which is always there."""

from __future__ import annotations

from pathlib import Path

from kms.operation import Call, Capability, Operation, Result


class AuditHandlers:
    """Handlers. One per process.

    Args:
        folder: of the tamper-evident log.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def listing(self, _call: Call) -> Result:
        options = {"file_path": str(self._folder), "format": "json"}
        device = {"type": "file", "description": "tamper-evident log", "local": False, "path": "file/"}
        return Result({"file/": {**device, "options": options}})

    def table(self) -> list[Operation]:
        """The operations."""
        return [Operation("sys.audit.list", Capability.READ, self.listing, sudo=True)]
