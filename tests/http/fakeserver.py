"""Runs the real supervisor with the fake App: `python -m tests.http.fakeserver CONFIG`."""

from __future__ import annotations

import sys
from pathlib import Path

from kms.clock import SystemClock
from kms.config import load
from kms.errors import KmsError
from kms.server import Supervisor
from tests.http.fake import build


def main() -> int:
    """Serve until stopped."""
    config = load(Path(sys.argv[1]))
    try:
        return Supervisor(
            config, build, SystemClock(), ready=lambda: print(f"ready: {config.url}", flush=True)
        ).run()
    except KmsError as error:
        print(f"error: {error.detail}", file=sys.stderr, flush=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
