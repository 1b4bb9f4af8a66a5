"""Where the `keystead` command begins: the modules are read without looking for garbage meanwhile.

Reading them makes objects that all stay. Looking through them again and again is a sixth of a start, and looking at them later
in every process writes to pages that the forks would share, so they are put aside for good.
"""

from __future__ import annotations

import gc


def main() -> None:
    """The command."""
    gc.disable()
    from kms.cli import main as command  # noqa: PLC0415  (the point of this file)

    gc.freeze()
    gc.enable()
    command()
