"""Barriers: which prefixes are revoked, in memory, looked at for each token of each request.

Time decides on which side of a barrier something lies. What is issued while the clock stands still, or was set back,
is dated behind the barrier instead, so that a revocation never reaches what was issued after it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from kms.leases.model import Barrier
from kms.leases.store import BARRIERS
from kms.tables import Reader, Store, Transaction

KEEP_SECONDS = 768 * 3600 + 3600
"""The longest life of a token without a row, and an hour for clocks."""


def key_of(prefix: str, login: str = "") -> str:
    """The row key: no name or path holds a newline."""
    return f"{prefix}\n{login}" if login else prefix


def parts_of(key: str) -> tuple[str, str]:
    """(prefix, login) of a row key."""
    prefix, _, login = key.partition("\n")
    return prefix, login


class Barriers:
    """One per process, safe to use from several threads. Current as of the last `Store.refresh`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._moments: dict[str, float] | None = None
        self._epoch = 0
        store.watch(BARRIERS, self)

    def drop(self, _key: str) -> None:
        """A barrier was set or removed (kms.tables.CacheListener)."""
        self.clear()

    def clear(self) -> None:
        """Forget all (kms.tables.CacheListener)."""
        self._epoch += 1
        self._moments = None

    def _all(self) -> dict[str, float]:
        moments = self._moments
        if moments is None:
            # A change that arrives while we read must not be hidden by what we read before it.
            before = self._epoch
            moments = {row.key: row.value.at for row in self._store.reader().scan(BARRIERS)}
            if self._epoch == before:
                self._moments = moments
        return moments

    def covers(self, path: str, issued: float, login: str = "", reader: Reader | None = None) -> bool:
        """Whether what was issued there and then is revoked.

        Args:
            path: what was called, without the slash at its end.
            issued: seconds since the epoch.
            login: name of the user or role that logged in, "" for none.
            reader: a transaction, to see what was committed since the last refresh.
        """
        return issued <= self.newest(path, login, reader)

    def newest(self, path: str, login: str = "", reader: Reader | None = None) -> float:
        """The last moment at which everything from there was revoked; minus infinity for never."""
        if reader is not None:
            found = [reader.get(BARRIERS, key) for key in _keys(path, login)] if self._any(reader) else []
            return max((row.value.at for row in found if row is not None), default=-math.inf)
        moments = self._all()
        if not moments:
            return -math.inf
        return max((moments.get(key, -math.inf) for key in _keys(path, login)), default=-math.inf)

    @staticmethod
    def _any(reader: Reader) -> bool:
        return bool(reader.keys(BARRIERS, limit=1))

    def date(self, tx: Transaction, path: str, now: float, login: str = "") -> float:
        """When something that is issued now counts as issued."""
        return max(now, math.nextafter(self.newest(path, login, tx), math.inf))

    def set(self, tx: Transaction, prefix: str, now: float, login: str = "") -> None:
        """Put all that was issued until now below `prefix` out of force, once `tx` has committed."""
        key = key_of(prefix, login)
        row = tx.get(BARRIERS, key)
        if row is None:
            tx.insert(BARRIERS, key, Barrier(at=now, keep_until=now + KEEP_SECONDS))
        else:
            at = max(now, row.value.at)
            tx.replace(BARRIERS, row, Barrier(at=at, keep_until=at + KEEP_SECONDS))


def _keys(path: str, login: str) -> Iterator[str]:
    """Row keys of all barriers that can cover what was issued at `path`."""
    whole = path + "/"
    at = whole.find("/")
    while at >= 0:
        prefix = whole[: at + 1]
        yield prefix
        if login:
            yield key_of(prefix, login)
        at = whole.find("/", at + 1)
