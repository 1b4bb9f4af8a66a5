"""The folder of a backup: DIR/storage and DIR/audit as a server uses them, DIR/backup.json written last.

`backup.json` names each file with its size and SHA-256, so that a restore knows a whole backup from the rest of
one, and what its owner needs to open it. It is not a signature: what is in the rows is sealed, what is in the
log is proved by `keystead audit verify`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import msgspec

from kms import __version__
from kms.audit import backup as audit_backup
from kms.audit.layout import Layout, sync_folder, write_whole
from kms.clock import Clock, rfc3339
from kms.config import Config
from kms.errors import invalid
from kms.server.lock import LOCK_NAME
from kms.storage import backup as storage_backup
from kms.storage.sqlite import FILE_NAME
from kms.system.instance import Instance, read_instance
from kms.tables import Reader

NAME = "backup.json"
_TRIES = 5
_MODE = 0o700


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """backup.json. `files`: path below the folder -> [bytes, SHA-256]."""

    instance: str
    recovery: str
    at: str
    version: str
    files: dict[str, tuple[int, str]]


def back_up(config: Config, target: Path, clock: Clock) -> dict[str, str | int]:
    """Make a backup in the folder `target`, which must be new or empty.

    Raises:
        KmsError(INVALID): the folder holds something. KmsError(STORAGE_UNAVAILABLE, AUDIT_UNAVAILABLE): I/O.
    """
    _make_empty(target)

    def note(reader: Reader) -> tuple[Instance | None, audit_backup.Extent, float]:
        row = read_instance(reader)
        extent = audit_backup.measure(config.data.audit, reader)
        return row.value if row is not None else None, extent, clock.now()

    for _ in range(_TRIES):
        storage, audit = target / "storage", target / "audit"
        for folder in (storage, audit):
            folder.mkdir(mode=_MODE)
        instance, extent, at = storage_backup.copy(config.data.storage, storage, note)
        if audit_backup.copy(config.data.audit, audit, extent):
            break
        for folder in (storage, audit):
            shutil.rmtree(folder)
    else:
        raise invalid("processes of the server keep dying while the log is copied; look at the server first")
    summary = Summary(
        instance=instance.id if instance is not None else "",
        recovery=instance.recovery if instance is not None else "",
        at=rfc3339(at),
        version=__version__,
        files={name: _measure(target / name) for name in _files(target)},
    )
    write_whole(target / NAME, msgspec.json.encode(summary), target / f"{NAME}.tmp")
    return _told(summary)


def restore(config: Config, source: Path) -> dict[str, str | int]:
    """Copy a backup into the empty folders of the configuration. The caller holds the server's lock.

    Raises:
        KmsError(INVALID): not a whole backup, or a folder is not empty.
    """
    try:
        summary = msgspec.json.decode((source / NAME).read_bytes(), type=Summary)
    except OSError:
        raise invalid(f"{source} is not a whole backup: {NAME} is missing") from None
    except msgspec.MsgspecError as error:
        raise invalid(f"{source / NAME} cannot be read: {error}") from None
    folders = {"storage": config.data.storage, "audit": config.data.audit}
    for folder in folders.values():
        if any(path.name != LOCK_NAME for path in folder.iterdir()):
            raise invalid(f"{folder} is not empty; move what is there away first")
    for name, known in summary.files.items():
        part, _, rest = name.partition("/")
        if part not in folders or ".." in Path(rest).parts or not (source / name).is_file():
            raise invalid(f"{source} is not a whole backup: {name} is missing")
        if _measure(source / name) != known:
            raise invalid(f"{source / name} is not the file that was backed up")
    # The database comes last: without it, a restore that was cut off is no server.
    for name in sorted(summary.files, key=lambda one: one == f"storage/{FILE_NAME}"):
        part, _, rest = name.partition("/")
        _copy(source / name, folders[part] / rest)
    Layout(config.data.audit).make()
    return _told(summary)


def _told(summary: Summary) -> dict[str, str | int]:
    return {
        "at": summary.at,
        "instance": summary.instance,
        "recovery": summary.recovery,
        "files": len(summary.files),
        "bytes": sum(size for size, _ in summary.files.values()),
    }


def _make_empty(folder: Path) -> None:
    try:
        folder.mkdir(mode=_MODE, parents=True, exist_ok=True)
        folder.chmod(_MODE)
        if any(folder.iterdir()):
            raise invalid(f"{folder} is not empty; name a new folder")
    except OSError as error:
        raise invalid(f"cannot make the folder {folder}: {error.strerror}") from None


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _measure(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return path.stat().st_size, digest


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(mode=_MODE, parents=True, exist_ok=True)
    scratch = target.with_name(target.name + ".tmp")
    fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with source.open("rb") as reading, os.fdopen(fd, "wb") as writing:
        shutil.copyfileobj(reading, writing)
        writing.flush()
        os.fsync(writing.fileno())
    scratch.rename(target)
    sync_folder(target.parent)
