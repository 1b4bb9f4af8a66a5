"""What the processes of one server share and what must never reach a disk.

One anonymous memory file (`memfd`), mapped before the fork, so that workers, the jobs process and their
parent see the same bytes: the seal epoch, quorum shares under way, rate buckets, worker presence.

Locks are POSIX record locks on the same file, one byte per area: the kernel drops them when a process
dies, so a worker killed inside an update blocks nobody (a shared semaphore would stay taken). They know
processes only, so a thread lock stands in front. Areas survive a torn update: a slot has two halves and
a byte that says which one counts, written last; counters are eight aligned bytes, one store.
"""

from __future__ import annotations

import fcntl
import hmac
import mmap
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b

from kms.errors import KmsError, invalid
from kms.ids import new_uuid
from kms.inflight import InFlight

SLOT_BYTES = 16 * 1024
SLOTS = ("unseal", "rekey", "generate-root", "generate-root-token", "spare")
BUCKETS = 8192
MAX_WORKERS = 256
MAX_SHARES = 255
MAX_SHARE_BYTES = 128

_U64 = struct.Struct("<Q")
WINDOW_SETS = 4096
WINDOWS_IN_SET = 4
_BUCKET = struct.Struct("<Qd")  # 64-bit tag of the key, theoretical arrival time in seconds
# 64-bit tag of the key, end of the window, end of the block, requests counted
_WINDOW = struct.Struct("<QddQ")
_LENGTH = struct.Struct("<I")

_EPOCH = 0
_CHANGES = 8
_PRESENCE = 16
_SLOTS = _PRESENCE + 8 * MAX_WORKERS
_SLOT_AREA = 8 + 2 * SLOT_BYTES
_BUCKETS = _SLOTS + len(SLOTS) * _SLOT_AREA
_WINDOWS = _BUCKETS + BUCKETS * _BUCKET.size
_FAULT = _WINDOWS + WINDOW_SETS * WINDOWS_IN_SET * _WINDOW.size
_RELOADS = _FAULT + 8
_SIZE = _RELOADS + 8

_MAX_U64 = (1 << 64) - 1
_FULL = 1 << 63  # beside the process id of a worker

_LOCK_COUNTERS, _LOCK_SLOTS, _LOCK_BUCKETS = 0, 1, 16
_LOCK_WINDOWS = _LOCK_BUCKETS + BUCKETS


@dataclass
class Slot:
    """The bytes of a slot inside `Shared.edit`."""

    value: bytes


class Shared:
    """The shared page. Make it before the first fork; children inherit it.

    Safe to use from several threads and processes.
    """

    def __init__(self) -> None:
        self._file = os.memfd_create("keystead", os.MFD_CLOEXEC)
        os.ftruncate(self._file, _SIZE)
        self._page = mmap.mmap(self._file, _SIZE)
        self._threads = threading.RLock()
        self.inflight = InFlight()
        # A thread of the parent may hold the lock at the instant of the fork; the child has none.
        os.register_at_fork(after_in_child=self._new_thread_lock)

    def _new_thread_lock(self) -> None:
        self._threads = threading.RLock()

    @contextmanager
    def _locked(self, area: int) -> Iterator[None]:
        with self._threads:
            fcntl.lockf(self._file, fcntl.LOCK_EX, 1, area)
            try:
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, area)

    # -- seal epoch -------------------------------------------------------------------------------

    def seal_epoch(self) -> int:
        """Grows whenever a process changed what is sealed. One read of memory."""
        return int(_U64.unpack_from(self._page, _EPOCH)[0])

    def bump_seal_epoch(self) -> None:
        """Tell every process to look again; visible to all when this returns."""
        with self._locked(_LOCK_COUNTERS):
            _U64.pack_into(self._page, _EPOCH, self.seal_epoch() + 1)

    def faulty(self) -> bool:
        """Whether the last self-test had a wrong answer."""
        return bool(_U64.unpack_from(self._page, _FAULT)[0])

    def set_faulty(self, faulty: bool) -> None:
        """Say so, and tell every process to look again."""
        _U64.pack_into(self._page, _FAULT, faulty)
        self.bump_seal_epoch()

    # -- reloads ----------------------------------------------------------------------------------

    def reloads(self) -> int:
        """How often a reload was asked for."""
        return int(_U64.unpack_from(self._page, _RELOADS)[0])

    def ask_reload(self) -> None:
        """Ask the first process to do what SIGHUP does. It looks several times a second."""
        with self._locked(_LOCK_COUNTERS):
            _U64.pack_into(self._page, _RELOADS, self.reloads() + 1)

    # -- changes of the database ------------------------------------------------------------------

    def changes(self) -> int:
        """Another number after each commit that caches must hear of. One read of memory."""
        return int(_U64.unpack_from(self._page, _CHANGES)[0])

    def announce_change(self) -> None:
        """A commit is done. Called by the one process whose turn it is to write, before it answers anybody."""
        _U64.pack_into(self._page, _CHANGES, (self.changes() + 1) & _MAX_U64)

    # -- presence ---------------------------------------------------------------------------------

    def announce(self) -> None:
        """This process serves requests now."""
        with self._locked(_LOCK_COUNTERS):
            for place in self._places():
                if _U64.unpack_from(self._page, place)[0] == 0:
                    _U64.pack_into(self._page, place, os.getpid())
                    return

    def withdraw(self, pid: int) -> None:
        """The process `pid` serves no longer."""
        with self._locked(_LOCK_COUNTERS):
            for place in self._places():
                if self._present(place) & ~_FULL == pid:
                    _U64.pack_into(self._page, place, 0)

    def serving(self) -> list[int]:
        """Process ids of the workers that serve requests."""
        return [present & ~_FULL for place in self._places() if (present := self._present(place))]

    def set_full(self, full: bool) -> None:
        """This process has all the connections that it serves, or has room again. Nothing before `announce`."""
        pid = os.getpid()
        with self._locked(_LOCK_COUNTERS):
            for place in self._places():
                if self._present(place) & ~_FULL == pid:
                    _U64.pack_into(self._page, place, pid | _FULL if full else pid)

    def all_full(self) -> bool:
        """Whether no worker has room."""
        return all(present & _FULL for place in self._places() if (present := self._present(place)))

    def _present(self, place: int) -> int:
        return int(_U64.unpack_from(self._page, place)[0])

    @staticmethod
    def _places() -> range:
        return range(_PRESENCE, _SLOTS, 8)

    # -- slots ------------------------------------------------------------------------------------

    def read(self, name: str) -> bytes:
        """The bytes of a slot, b"" at first."""
        with self._locked(_LOCK_SLOTS + SLOTS.index(name)):
            return self._read(_slot(name))

    def write(self, name: str, value: bytes) -> None:
        """Replace the bytes of a slot; the old ones are overwritten with zeros."""
        with self._locked(_LOCK_SLOTS + SLOTS.index(name)):
            self._write(_slot(name), value)

    @contextmanager
    def edit(self, name: str) -> Iterator[Slot]:
        """Read and replace a slot as one step: nobody else changes it inside the block.

        An exception leaves it as it was.
        """
        with self._locked(_LOCK_SLOTS + SLOTS.index(name)):
            before = self._read(_slot(name))
            slot = Slot(before)
            yield slot
            if slot.value != before:
                self._write(_slot(name), slot.value)

    def _read(self, at: int) -> bytes:
        half = at + 8 + (self._page[at] & 1) * SLOT_BYTES
        (length,) = _LENGTH.unpack_from(self._page, half)
        return self._page[half + 4 : half + 4 + length]

    def _write(self, at: int, value: bytes) -> None:
        if len(value) > SLOT_BYTES - 4:
            raise ValueError(f"a slot holds {SLOT_BYTES - 4} bytes")
        current = self._page[at] & 1
        half = at + 8 + (1 - current) * SLOT_BYTES
        self._page[half + 4 : half + 4 + len(value)] = value
        _LENGTH.pack_into(self._page, half, len(value))
        self._page[at] = 1 - current  # from here on the new half counts
        old = at + 8 + current * SLOT_BYTES
        self._page[old : old + SLOT_BYTES] = bytes(SLOT_BYTES)

    # -- quorum: nonce, then length-prefixed shares ------------------------------------------------

    def quorum_shares(self, name: str = "unseal") -> tuple[str, list[bytes]]:
        """(nonce, shares given so far) of the attempt under way; ("", []) when there is none."""
        return _unpack_quorum(self.read(name))

    def add_quorum_share(self, share: bytes, name: str = "unseal") -> None:
        """Add one share; the same share twice counts once. The first one starts an attempt.

        Raises:
            KmsError(INVALID): longer than a share can be, or too many.
        """
        if len(share) > MAX_SHARE_BYTES:
            raise _not_a_share()
        with self._locked(_LOCK_SLOTS + SLOTS.index(name)):
            nonce, shares = _unpack_quorum(self._read(_slot(name)))
            if any(hmac.compare_digest(share, other) for other in shares):
                return
            packed = _pack_quorum(nonce or new_uuid(), [*shares, share])
            if len(shares) >= MAX_SHARES or len(packed) > SLOT_BYTES - 4:
                raise _not_a_share()
            self._write(_slot(name), packed)

    def reset_quorum(self, name: str = "unseal") -> None:
        """Forget the attempt and overwrite its shares."""
        with self._locked(_LOCK_SLOTS + SLOTS.index(name)):
            self._write(_slot(name), b"")

    # -- rates ------------------------------------------------------------------------------------

    def allow(self, key: bytes, now: float, *, per_second: float, burst: int) -> bool:
        """Take one token from the bucket of `key`, counted over all processes.

        The generic cell rate algorithm: one time per bucket. Keys are hashed into 8,192 buckets; two
        that collide evict each other, which errs on the side of allowing, and a flood of made-up keys
        cannot grow memory.

        Args:
            key: whose rate, for example a source prefix.
            now: monotonic seconds of this machine.
            per_second: sustained rate.
            burst: how many at once.
        """
        digest = blake2b(key, digest_size=8).digest()
        tag = int.from_bytes(digest, "little") or 1
        index = tag % BUCKETS
        at = _BUCKETS + index * _BUCKET.size
        step = 1.0 / per_second
        with self._locked(_LOCK_BUCKETS + index):
            held, arrival = _BUCKET.unpack_from(self._page, at)
            arrival = max(arrival, now) if held == tag else now
            if arrival - now > step * (burst - 1):
                return False
            _BUCKET.pack_into(self._page, at, tag, arrival + step)
            return True

    def take(
        self, key: bytes, now: float, *, limit: int, interval: float, block: float
    ) -> tuple[bool, int, float]:
        """Count one request of `key` in its window of time, over all processes.

        A window begins with the first request after the last one ended. Keys are hashed into sets of four; in a
        full set the one whose time is up first makes room, so only very many clients at once weaken each other.

        Args:
            key: whose requests, for example a rule and an address.
            now: monotonic seconds of this machine.
            limit: how many pass in a window.
            interval: length of a window, seconds.
            block: seconds for which nothing passes after one too many; 0 for the rest of the window.

        Returns:
            (it passes, how many more would, seconds until that is anew).
        """
        tag = int.from_bytes(blake2b(key, digest_size=8).digest(), "little") or 1
        index = tag % WINDOW_SETS
        start = _WINDOWS + index * WINDOWS_IN_SET * _WINDOW.size
        with self._locked(_LOCK_WINDOWS + index):
            at, ends, blocked, count = self._window(start, tag, now)
            if blocked > now:
                return False, 0, blocked - now
            if ends <= now:
                ends, count = now + interval, 0
            passes = count < limit
            if passes:
                count += 1
            elif block:
                blocked = now + block
            _WINDOW.pack_into(self._page, at, tag, ends, blocked, count)
            return passes, limit - count, (blocked if not passes and block else ends) - now

    def _window(self, start: int, tag: int, now: float) -> tuple[int, float, float, int]:
        """Place and state of a key's window in its set; of the one that makes room, if it has none."""
        room, soonest = start, float("inf")
        for at in range(start, start + WINDOWS_IN_SET * _WINDOW.size, _WINDOW.size):
            held, ends, blocked, count = _WINDOW.unpack_from(self._page, at)
            if held == tag:
                return at, ends, blocked, count
            over = max(ends, blocked) if held else -1.0
            if over < soonest:
                room, soonest = at, over
        return room, now, 0.0, 0


def _slot(name: str) -> int:
    return _SLOTS + SLOTS.index(name) * _SLOT_AREA


def _not_a_share() -> KmsError:
    return invalid("this is not a share of this server, or too many were given; reset and start again")


def _pack_quorum(nonce: str, shares: list[bytes]) -> bytes:
    return nonce.encode("ascii") + b"".join(bytes([len(share)]) + share for share in shares)


def _unpack_quorum(packed: bytes) -> tuple[str, list[bytes]]:
    if not packed:
        return "", []
    nonce, at, shares = packed[:36].decode("ascii"), 36, []
    while at < len(packed):
        end = at + 1 + packed[at]
        shares.append(packed[at + 1 : end])
        at = end
    return nonce, shares
