"""Runs `keystead` as its command does, but the self-test is due all the time, and answers are wrong while a file exists.

Usage: python faulty.py FILE keystead ARGUMENTS...
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from kms.cli import main
from kms.hsm import selftest
from kms.hsm.vectors import failed
from kms.jobs import selftester

_real = selftest.token


def _token(*arguments: Any, **more: Any) -> Any:
    if FILE.exists():
        raise failed("AES-GCM in the token differs")
    return _real(*arguments, **more)


if __name__ == "__main__":
    FILE = Path(sys.argv[1])
    selftest.token = _token
    selftester.EVERY_SECONDS = selftester.AGAIN_SECONDS = 0.2
    sys.argv = sys.argv[2:]
    main()
