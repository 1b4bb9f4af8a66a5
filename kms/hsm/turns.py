"""One thread of a process at a time searches a token, or stores in it.

SoftHSM reads its folder anew in each search. Seen with 2.6.1: a search beside a thread that stores an object makes
the storing fail with CKR_GENERAL_ERROR, or leaves the module with a key seen twice or not at all. Searches are
rare (handles are kept) and storing is rarer, so every module gets the lock.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from kms.hsm.module import unavailable

WAIT_SECONDS: Final = 10.0
_locks: Final[dict[tuple[str, bytes], threading.RLock]] = {}
_making = threading.Lock()


@contextmanager
def turn(session: Any) -> Iterator[None]:
    """Hold the token's turn; the thread that has it may take it again.

    Raises:
        KmsError(HSM_UNAVAILABLE): another thread's call has not come back for ten seconds.
    """
    token = session.token
    with _making:
        lock = _locks.setdefault((token.label, bytes(token.serial)), threading.RLock())
    if not lock.acquire(timeout=WAIT_SECONDS):
        raise unavailable("the HSM is busy storing a key; try again")
    try:
        yield
    finally:
        lock.release()
