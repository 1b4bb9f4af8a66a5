"""LeaseBook: how engines and tokens write leases, in the commit of what they issue."""

from __future__ import annotations

import math
from dataclasses import dataclass

from msgspec.structs import replace

from kms.clock import Clock
from kms.ids import base62
from kms.leases.barriers import Barriers
from kms.leases.model import DUE, NEVER, OWN, Lease
from kms.leases.naming import shown
from kms.leases.store import LEASES
from kms.operation import Call, Leased
from kms.tables import Row, Store, Transaction

_ID = 24  # base62 characters


@dataclass(frozen=True, slots=True)
class Terms:
    """What an engine grants.

    Args:
        kind: of its revoker.
        ttl: seconds.
        max_ttl: seconds since now beyond which no renewal goes; 0 for `ttl`.
        data: what the revoker needs; no name of it is a secret, values may be.
    """

    kind: str
    ttl: int
    data: dict[str, str | int]
    max_ttl: int = 0
    renewable: bool = False


class LeaseBook:
    """One per process, safe to use from several threads."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._clock = clock
        self.barriers = Barriers(store)

    def issue(self, tx: Transaction, call: Call, terms: Terms) -> Leased:
        """A lease of the caller's token for what `tx` issues."""
        owner = call.principal
        now = self._clock.now()
        ttl = terms.ttl
        if owner.until:  # a token without a row takes along what it got when its own time is over
            ttl = max(0, min(ttl, int(owner.until - now)))
        lease_id = f"{call.path}/{base62(_ID)}"
        end = now + ttl
        bound = min(now + (terms.max_ttl or ttl), owner.until or NEVER)
        lease = Lease(
            kind=terms.kind,
            token=owner.lease_owner,
            mount_id=call.mount.id,
            path=call.path,
            issued=self.barriers.date(tx, call.path, now),
            expires_at=end,
            max_expires_at=max(end, bound),
            ttl=ttl,
            renewable=terms.renewable,
            data=terms.data,
        )
        tx.insert(LEASES, lease_id, lease)
        return Leased(shown(call.namespace, lease_id), ttl, renewable=terms.renewable)

    # -- leases of tokens, for kms.identity --------------------------------------------------------------

    def enter(self, tx: Transaction, key: str, path: str, issued: float) -> None:
        """The lease of a new token."""
        lease = Lease(kind=OWN, token=key, path=path, issued=issued, expires_at=NEVER)
        tx.insert(LEASES, token_lease(path, key), lease)

    def leave(self, tx: Transaction, key: str, budget: int) -> int:
        """A token dies: its own lease goes, and what it holds is due.

        Returns:
            What is left of the budget; 0 means that it may hold more.
        """
        for row in tx.find(LEASES, {"token": key}, limit=budget + 1):
            if row.value.own:
                tx.delete(LEASES, row)
            elif budget > 0:
                tx.replace(LEASES, row, replace(row.value, token="", expires_at=DUE))
                budget -= 1
        return budget


def token_lease(path: str, key: str) -> str:
    """The lease ID of a token: as the peer's, its path and a hash of the token."""
    return f"{path}/h{key}"


def due(now: float) -> tuple[str, float]:
    """For `find`: a lease ends at its expiry, not after it."""
    return "expires_at", math.nextafter(now, math.inf)


def given_up(row: Row[Lease]) -> Lease:
    """The lease, due at once and anew."""
    return replace(row.value, expires_at=DUE, attempts=0, error="", irrevocable=0)
