"""T-21b: killed at every point of the road, every committed change is in the log exactly once.

Each row names a point; a child process works until it gets there and is killed with SIGKILL, with its files as
they are. Then recovery and sequencing run, killed at the same points of their own as often as they get there,
until one pass lives to its end.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kms.audit import ledger, recovery, segment
from kms.audit.layout import Layout
from kms.audit.ledger import Ledger
from kms.audit.record import decode_record
from kms.audit.recorder import Recorder
from kms.audit.segment import Segment
from kms.audit.sequencer import Sequencer
from kms.audit.store import INTENTS, OUTBOX
from tests.audit.rig import THINGS, Rig, die, event


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Any, name: str, *, calls: int = 1) -> Callable[[], None]:
    """Die on entering the function for the `calls`-th time."""
    return lambda: _wrap(owner, name, calls, after=False)


def after(owner: Any, name: str, *, calls: int = 1) -> Callable[[], None]:
    """Die when the function has returned for the `calls`-th time."""
    return lambda: _wrap(owner, name, calls, after=True)


def _wrap(owner: Any, name: str, calls: int, *, after: bool) -> None:
    original = getattr(owner, name)
    left = [calls]

    def dying(*arguments: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] == 0 and not after:
            kill()
        result = original(*arguments, **named)
        if left[0] == 0:
            kill()
        return result

    setattr(owner, name, dying)


def half_write(name: str, calls: int) -> Callable[[], None]:
    """Die after the kernel took half of the `calls`-th write to a file of this name."""

    def install() -> None:
        owner, function = (segment, "_write") if name == "/segments/" else (os, "write")
        original: Callable[[int, bytes], int] = getattr(owner, function)
        left = [calls]

        def dying(fd: int, data: bytes) -> int:
            if name in Path(f"/proc/self/fd/{fd}").readlink().as_posix():
                left[0] -= 1
                if left[0] == 0:
                    original(fd, bytes(data)[: len(data) // 2])
                    kill()
            return original(fd, data)

        setattr(owner, function, dying)

    return install


# The worker's road: stage, commit, publish, frame, sync, close.
WORKER = {
    "before the row of the segment": after(Segment, "create"),
    "before the first line": before(Segment, "begin"),
    "half of the first line": half_write("/segments/", 1),
    "before the first sync": before(Segment, "sync"),
    "inside the transaction": after(Recorder, "stage", calls=4),
    "between commit and segment write": before(Recorder, "publish", calls=4),
    "in the segment write": half_write("/segments/", 6),
    "after the segment write": after(Recorder, "publish", calls=4),
    "before the frame line": before(Segment, "frame", calls=2),
    "after the frame line, before the sync": before(Segment, "sync", calls=3),
    "before the last line": before(Segment, "close"),
    "after the last line": after(Segment, "close"),
}

# The sequencer's: leaves, head, signature, history, rename.
SEQUENCER = {
    "before the start": before(Sequencer, "start"),
    "after the start": after(Sequencer, "start"),
    "before the leaves": before(Ledger, "append"),
    "in the leaves": half_write("leaves.jsonl", 1),
    "between leaves and head": after(Ledger, "append"),
    "between head and signature": before(Sequencer, "_sign"),
    "between signature and history": before(Ledger, "publish"),
    "in the history": half_write("checkpoints.jsonl", 1),
    "between history and checkpoint": before(ledger, "write_whole", calls=2),
    "in the checkpoint": half_write("checkpoint.tmp", 2),
    "before the rename": before(Path, "rename", calls=2),
    "after the rename": after(Path, "rename", calls=2),
    "after the step": after(Sequencer, "step"),
}

# Recovery's: torn tail, frames, outbox, last lines.
RECOVERY = {
    "before anything is adopted": before(recovery, "salvage"),
    "before the torn tail is kept": before(recovery, "keep_torn"),
    "in the copy of the torn tail": half_write("torn.tmp", 1),
    "between copy and cut": before(os, "ftruncate"),
    "after the cut": after(recovery, "keep_torn"),
    "after the frame": after(Segment, "frame"),
    "in the appended event": half_write("/segments/", 2),
    "after the appended event": after(Segment, "append"),
    "after the second frame": after(Segment, "frame", calls=2),
    "before the open intents are kept": before(recovery, "_keep_open"),
    "after the open intents are kept": after(recovery, "_keep_open"),
    "in the recovered line": half_write("/segments/", 4),
    "before the last line": before(Segment, "close"),
    "in the last line": half_write("/segments/", 5),
    "after the last line": after(Segment, "close"),
}


def in_child(work: Callable[[], None], install: Callable[[], None]) -> bool:
    """Run in a forked process; returns whether it lived to the end."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            install()
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.WEXITSTATUS(status) == 0, "the child failed instead of being killed"
    return True


def quiet(recorder: Recorder) -> Recorder:
    """Frames are closed where the test says, not by the recorder's thread."""
    setattr(recorder, "_tick", lambda: None)  # noqa: B010 (mypy rightly refuses the assignment)
    return recorder


def work(rig: Rig) -> None:
    """A worker's life: six changes, and one event without a transaction."""
    store = rig.open_store()
    recorder = quiet(rig.recorder(store))
    for number in range(3):
        rig.change(recorder, f"early-{number}", store)
    recorder.flush()
    for number in range(3):
        rig.change(recorder, f"late-{number}", store)
    recorder.write(event())
    recorder.close()
    store.close()


def sequence(rig: Rig) -> None:
    rig.store = rig.open_store()
    sequencer = rig.sequencer()
    sequencer.step()
    sequencer.stop()


def recover_all(rig: Rig) -> None:
    rig.store = rig.open_store()
    rig.recover()


def settle(rig: Rig) -> None:
    rig.recover()
    rig.sequencer().stop()


def tx_keys(layout: Layout) -> list[str]:
    lines = [
        line
        for path in layout.segments.glob("*.jsonl")
        for line in path.read_bytes().splitlines(keepends=True)
    ]
    keys = [decode_record(line)[1].tx for line in lines if not line.startswith(b'{"control"')]
    return [key for key in keys if key]


def check_exactly_once(rig: Rig) -> None:
    rig.verified()
    changes = {f"{key}/done" for key in rig.store.reader().keys(THINGS)}
    written = tx_keys(rig.layout)
    assert sorted(written) == sorted(set(written)), "an event stands in the log twice"
    assert {key for key in written if key.endswith("/done")} == changes
    assert rig.store.reader().keys(OUTBOX) == []


def leave_a_mess(rig: Rig) -> None:
    """A dead segment with unframed records, open intents, a torn tail, and a committed event that it does not hold."""
    recorder = quiet(rig.recorder())
    rig.change(recorder, "published")
    rig.intend(recorder, "open")
    recorder.intend(event("intent", "thing.forge", resource="things/written", subject={"name": "written"}))
    with rig.store.transaction() as tx:
        lost = event("done", "thing.create")
        tx.insert(THINGS, lost.id, THINGS.model("lost"))
        recorder.stage(tx, lost)
    die(recorder)
    with rig.layout.segment(recorder.segment).open("ab") as file:
        file.write(b'{"segment":"torn')


@pytest.mark.parametrize("point", WORKER)
def test_a_worker_killed(rig: Rig, point: str) -> None:
    sequence_first = in_child(lambda: sequence(rig), lambda: None)
    assert sequence_first
    lived = in_child(lambda: work(rig), WORKER[point])
    assert not lived, "the point was not reached"
    settle(rig)
    check_exactly_once(rig)


@pytest.mark.parametrize("point", SEQUENCER)
@pytest.mark.parametrize("first", [True, False], ids=["new log", "old log"])
def test_a_sequencer_killed(rig: Rig, point: str, first: bool) -> None:
    if not first:
        work(rig)
        sequence(rig)
    work(rig)
    reached = False
    for _ in range(3):
        reached |= not in_child(lambda: sequence(rig), SEQUENCER[point])
    assert reached, "the point was not reached"
    settle(rig)
    check_exactly_once(rig)


@pytest.mark.parametrize("point", RECOVERY)
def test_recovery_killed(rig: Rig, point: str) -> None:
    leave_a_mess(rig)
    lived = in_child(lambda: recover_all(rig), RECOVERY[point])
    assert not lived, "the point was not reached"
    for _ in range(2):  # and again, where recovery of the half-recovered segment gets to the same point
        in_child(lambda: recover_all(rig), RECOVERY[point])
    intents = rig.recover().intents
    assert sorted(intent.resource for intent in intents) == ["things/open", "things/written"]
    other = rig.recorder()
    for intent in intents:
        rig.conclude(other, intent)
    other.close()
    settle(rig)
    check_exactly_once(rig)
    assert rig.store.reader().keys(INTENTS) == []
    kept = b"".join(path.read_bytes() for path in rig.layout.torn.iterdir())
    assert b'{"segment":"torn' in kept
