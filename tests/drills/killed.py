"""Runs a `keystead` command and kills it with SIGKILL at the N-th line that it executes in some modules.

    python -m tests.drills.killed N MODULE,MODULE:FUNCTION,... COMMAND ARGUMENT...

With N = 0 it is not killed, and prints as the last line of standard error how many lines there were.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

from kms.cli import main as keystead


class Killer:
    """A trace function that counts."""

    def __init__(self, at: int, names: frozenset[str]) -> None:
        self.at = at
        self.names = names
        self.lines = 0

    def called(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        """Follow functions of the modules only."""
        module = str(frame.f_globals.get("__name__"))
        wanted = module in self.names or f"{module}:{frame.f_code.co_name}" in self.names
        return self.line if wanted else None

    def line(self, _frame: FrameType, event: str, _argument: Any) -> Any:
        """Count a line."""
        if event == "line":
            self.lines += 1
            if self.lines == self.at:
                os.kill(os.getpid(), signal.SIGKILL)
        return self.line


def main() -> None:
    """Entry point."""
    at, names, *command = sys.argv[1:]
    killer = Killer(int(at), frozenset(names.split(",")))
    sys.argv = ["keystead", *command]
    threading.settrace(killer.called)
    sys.settrace(killer.called)
    try:
        keystead()
    finally:
        sys.settrace(None)
        print(killer.lines, file=sys.stderr)


if __name__ == "__main__":
    main()
