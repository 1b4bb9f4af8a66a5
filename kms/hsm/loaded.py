"""The bounded set of wrapped keys that are loaded as session objects, least recently used first out.

A handle must not be destroyed while a call uses it: the token may give the number to the next object, and
the call would use another key. So users are counted, and what is evicted while in use is destroyed by the
last of them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from kms.hsm.model import Wrapped


@dataclass
class Loaded:
    """One session object and how many calls are using it."""

    handle: int
    users: int = 0
    evicted: bool = False


class LoadedKeys:
    """Thread safe. `limit` counts session objects."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._keys: OrderedDict[Wrapped, Loaded] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._keys)

    def take(self, ref: Wrapped) -> Loaded | None:
        """The loaded key, counted as used until `release`."""
        with self._lock:
            loaded = self._keys.get(ref)
            if loaded is not None:
                loaded.users += 1
                self._keys.move_to_end(ref)
            return loaded

    def add(self, ref: Wrapped, handle: int) -> tuple[Loaded, list[int]]:
        """Put a key in, used once; also the handles that the caller must destroy now.

        When another thread was first, its object is kept and the caller's own is among those to destroy.
        """
        with self._lock:
            present = self._keys.get(ref)
            if present is not None:
                present.users += 1
                return present, [handle]
            loaded = self._keys[ref] = Loaded(handle, users=1)
            return loaded, self._evict(len(self._keys) - self._limit)

    def release(self, loaded: Loaded) -> int | None:
        """One use is over. The handle, if it was evicted meanwhile and the caller must destroy it."""
        with self._lock:
            loaded.users -= 1
            return loaded.handle if loaded.evicted and loaded.users == 0 else None

    def shrink(self, keep: int) -> list[int]:
        """Evict all but the `keep` most recently used; the handles to destroy now."""
        with self._lock:
            return self._evict(len(self._keys) - keep)

    def _evict(self, count: int) -> list[int]:
        idle = []
        for _ in range(count):
            _, loaded = self._keys.popitem(last=False)
            loaded.evicted = True
            if loaded.users == 0:
                idle.append(loaded.handle)
        return idle
