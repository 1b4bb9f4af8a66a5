"""`python -m kms.audit.verify DIR [--trust FILE] [--receipt TEXT]...`: exit 0 pinned, 3 not pinned, 1 failed, 2 usage."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from kms.audit.receipt import parse_receipt
from kms.audit.verify import TrustFile, verify
from kms.audit.verify.report import EXIT_FAILED, EXIT_USAGE
from kms.errors import KmsError


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify, print the report, return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m kms.audit.verify", description="Verify an audit folder offline."
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--trust", type=Path, metavar="FILE", help="origin, keys and remembered checkpoints")
    parser.add_argument(
        "--receipt", action="append", default=[], metavar="TEXT", help="X-Keystead-Receipt value"
    )
    options = parser.parse_args(arguments)
    try:
        trust = TrustFile.load(options.trust) if options.trust else None
        receipts = [parse_receipt(text) for text in options.receipt]
    except KmsError as error:
        return _say(error.detail, EXIT_USAGE)
    except OSError as error:
        return _say(f"{options.trust}: {error.strerror}", EXIT_USAGE)
    if not options.folder.is_dir():
        return _say(f"{options.folder} is not a folder", EXIT_USAGE)
    try:
        report = verify(options.folder, trust, receipts)
    except OSError as error:
        return _say(f"{error.filename}: {error.strerror}", EXIT_FAILED)
    sys.stdout.write("\n".join(report.lines()) + "\n")
    return report.exit_code


def _say(text: str, code: int) -> int:
    sys.stderr.write(f"{text}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
