"""CRLs for whoever fetches them: as stored, and made anew first when they are behind.

A revocation marks its CRLs as behind and is answered; nobody waits for a signature there. The first one who
fetches such a CRL has it made, with an intent and an outcome on record, while others who fetch it wait for
that one. So after the answer to a revocation no fetched CRL lacks it, and a thousand revocations between two
fetches cost one signature.

Without keys, an open server, or a log that takes records nothing is signed: the last CRL is served then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kms.clock import Clock
from kms.errors import ErrorKind, KmsError
from kms.operation import External
from kms.tables import Cache, Store
from pki import marks
from pki.marks import Scope
from pki.model import PublicCrl, Shards
from pki.renewal import OPERATION, Renewals
from pki.store import CRL_SHARDS, PUBLIC_CRLS

Road = Callable[[str, str, External[Any]], object]
"""Runs background work under an operation's name, for a mount, with the records of a request."""

_WAIT_SECONDS = marks.CLAIM_SECONDS + 2
_LOOK_SECONDS = 0.005
_SERVE_THE_LAST = frozenset(
    {
        ErrorKind.SEALED,
        ErrorKind.HSM_UNAVAILABLE,
        ErrorKind.AUDIT_UNAVAILABLE,
        ErrorKind.STORAGE_UNAVAILABLE,
    }
)


@dataclass
class FreshCrls:
    """One per process. `road` is set by the composition root."""

    store: Store
    renewals: Renewals
    clock: Clock
    road: Road | None = None
    _turns: tuple[threading.Lock, ...] = field(
        default_factory=lambda: tuple(threading.Lock() for _ in range(64))
    )

    def __post_init__(self) -> None:
        self._published: Cache[PublicCrl] = Cache(self.store, PUBLIC_CRLS)
        self._shards: Cache[Shards] = Cache(self.store, CRL_SHARDS)

    def get(self, scope: Scope) -> PublicCrl | None:
        """The CRL, fresh where that is possible; None while there is none."""
        if scope.name == marks.DELTA:
            self.get(marks.complete(scope.mount_id, scope.issuer_id))  # what it adds to comes first
        built = 0
        try:
            if not self._exists(scope):
                return None
            target = self.renewals.target(scope)
            if target and self.road is not None and self.renewals.able(scope.mount_id, scope.issuer_id):
                self._bring(scope, target, self.road)
            built = marks.mark_of(self.store.reader(), scope).built
        except KmsError as error:
            if error.kind not in _SERVE_THE_LAST:
                raise
        row = self._published.get(scope.public_key)
        if row is not None and row.value.number < built:
            # Published since this thread last looked: what is in memory may lack a revocation that was answered.
            row = self.store.reader().get(PUBLIC_CRLS, scope.public_key)
        return row.value if row is not None else None

    def _exists(self, scope: Scope) -> bool:
        row = self._shards.get(scope.issuer_key) if scope.shard is not None else None
        return scope.shard is None or (row is not None and scope.shard < row.value.count)

    def _bring(self, scope: Scope, target: int, road: Road) -> None:
        """Have it made, or wait for whoever makes it."""
        until = self.clock.monotonic() + _WAIT_SECONDS
        with self._turns[hash(scope) % len(self._turns)]:
            while not self._reached(scope, target) and self.clock.monotonic() < until:
                try:
                    road(OPERATION, scope.mount_id, self.renewals.renewal(scope, whole=False))
                except KmsError as error:
                    if error.kind is not ErrorKind.CONFLICT:
                        raise
                    self.clock.sleep(_LOOK_SECONDS)  # another process has claimed it
                self.store.refresh()

    def _reached(self, scope: Scope, target: int) -> bool:
        mark = marks.mark_of(self.store.reader(), scope)
        return mark.built >= target and int(self.clock.now()) < mark.next_update
