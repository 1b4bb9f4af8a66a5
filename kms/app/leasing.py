"""Leases and limits of one process: the engines' revokers over the tokens, locked names, and their periodic work."""

from __future__ import annotations

from collections.abc import Iterable

from kms.app.engines import Engine
from kms.clock import Clock
from kms.http.vault import leases as lease_routes
from kms.http.vault import limits as limit_routes
from kms.identity import TokenService
from kms.identity.methods.locked import LockedUsers
from kms.identity.methods.lockout import Lockouts
from kms.jobs.maintenance import Errand
from kms.leases import Revokers
from kms.leases.desk import LeaseDesk
from kms.leases.errands import LeaseErrands
from kms.leases.operations import LeaseHandlers
from kms.operation import Operation
from kms.system.mounts import MountTable
from kms.tables import Store

ROUTES = (*lease_routes.ROUTES, *limit_routes.ROUTES)


def lease_desk(store: Store, tokens: TokenService, engines: Iterable[Engine]) -> LeaseDesk:
    """All verbs over leases."""
    revokers = Revokers(revoker for engine in engines for revoker in engine.revokers)
    return LeaseDesk(store, tokens, tokens.book.barriers, revokers, tokens.now)


def lease_errands(desk: LeaseDesk, store: Store) -> tuple[Errand, ...]:
    """For the jobs process."""
    work = LeaseErrands(desk, store)
    return (
        Errand("leases.expire", 1.0, desk.due, work.expire),
        Errand("leases.forget", 3600.0, lambda: True, work.forget),
    )


def lease_tables(
    desk: LeaseDesk, store: Store, clock: Clock, mounts: MountTable
) -> tuple[list[Operation], ...]:
    """The operations behind `ROUTES`."""
    locked = LockedUsers(store, Lockouts(store, clock), mounts.accessors)
    return LeaseHandlers(desk, mounts.accessor_of).table(), locked.table()
