"""Leases of one process: the engines' revokers over the tokens, and what the jobs process does for them."""

from __future__ import annotations

from collections.abc import Iterable

from kms.app.engines import Engine
from kms.identity import TokenService
from kms.jobs.maintenance import Errand
from kms.leases import Revokers
from kms.leases.desk import LeaseDesk
from kms.leases.errands import LeaseErrands
from kms.tables import Store


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
