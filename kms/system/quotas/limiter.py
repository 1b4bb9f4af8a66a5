"""Step 0 of the road: does a quota let this call pass?

The most special rule decides, and no other counts: of a role, of the very path, of the longest beginning of a path,
of the mount, of the
namespace, of the nearest one above it whose rule is inheritable. Clients are told apart by address; IPv6 by the network of 64 bits that one client has.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from kms.clock import Clock
from kms.errors import ErrorKind, KmsError
from kms.operation import Call, Caller, Needs
from kms.system.quotas.store import QUOTA_SETTINGS, QUOTAS, SETTINGS, Quota, QuotaSettings
from kms.tables import Row, Store

_IPV6_CLIENT = 64  # bits


class Windows(Protocol):
    """Counts that all processes share; `kms.shared.Shared` is one."""

    def take(
        self, key: bytes, now: float, *, limit: int, interval: float, block: float
    ) -> tuple[bool, int, float]:
        """Count a request: (it passes, how many are left, seconds until that is anew)."""
        ...


@dataclass(frozen=True, slots=True)
class _Rules:
    """All rules, ready to be looked up."""

    settings: QuotaSettings
    by_role: dict[tuple[str, str], Row[Quota]] = field(default_factory=dict)
    by_path: dict[str, Row[Quota]] = field(default_factory=dict)
    beginnings: tuple[tuple[str, Row[Quota]], ...] = ()  # the longest first

    def of(self, call: Call, role_of: Callable[[Call], str]) -> Row[Quota] | None:
        """The rule that decides about a call."""
        mount = call.mount.path
        if call.operation.caller is Caller.PROOF and any(place == mount for place, _ in self.by_role):
            found = self.by_role.get((mount, role_of(call)))
            if found is not None:
                return found
        found = self.by_path.get(call.path)
        if found is not None and not call.path.endswith("/"):
            return found
        for beginning, row in self.beginnings:
            if call.path.startswith(beginning) and len(call.path) > len(beginning):
                return row
        return self.by_path.get(mount) or self._of_namespace(call.namespace.path)

    def _of_namespace(self, path: str) -> Row[Quota] | None:
        """The rule of the namespace with this path, else of the nearest above it that holds below."""
        found, above = self.by_path.get(path), path
        while found is None and above:
            above = above[: above.rfind("/", 0, -1) + 1]
            held = self.by_path.get(above)
            found = held if held is not None and held.value.inheritable else None
        return found


class Limiter:
    """One per process, safe to use from several threads.

    Args:
        role_of: the role that a login is for, "" when it names none.
    """

    def __init__(self, store: Store, windows: Windows, clock: Clock, role_of: Callable[[Call], str]) -> None:
        self._store = store
        self._windows = windows
        self._clock = clock
        self._role_of = role_of
        self._rules: _Rules | None = None
        self._epoch = 0
        store.watch(QUOTAS, self)
        store.watch(QUOTA_SETTINGS, self)

    def drop(self, _key: str) -> None:
        """A rule changed (kms.tables.CacheListener)."""
        self.clear()

    def clear(self) -> None:
        """Forget all rules (kms.tables.CacheListener)."""
        self._epoch += 1
        self._rules = None

    def admit(self, call: Call) -> None:
        """Count a call, of an open server, against its rule; leaves in the call what its answer says about that.

        Raises:
            KmsError(RATE_LIMITED): too many.
        """
        if call.operation.needs is Needs.NOTHING:
            return  # answered sealed too, when no rule can be read
        rules = self._rules or self._load()
        if not rules.by_path and not rules.by_role and not rules.beginnings:
            return
        if _exempt(rules.settings.exempt, call.path):
            return
        row = rules.of(call, self._role_of)
        if row is not None:
            self._count(call, row, headers=rules.settings.headers)

    def _count(self, call: Call, row: Row[Quota], *, headers: bool) -> None:
        rule = row.value
        limit = math.ceil(rule.rate)
        # A changed rule begins anew.
        key = f"{row.key}\n{row.revision}\n{client_of(call.peer)}".encode()
        passes, left, wait = self._windows.take(
            key, self._clock.monotonic(), limit=limit, interval=rule.interval, block=rule.block_interval
        )
        if headers:
            call.headers = (
                ("X-Ratelimit-Limit", str(limit)),
                ("X-Ratelimit-Remaining", str(left)),
                ("X-Ratelimit-Reset", str(int(wait))),
            )
        if not passes:
            call.headers = (("Retry-After", str(math.ceil(wait))), *call.headers)
            raise KmsError(ErrorKind.RATE_LIMITED, f'request path "{call.place}": rate limit quota exceeded')

    def _load(self) -> _Rules:
        # A change that arrives while we read must not be hidden by what we read before it.
        before = self._epoch
        reader = self._store.reader()
        settings = reader.get(QUOTA_SETTINGS, SETTINGS)
        rows = reader.scan(QUOTAS)
        rules = _Rules(
            settings=settings.value if settings is not None else QuotaSettings(),
            by_role={(row.value.path, row.value.role): row for row in rows if row.value.role},
            by_path={
                row.value.path: row for row in rows if not row.value.role and not row.value.path.endswith("*")
            },
            beginnings=tuple(
                sorted(
                    ((row.value.path[:-1], row) for row in rows if row.value.path.endswith("*")),
                    key=lambda pair: -len(pair[0]),
                )
            ),
        )
        if self._epoch == before:
            self._rules = rules
        return rules


def _exempt(paths: tuple[str, ...], path: str) -> bool:
    return any(path == exempt or (exempt.endswith("/") and path.startswith(exempt)) for exempt in paths)


@lru_cache(maxsize=4096)
def client_of(peer: str) -> str:
    """What of an address is one client."""
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return peer
    if isinstance(address, ipaddress.IPv4Address):
        return peer
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _IPV6_CLIENT), strict=False))
