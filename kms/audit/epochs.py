"""When the key of a log is lost with its HSM: the old log is put aside whole, and a new one vouches for it.

(1) `survey`, the old log still in place: what is signed, what lies behind that, and the hash of the manifest,
    which names each of the old files with its own;
(2) the caller commits what `succeed` writes: the head of a new log, which begins with all that;
(3) `put_aside` moves the old files to epochs/<n>/, where they verify by themselves with the key beside them, and
    writes the manifest.

Each step can be killed and repeated. Nothing writes to the folder meanwhile: the server is stopped.
Events of the outbox stay in it. Recovery at the next start writes them to the new log too: those which no
signed checkpoint covered stand in both.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from kms.audit.event import Event
from kms.audit.layout import FOLDER_MODE, Layout, sync_folder, write_whole
from kms.audit.outbox import timed
from kms.audit.record import encode_event
from kms.audit.segment import unavailable
from kms.audit.store import LOG, LOG_KEY, OUTBOX, SEGMENTS, LogRow, OutboxRow, Predecessor
from kms.audit.verify import verify
from kms.audit.verify.epochs import ManifestLine, encode_manifest
from kms.clock import Clock
from kms.tables import Reader, Transaction

_CHUNK = 1 << 20
PAST = "past"


def log_origin(instance: str, epoch: int) -> str:
    """The name of a log: the instance's, and from the second epoch on its number."""
    return f"keystead/{instance}" if epoch == 1 else f"keystead/{instance}/epoch-{epoch}"


def survey(folder: Path, reader: Reader, epoch: int, origin: str, why: str) -> Predecessor:
    """Look at the log of `epoch` as it was left. Changes nothing.

    Args:
        folder: the audit folder; `recover` has ended its segments.
        reader: of the database that belongs to it.
        epoch: number of that log.
        origin: its name.
        why: for the first line of the next.

    Raises:
        KmsError(AUDIT_UNAVAILABLE): I/O.
    """
    layout = Layout(folder)
    try:
        key = layout.keys.read_text("ascii", "replace").strip() if layout.keys.exists() else ""
        report = verify(folder, None)
        data = _manifest(layout)
    except OSError as error:
        raise unavailable(error) from error
    head = reader.get(LOG, LOG_KEY)
    finding = report.failure
    return Predecessor(
        epoch=epoch + 1,
        origin=origin,
        key=key,
        size=report.size,
        root=report.root,
        leaves=head.value.size if head is not None else 0,
        records=report.uncovered,
        manifest=hashlib.sha256(data).hexdigest(),
        why=why,
        finding=f"{finding.place}: {finding.what}" if finding is not None else "",
    )


def succeed(tx: Transaction, before: Predecessor, origin: str, event: Event, clock: Clock) -> None:
    """Begin a new log in the caller's transaction; `event` becomes a record of it."""
    head = tx.get(LOG, LOG_KEY)
    fence = head.value.fence if head is not None else 0
    row = LogRow(origin=origin, fence=fence, before=before)
    if head is None:
        tx.insert(LOG, LOG_KEY, row)
    else:
        tx.replace(LOG, head, row)
    for state in ("live", "void"):
        for segment in tx.find(SEGMENTS, {"state": state}):
            tx.replace(SEGMENTS, segment, msgspec.structs.replace(segment.value, state=PAST))
    event, now = timed(event, clock)
    # It has no segment: the next recovery gives it one.
    tx.insert(OUTBOX, event.key, OutboxRow(segment="", event=encode_event(event), at=now))


def put_aside(folder: Path, epoch: int) -> None:
    """Move the files of the old log to epochs/<epoch>/. Safe to repeat.

    Raises:
        KmsError(AUDIT_UNAVAILABLE): I/O.
    """
    layout = Layout(folder)
    aside = layout.epoch(epoch)
    try:
        aside.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        for path in (layout.segments, layout.log, layout.torn, layout.checkpoint, layout.keys):
            if path.exists() and not (aside / path.name).exists():
                path.rename(aside / path.name)
        sync_folder(aside)
        path = layout.manifest(epoch)
        write_whole(path, _manifest(Layout(aside)), path.with_suffix(".tmp"))
        sync_folder(folder)
    except OSError as error:
        raise unavailable(error) from error


def _manifest(layout: Layout) -> bytes:
    return encode_manifest(_line(layout, path) for path in _old_files(layout))


def _old_files(layout: Layout) -> list[Path]:
    folders = (layout.segments, layout.log, layout.torn)
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    files += [path for path in (layout.checkpoint, layout.keys) if path.exists()]
    return sorted(files)


def _line(layout: Layout, path: Path) -> ManifestLine:
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return ManifestLine(
        file=path.relative_to(layout.folder).as_posix(), bytes=size, sha256=digest.hexdigest()
    )


def log_summary(folder: Path) -> dict[str, str | int]:
    """What to write down about the log in use and the one before it, as its verifier reports them.

    Raises:
        KmsError(AUDIT_UNAVAILABLE): I/O.
    """
    layout = Layout(folder)
    try:
        report = verify(folder, None)
        key = layout.keys.read_text("ascii", "replace").strip()
    except OSError as error:
        raise unavailable(error) from error
    failure = report.failure
    return {
        "origin": report.origin,
        "key": key,
        "fingerprint": report.fingerprint,
        "finding": f"{failure.place}: {failure.what}" if failure is not None else "",
        "before": next((note for note in report.notes if note.startswith("goes on for ")), ""),
    }
