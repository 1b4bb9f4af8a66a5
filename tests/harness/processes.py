"""Ports, deadlines and the process table, read from /proc."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether somebody accepts connections on this port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def program(name: str) -> str:
    """Full path of an installed program; sbin counts, as it does for root."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        raise AssertionError(f"{name} is not installed; run scripts/setup")
    return found


def wait_for(condition: Callable[[], bool], seconds: float, what: str | Callable[[], str]) -> None:
    """Return as soon as the condition holds; fail after `seconds`, saying what was missing."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(0.02)


@dataclass(frozen=True)
class Process:
    """One line of the process table."""

    pid: int
    parent: int
    command: str
    cpu_seconds: float
    reaped_cpu_seconds: float


def _read(pid: int) -> Process | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    if fields[0] == "Z":
        return None
    user, system, child_user, child_system = (
        int(fields[index]) / TICKS_PER_SECOND for index in range(11, 15)
    )
    return Process(pid, int(fields[1]), command.strip(), user + system, child_user + child_system)


def tree(root: int) -> list[Process]:
    """The process and everything below it, the root first; empty when it is gone."""
    table = {
        pid: found
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and (found := _read(pid := int(entry.name)))
    }
    if root not in table:
        return []
    members, queue = [], [root]
    while queue:
        pid = queue.pop(0)
        members.append(table[pid])
        queue += sorted(process.pid for process in table.values() if process.parent == pid)
    return members


def cpu_seconds(root: int) -> float:
    """CPU time that a whole process tree has used, user and system, with its dead and reaped members."""
    return sum(process.cpu_seconds + process.reaped_cpu_seconds for process in tree(root))


def resident_bytes(root: int) -> int:
    """Memory of a whole process tree: proportional share, so shared pages count once."""
    total = 0
    for process in tree(root):
        with suppress(FileNotFoundError, ProcessLookupError):
            for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> bool:
    """Send a signal; False when the process is gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
