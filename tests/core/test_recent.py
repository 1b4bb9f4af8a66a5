"""The latest lines of the operator log, over processes: nothing torn, nothing silently lost, nobody held up."""

from __future__ import annotations

import os
import signal

from kms.recent import LINE_BYTES, PLACES, Recent
from tests.harness.processes import wait_for


def _made() -> Recent:
    recent = Recent()
    recent.share()
    return recent


def _all(recent: Recent, mark: int) -> tuple[list[bytes], int]:
    found: list[bytes] = []
    lost = 0
    while True:
        lines, after, missed = recent.since(mark, 64)
        found += [line.text for line in lines]
        lost += missed
        if after == mark:
            return found, lost
        mark = after


def test_nothing_is_kept_unless_it_is_shared() -> None:
    recent = Recent()
    recent.put(b"x", 2)
    assert recent.since(recent.mark(), 10) == ([], 0, 0)


def test_from_the_mark_on_with_what_was_missed() -> None:
    recent = _made()
    recent.put(b"before", 2)
    mark = recent.mark()
    for number in range(3):
        recent.put(b"%d" % number, number + 2)
    lines, after, lost = recent.since(mark, 2)
    assert [(line.text, line.rank) for line in lines] == [(b"0", 2), (b"1", 3)]
    assert (after, lost) == (mark + 2, 0)
    for number in range(PLACES + 10):
        recent.put(b"n%d" % number, 2)
    texts, lost = _all(recent, mark)
    assert texts == [b"n%d" % number for number in range(10, PLACES + 10)]
    assert lost == 13


def test_a_line_that_is_too_long_counts_as_missed() -> None:
    recent = _made()
    recent.put(b"x" * (LINE_BYTES + 1), 2)
    recent.put(b"y" * LINE_BYTES, 2)
    assert _all(recent, 0) == ([b"y" * LINE_BYTES], 1)


def test_processes_that_write_at_once_tear_nothing() -> None:
    recent, each = _made(), PLACES // 4
    children = []
    for name in (b"a", b"b", b"c", b"d"):
        pid = os.fork()
        if not pid:
            for number in range(each):
                recent.put(b"%b %d %b" % (name, number, name * 500), 2)
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    texts, lost = _all(recent, 0)
    assert (len(texts), lost) == (4 * each, 0)
    for name in (b"a", b"b", b"c", b"d"):
        own = [text for text in texts if text.startswith(name)]
        assert own == [b"%b %d %b" % (name, number, name * 500) for number in range(each)]


def test_a_writer_that_is_killed_holds_up_nobody() -> None:
    recent = _made()
    pid = os.fork()
    if not pid:
        while True:
            recent.put(b"z" * 4000, 2)
    wait_for(lambda: recent.mark() > PLACES, 30, "lines")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    mark = recent.mark()
    recent.put(b"after", 3)
    assert _all(recent, mark) == ([b"after"], 0)
