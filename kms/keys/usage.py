"""The 2^32 bound of AEAD keys with random 96-bit nonces (NIST SP 800-38D 8.3), over all workers.

A worker draws an allowance of uses from the database and spends it in memory. What is left when the
worker ends is lost, so the count is high, never low. Draws start at 2^10 and double, up to 2^20,
while they are used up within a minute: a busy key costs one small transaction in a million uses.
"""

from __future__ import annotations

import threading
from typing import Final

from kms.clock import Clock
from kms.errors import ErrorKind, KmsError
from kms.keys.model import KeyUsage
from kms.keys.store import KEY_USAGE
from kms.tables import Store, Transaction

BOUND: Final = 2**32
ALARM: Final = 2**31  # from here on every answer carries a warning
SMALLEST_DRAW: Final = 2**10
LARGEST_DRAW: Final = 2**20
_BUSY_SECONDS: Final = 60.0


class Allowance:
    """The uses that this process may still make of one key version. Thread safe."""

    def __init__(self, store: Store, clock: Clock, key: str) -> None:
        self._store = store
        self._clock = clock
        self._key = key
        self._left = 0
        self._size = SMALLEST_DRAW
        self._drawn_at = float("-inf")
        self._lock = threading.Lock()
        self.worn = False

    def spend(self, uses: int) -> None:
        """Use up part of the allowance, drawing a new one when it does not suffice.

        Raises:
            KmsError(INVALID): the bound is reached; nothing may be encrypted with this version.
        """
        with self._lock:
            if self._left < uses:
                with self._store.transaction() as tx:
                    self._draw(tx, uses)
            self._left -= uses

    def reserve(self, tx: Transaction, uses: int) -> None:
        """Make sure, in the caller's transaction, that a later `spend` of as many need not draw."""
        with self._lock:
            if self._left < uses:
                self._draw(tx, uses)

    def covers(self, uses: int) -> bool:
        """Whether `spend` would not have to write."""
        return self._left >= uses

    def _draw(self, tx: Transaction, uses: int) -> None:
        now = self._clock.monotonic()
        busy = now - self._drawn_at < _BUSY_SECONDS
        self._size = min(self._size * 2, LARGEST_DRAW) if busy else SMALLEST_DRAW
        row = tx.get(KEY_USAGE, self._key)
        drawn = row.value.drawn if row else 0
        needed = uses - self._left
        if drawn + needed > BOUND:
            raise KmsError(
                ErrorKind.INVALID,
                "this key version has encrypted 2^32 times, the most that is safe; rotate the key",
            )
        size = min(max(self._size, needed), BOUND - drawn)
        usage = KeyUsage(drawn=drawn + size, drawn_at=self._clock.now())
        if row:
            tx.replace(KEY_USAGE, row, usage)
        else:
            tx.insert(KEY_USAGE, self._key, usage)
        self._left += size
        self._drawn_at = now
        self.worn = usage.drawn >= ALARM
