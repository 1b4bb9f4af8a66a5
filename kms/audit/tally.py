"""Counting instead of writing: what an anonymous caller can do must not fill the log.

Public calls (health, CRLs) and refusals of callers that we do not know arrive without limit. The first
refusals of each source in a window are written in full; everything further is a number in one record per
window. Memory is bounded too: when a window has seen many sources, further ones share one counter.
"""

from __future__ import annotations

import ipaddress
import threading

WINDOW_SECONDS = 60.0
FULL_PER_SOURCE = 20
FULL_PER_WINDOW = 600  # over all sources, for an attacker who owns many prefixes
MAX_SOURCES = 256  # counted apart in one window
OTHER = "other"


def source_prefix(peer: str) -> str:
    """The network that a peer address is counted under: /24 of IPv4, /48 of IPv6, the text itself else."""
    host = peer
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return peer[:64] or "local"
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(ipaddress.ip_network((address, 24 if address.version == 4 else 48), strict=False))


class Tally:
    """Numbers under at most MAX_SOURCES names, and the rest under `other`. Thread safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}

    def add(self, name: str) -> None:
        """Count one."""
        with self._lock:
            if name not in self._counts and len(self._counts) >= MAX_SOURCES:
                name = OTHER
            self._counts[name] = self._counts.get(name, 0) + 1

    def take(self) -> dict[str, int]:
        """The counts since the last call, largest first."""
        with self._lock:
            counts, self._counts = self._counts, {}
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


class RefusalLimiter:
    """Decides which refusals are written in full. Per process, thread safe.

    The caller starts a new window by `take`.
    """

    def __init__(self, per_source: int = FULL_PER_SOURCE, per_window: int = FULL_PER_WINDOW) -> None:
        self._per_source = per_source
        self._left = self._per_window = per_window
        self._lock = threading.Lock()
        self._written: dict[str, int] = {}
        self._counted = Tally()

    def admit(self, peer: str) -> bool:
        """Whether this refusal gets a record of its own; if not, it has been counted."""
        source = source_prefix(peer)
        with self._lock:
            written = self._written.get(source, 0)
            if written < self._per_source and self._left > 0:
                self._written[source] = written + 1
                self._left -= 1
                return True
        self._counted.add(source)
        return False

    def take(self) -> dict[str, int]:
        """Start a new window. Returns how many refusals per source were only counted."""
        with self._lock:
            self._written = {}
            self._left = self._per_window
        return self._counted.take()
