"""sys/evidence: the audit folder as it is, for whoever may read it from elsewhere.

Whoever copies all of it can check it with `keystead audit verify`: nothing here needs to be believed. The log holds no
secret; names in it are in clear, as they are in the folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from kms.errors import invalid, not_found
from kms.operation import Call, Capability, Field, Operation, Record, Result, Type

MAX_BYTES: Final = 4 * 1024 * 1024
_OCTETS = "application/octet-stream"


class Evidence:
    """Reads one folder, and nothing beside it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self, _call: Call) -> Result:
        """Every file: its path below the folder, and how long it is now."""
        sizes = {name: path.stat().st_size for name, path in self._files().items()}
        return Result(
            data={"keys": sorted(sizes), "key_info": {name: {"size": size} for name, size in sizes.items()}},
            items=len(sizes),
        )

    def read(self, call: Call) -> Result:
        """A part of a file, as it is."""
        offset, length = call.args["offset"], call.args["length"] or MAX_BYTES
        if offset < 0 or not 0 < length <= MAX_BYTES:
            raise invalid(f"offset must not be negative, and length at most {MAX_BYTES}")
        # By its name among those that are there: no name that a caller makes up becomes a path.
        path = self._files().get(call.args["path"])
        if path is None:
            raise not_found()
        with path.open("rb") as file:
            file.seek(offset)
            found = file.read(length)
        return Result(raw=(found, _OCTETS), subject={"file": call.args["path"], "bytes": len(found)})

    def _files(self) -> dict[str, Path]:
        return {
            path.relative_to(self._folder).as_posix(): path
            for path in self._folder.rglob("*")
            if path.is_file() and not path.is_symlink()
        }

    def table(self) -> tuple[Operation, ...]:
        """The operations."""
        clear = Record.CLEAR
        part = (
            Field("offset", Type.INT, default=0, record=clear),
            Field("length", Type.INT, default=0, record=clear),
        )
        return (
            Operation("sys.evidence.list", Capability.LIST, self.names),
            Operation(
                "sys.evidence.read", Capability.READ, self.read, fields=(Field("path", record=clear), *part)
            ),
        )
