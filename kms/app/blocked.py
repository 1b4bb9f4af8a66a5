"""The operator's list of keys that no certificate may carry."""

from __future__ import annotations

from pathlib import Path

from kms.errors import invalid
from pki.goodkey import Blocklist


def blocklist(path: Path | None) -> Blocklist:
    """The list in this file, an empty one for None.

    Raises:
        KmsError(INVALID): it cannot be read; the server does not start without it.
    """
    try:
        return Blocklist.load(path) if path is not None else Blocklist()
    except (OSError, ValueError) as error:
        raise invalid(f"pki.blocklist cannot be read: {error}") from None
