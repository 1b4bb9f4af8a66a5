"""Reading modules without looking for garbage meanwhile.

What a module makes stays. Looking through it again and again is a sixth of a start, and looking at it later, in every
process, writes to pages that forks would share: so it is put aside for good.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Import inside."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
