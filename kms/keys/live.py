"""The keys of this process's memory: names and opened versions, bounded in number and in time.

Coherence: every write to a name or a version row is announced to all workers, and `Store.refresh`,
which the pipeline calls before each request, drops the whole key here. Between two refreshes a key
does not change under a request: it holds on to the `LiveKey` that it got.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from kms.clock import Clock
from kms.errors import invalid
from kms.hsm import Hsm
from kms.keys.catalogue import Algorithm
from kms.keys.envelope import Envelope
from kms.keys.life import check_version, state_at
from kms.keys.lifecycle import (
    check_use,
    mac_version,
    processing_version,
    protecting_version,
    refuse_soft_deleted,
)
from kms.keys.model import KeyVersion, NamedKey, VersionState
from kms.keys.ready import ReadyVersion, open_version
from kms.keys.states import Act
from kms.keys.store import KEY_VERSIONS, NAMED_KEYS, version_key
from kms.keys.usage import Allowance
from kms.tables import Store

MAX_KEYS: Final = 4096
MAX_VERSIONS: Final = 64  # opened versions of one key; more are opened again when they are used
MAX_AGE_SECONDS: Final = 3600.0  # how long key bytes stay in memory without being read again
_SWEEP_SECONDS: Final = 60.0


class LiveKey:
    """One key as it stood when it was read, with its versions opened as they are needed."""

    __slots__ = ("_clock", "_lock", "_open", "_plain", "_versions", "algorithm", "deadline", "key")

    def __init__(
        self,
        key: NamedKey,
        deadline: float,
        opener: Callable[[NamedKey, int], ReadyVersion],
        clock: Clock | None = None,
    ) -> None:
        self.key = key
        # The common key needs no clock and no table: one look decides.
        self._plain = key.life.plain and not key.life.cryptoperiod
        self._clock = clock
        self.algorithm: Algorithm = key.algorithm
        self.deadline = deadline
        self._open = opener
        self._versions: dict[int, ReadyVersion] = {}
        self._lock = threading.Lock()

    def version(self, number: int) -> ReadyVersion:
        """One version, opened.

        Raises:
            KmsError(INVALID): there is no such version.
        """
        ready = self._versions.get(number)
        if ready is not None:
            return ready
        with self._lock:
            ready = self._versions.get(number)
            if ready is None:
                ready = self._open(self.key, number)
                if len(self._versions) >= MAX_VERSIONS:
                    self._versions.pop(next(iter(self._versions)))
                self._versions[number] = ready
        return ready

    def changed(self, change: Callable[[ReadyVersion], ReadyVersion]) -> LiveKey:
        """The same key, of which each version is what `change` makes of it."""
        return LiveKey(
            self.key, self.deadline, lambda _key, number: change(self.version(number)), self._clock
        )

    def permit(self, act: Act) -> None:
        """Refuse what the state of the key does not allow now.

        Raises:
            KmsError(INVALID): says the state and what to do.
        """
        if not self._plain:
            check_use(self.key, act, self._now())

    def protecting(self, requested: int, what: str, act: Act) -> ReadyVersion:
        """The version that encrypts or signs (`what` is "encryption" or "signing"); 0 asks for the newest."""
        self.permit(act)
        return self._fit(protecting_version(self.key, requested, what), act)

    def processing(self, number: int, what: str, act: Act) -> ReadyVersion:
        """The version that a ciphertext or signature (`what`) names."""
        self.permit(act)
        return self._fit(processing_version(self.key, number, what), act)

    def authenticating(self, requested: int) -> ReadyVersion:
        """The version that makes an HMAC or a CMAC; 0 asks for the newest."""
        self.permit(Act.AUTHENTICATE)
        return self._fit(mac_version(self.key, requested), Act.AUTHENTICATE)

    def checking(self, number: int) -> ReadyVersion:
        """The version that checks an HMAC or a CMAC, whose number was checked already."""
        self.permit(Act.CHECK)
        return self._fit(number, Act.CHECK)

    def subject(self) -> dict[str, str | int]:
        """What the audit record says: the key's id, and its state when that is not plainly active."""
        if self._plain:
            return {"key_id": self.key.id}
        return {"key_id": self.key.id, "key_state": state_at(self.key.life, self._now()).value}

    def _fit(self, number: int, act: Act) -> ReadyVersion:
        version = self.version(number)
        if not self._plain:
            check_version(self.key.name, self.key.life, act, number, version.created, self._now())
        return version

    def _now(self) -> float:
        if self._clock is None:
            raise TypeError("a key with dates needs a clock")
        return self._clock.now()

    def opened(self, number: int) -> ReadyVersion | None:
        """The version if it is open already."""
        return self._versions.get(number)


class LiveKeys:
    """All keys in memory. One per process."""

    def __init__(self, store: Store, hsm: Callable[[], Hsm], envelope: Envelope, clock: Clock) -> None:
        self._store = store
        self._hsm = hsm
        self._envelope = envelope
        self._clock = clock
        self._keys: dict[str, LiveKey] = {}
        self._names: dict[str, str] = {}  # key id -> row key of its name
        self._epoch = 0
        self._swept = clock.monotonic()
        self._lock = threading.Lock()
        store.watch(NAMED_KEYS, self)
        store.watch(KEY_VERSIONS, _Versions(self))

    def peek(self, row_key: str) -> LiveKey | None:
        """The key if it is in memory: no I/O."""
        return self._keys.get(row_key)

    def held(self, row_key: str) -> LiveKey | None:
        """The key as of the last `Store.refresh`, if it is in memory and may still be there."""
        live = self._keys.get(row_key)
        return live if live is not None and live.deadline > self._clock.monotonic() else None

    def get(self, row_key: str) -> LiveKey | None:
        """The key as of the last `Store.refresh`, or newer; None when there is no such name."""
        return self.held(row_key) or self._load(row_key)

    def drop(self, key: str) -> None:
        """A name changed (kms.tables.CacheListener)."""
        with self._lock:
            self._epoch += 1
            live = self._keys.pop(key, None)
            if live is not None:
                self._names.pop(live.key.id, None)

    def drop_version(self, key: str) -> None:
        """A version's row changed."""
        name = self._names.get(key.partition("/")[0])
        if name is not None:
            self.drop(name)

    def clear(self) -> None:
        """Forget everything (kms.tables.CacheListener): sealing, or too many changes to list."""
        with self._lock:
            self._epoch += 1
            self._keys = {}
            self._names = {}

    def expire(self) -> int:
        """Drop what nobody read for MAX_AGE_SECONDS; returns how many. For a timer; loads call it too."""
        now = self._swept = self._clock.monotonic()
        with self._lock:
            old = [key for key, live in self._keys.items() if live.deadline <= now]
            for key in old:
                self._names.pop(self._keys.pop(key).key.id, None)
        return len(old)

    def open(self, key: NamedKey, version: KeyVersion) -> ReadyVersion:
        """Open one version's row for use.

        Raises:
            KmsError(INVALID): it is not active. KmsError(INTEGRITY): it holds another key's material.
        """
        if version.state is not VersionState.ACTIVE:
            raise invalid("no such key version")
        self._envelope.check(key, version)
        allowance = Allowance(self._store, self._clock, version_key(key.id, version.version))
        ready = open_version(key, version, self._hsm, allowance)
        ready.created = version.created
        return ready

    def _load(self, row_key: str) -> LiveKey | None:
        if self._clock.monotonic() - self._swept > _SWEEP_SECONDS:
            self.expire()
        # A change that arrives between our read and our insert must win: remember the epoch first.
        before = self._epoch
        row = self._store.reader().get(NAMED_KEYS, row_key)
        if row is None:
            return None
        live = LiveKey(row.value, self._clock.monotonic() + MAX_AGE_SECONDS, self._read, self._clock)
        with self._lock:
            if self._epoch == before:
                if len(self._keys) >= MAX_KEYS:
                    oldest = self._keys.pop(next(iter(self._keys)))
                    self._names.pop(oldest.key.id, None)
                self._keys[row_key] = live
                self._names[row.value.id] = row_key
        return live

    def _read(self, key: NamedKey, number: int) -> ReadyVersion:
        # Here and not at each use: a key that was soft-deleted is read anew, and then opens nothing.
        refuse_soft_deleted(key)
        row = self._store.reader().get(KEY_VERSIONS, version_key(key.id, number))
        if row is None:
            raise invalid("no such key version")
        return self.open(key, row.value)


class _Versions:
    """Hears changes of version rows."""

    def __init__(self, keys: LiveKeys) -> None:
        self._keys = keys

    def drop(self, key: str) -> None:
        self._keys.drop_version(key)

    def clear(self) -> None:
        self._keys.clear()
