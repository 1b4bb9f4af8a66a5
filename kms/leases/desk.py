"""The verbs over leases: find, renew, revoke, expire."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from msgspec.structs import replace

from kms.clock import rfc3339
from kms.errors import invalid
from kms.leases import naming
from kms.leases.barriers import Barriers, parts_of
from kms.leases.book import due
from kms.leases.model import Barrier, Lease
from kms.leases.revoking import Revokers
from kms.leases.store import BARRIERS, LEASES
from kms.operation import NamespaceRef
from kms.tables import Reader, Row, Store, Transaction

AT_ONCE = 2000
"""Leases that one request takes back in its own commit; the rest follows in the background."""
_LOOKED_AT = 2000
_BATCH = 100  # in one commit of the background; their names fit into its record


@dataclass(frozen=True)
class TokenLease:
    """A token, as its lease shows it. `expires_at` is None where it has no end."""

    issued: float
    expires_at: float | None
    last_renewal: float
    renewable: bool


class Tokens(Protocol):
    """What leases ask of tokens."""

    def leased(self, key: str, reader: Reader | None = None) -> TokenLease | None:
        """The token with this row key, None unless it is in force."""
        ...

    def revoke(self, tx: Transaction, key: str) -> str:
        """Put a token and all its descendants out of force; its accessor, "" when there is none."""
        ...


class LeaseDesk:
    """One per process, safe to use from several threads."""

    def __init__(
        self,
        store: Store,
        tokens: Tokens,
        barriers: Barriers,
        revokers: Revokers,
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._barriers = barriers
        self._revokers = revokers
        self.now = now

    # -- finding -----------------------------------------------------------------------------------------

    def live(self, lease_id: str, reader: Reader | None = None) -> Row[Lease] | None:
        """A lease in force."""
        row = (reader or self._store.reader()).get(LEASES, lease_id)
        return row if row is not None and self._in_force(row.value, reader) else None

    def _in_force(self, lease: Lease, reader: Reader | None = None) -> bool:
        if lease.own:
            return self._tokens.leased(lease.token, reader) is not None
        if lease.expires_at <= self.now() or self._barriers.covers(lease.path, lease.issued, "", reader):
            return False
        return not lease.token or self._tokens.leased(lease.token, reader) is not None

    def shown(self, row: Row[Lease], namespace: NamespaceRef) -> dict[str, Any]:
        """As the API shows a lease of this namespace."""
        lease = row.value
        if lease.own:
            token = self._tokens.leased(lease.token)
            if token is None:
                raise invalid("invalid lease")
            times = (token.issued, token.expires_at, token.last_renewal, token.renewable)
        else:
            times = (lease.issued, lease.expires_at, lease.last_renewal, lease.renewable)
        issued, expires_at, last, renewable = times
        place = {"namespace_path": namespace.path} if namespace.path else {}
        return place | {
            "id": naming.shown(namespace, row.key),
            "path": lease.path[len(namespace.path) :],
            "issue_time": rfc3339(issued),
            "expire_time": rfc3339(expires_at) if expires_at is not None else None,
            "last_renewal": rfc3339(last) if last else None,
            "renewable": renewable,
            "ttl": max(0, math.floor(expires_at - self.now())) if expires_at is not None else 0,
        }

    def names(self, namespace: NamespaceRef, prefix: str, apart: Callable[[str], bool]) -> list[str]:
        """Names directly below a prefix of a namespace, which is "" or ends in '/'; those of folders end in '/'.

        A folder costs one probe however much is in it.

        Args:
            namespace: whose leases.
            prefix: as it is called there.
            apart: whether a full path, which ends in '/', is a namespace of its own.
        """
        prefix = namespace.path + prefix
        reader = self._store.reader()
        # Leases below a revoked prefix are out of force before their rows are gone.
        pending = [parts_of(row.key)[0] for row in reader.find(BARRIERS, {"pending": 1})]
        check = any(held.startswith(prefix) or prefix.startswith(held) for held in pending)
        names = self._names(reader, prefix, check=check)
        return [
            name if name.endswith("/") else naming.shown(namespace, namespace.path + name)
            for name in names
            if not (name.endswith("/") and apart(prefix + name))
        ]

    def _names(self, reader: Reader, prefix: str, *, check: bool) -> Iterator[str]:
        after = ""
        while page := reader.keys(LEASES, prefix, after=after, limit=_BATCH):
            for key in page:
                name, slash, _ = key[len(prefix) :].partition("/")
                after = key
                if not slash:
                    if not check or self.live(key) is not None:
                        yield name
                    continue
                folder = f"{prefix}{name}/"
                if not check or self._any_live(reader, folder):
                    yield f"{name}/"
                after = folder + "\U0010ffff"  # beyond everything in the folder
                break

    def _any_live(self, reader: Reader, folder: str) -> bool:
        """Whether something in a folder is in force. One with very much in it that is not is said to have some."""
        keys = reader.keys(LEASES, folder, limit=_LOOKED_AT)
        return len(keys) == _LOOKED_AT or any(self.live(key) is not None for key in keys)

    @staticmethod
    def _below(reader: Reader, prefix: str) -> Iterator[str]:
        after = ""
        while page := reader.keys(LEASES, prefix, after=after, limit=_BATCH):
            yield from page
            after = page[-1]

    def irrevocable(self, reader: Reader | None = None) -> list[Row[Lease]]:
        """Leases that nothing tries to take back any more."""
        return (reader or self._store.reader()).find(LEASES, {"irrevocable": 1})

    # -- renewing ----------------------------------------------------------------------------------------

    def renew(self, tx: Transaction, lease_id: str, wanted: int) -> Row[Lease]:
        """Grant more time, `wanted` seconds or as much as last time (0), never beyond the lease's maximum.

        Raises:
            KmsError(INVALID): unknown, a token's, or not renewable.
        """
        row = self.live(lease_id, tx)
        if row is None:
            raise invalid("lease not found")
        lease = row.value
        if lease.own:
            raise invalid("tokens cannot be renewed through this endpoint")
        renew = self._revokers.of(lease).renew
        if not lease.renewable or renew is None:
            raise invalid("lease is not renewable")
        now = self.now()
        left = int(lease.max_expires_at - now)
        if left <= 0:
            raise invalid("lease expired")
        granted = max(1, min(renew(lease, wanted or lease.ttl), left))
        changed = replace(lease, expires_at=now + granted, ttl=granted, last_renewal=now)
        return tx.replace(LEASES, row, changed)

    # -- revoking ----------------------------------------------------------------------------------------

    def revoke(self, tx: Transaction, lease_id: str, *, force: bool = False) -> str:
        """End one lease; what was taken back, "" when there was none. Unknown ones are no error."""
        row = tx.get(LEASES, lease_id)
        if row is None:
            return ""
        if row.value.own:
            return self._tokens.revoke(tx, row.value.token)
        return self._revokers.take(tx, row, self.now(), force=force)

    def revoke_prefix(
        self, tx: Transaction, prefix: str, login: str = "", *, force: bool = False
    ) -> tuple[int, int]:
        """End all below a prefix, which ends in '/'.

        Nothing issued until now is accepted from the commit on. Certificates and other things outside this
        service's own checks are taken back in the same commit, up to `AT_ONCE`.

        Returns:
            How many leases of engines were ended, and how many are left for the background.
        """
        now = self.now()
        self._barriers.set(tx, prefix, now, login)
        if login:
            return 0, 0  # what users and roles get at a mount of their method is tokens
        taken = 0
        for key in self._below(tx, prefix):
            row = tx.get(LEASES, key)
            if row is None or row.value.own:
                continue
            if taken >= AT_ONCE:
                return taken, 1
            if force:
                self._revokers.take(tx, row, now, force=True)
            else:
                self._revokers.take_all(tx, [row], now)
            taken += 1
        return taken, 0

    def end_mount(self, tx: Transaction, path: str) -> None:
        """A mount is removed: what it issued is out of force with it."""
        self._barriers.set(tx, path, self.now())

    # -- in the background -------------------------------------------------------------------------------

    def due(self) -> bool:
        """Whether a lease is over, or a revoked prefix has rows left."""
        return self.overdue() or bool(self._store.reader().find(BARRIERS, {"pending": 1}, limit=1))

    def overdue(self) -> bool:
        """Whether a lease is over and still there."""
        return bool(self._store.reader().find(LEASES, {}, below=due(self.now()), limit=1))

    def expire(self, tx: Transaction) -> tuple[list[str], int, int]:
        """End a batch of those that are over: (what was taken back, how many leases, how many failed)."""
        now = self.now()
        rows = tx.find(LEASES, {}, below=due(now), limit=_BATCH)
        taken, failed = self._revokers.take_all(tx, rows, now)
        return taken, len(rows), failed

    def barriers_to_clear(self) -> list[Row[Barrier]]:
        """Revoked prefixes with rows left."""
        return self._store.reader().find(BARRIERS, {"pending": 1})

    def clear(self, tx: Transaction, barrier: Row[Barrier], after: str) -> tuple[list[str], str]:
        """A batch below a revoked prefix: (what was taken back, the key to go on after, "" at the end)."""
        prefix, login = parts_of(barrier.key)
        keys = tx.keys(LEASES, prefix, after=after, limit=_BATCH)
        taken: list[str] = []
        for key in keys:
            row = tx.get(LEASES, key)
            if row is None or row.value.issued > barrier.value.at:
                continue
            if row.value.own:
                # One of the role's, or one that nobody can tell: out of force is out of force.
                if not login or self._tokens.leased(row.value.token, tx) is None:
                    self._tokens.revoke(tx, row.value.token)
            elif not login:
                taken += self._revokers.take_all(tx, [row], self.now())[0]
        if len(keys) == _BATCH:
            return taken, keys[-1]
        self._cleared(tx, barrier)
        return taken, ""

    def _cleared(self, tx: Transaction, barrier: Row[Barrier]) -> None:
        row = tx.get(BARRIERS, barrier.key)
        if row is not None and row.revision == barrier.revision:  # else it was set anew meanwhile: once more
            tx.replace(BARRIERS, row, replace(row.value, pending=0))

    def forget(self, tx: Transaction) -> int:
        """Drop barriers that hold nothing back any more; how many."""
        over = [r for r in tx.scan(BARRIERS) if not r.value.pending and r.value.keep_until <= self.now()]
        for row in over:
            tx.delete(BARRIERS, row)
        return len(over)
