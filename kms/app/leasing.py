"""Leases and limits of one process: the engines' revokers over the tokens, locked names, and their periodic work."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from kms.app.engines import Engine
from kms.clock import Clock
from kms.http.vault import leases as lease_routes
from kms.http.vault import limits as limit_routes
from kms.http.vault import mfa as mfa_routes
from kms.identity import TokenService
from kms.identity.methods.approle import role_id_key
from kms.identity.methods.locked import LockedUsers
from kms.identity.methods.lockout import Lockouts
from kms.identity.methods.store import ROLE_IDS
from kms.identity.mfa.gate import SecondFactor
from kms.jobs.maintenance import Errand, Run
from kms.leases import Revokers
from kms.leases.desk import LeaseDesk
from kms.leases.errands import LeaseErrands
from kms.leases.naming import Places
from kms.leases.operations import LeaseHandlers
from kms.namespaces import NamespaceTable
from kms.operation import Call, MountRef, NamespaceRef, Operation
from kms.shared import Shared
from kms.system.mounts import MountTable, reference
from kms.system.namespaces import Threshold
from kms.system.quotas import Limiter, QuotaHandlers
from kms.system.state import ServerState
from kms.tables import Store

_REAPED_AT_ONCE = 200
ROUTES = (*lease_routes.ROUTES, *limit_routes.ROUTES, *mfa_routes.SYS)


def lease_desk(store: Store, tokens: TokenService, engines: Iterable[Engine]) -> LeaseDesk:
    """All verbs over leases."""
    revokers = Revokers(revoker for engine in engines for revoker in engine.revokers)
    return LeaseDesk(store, tokens, tokens.book.barriers, revokers, tokens.now)


def lease_errands(desk: LeaseDesk, store: Store, factor: SecondFactor) -> tuple[Errand, ...]:
    """For the jobs process."""
    work = LeaseErrands(desk, store)

    def reap(run: Run) -> None:
        del run  # who waited too long has to begin anew as it is
        with store.transaction() as tx:
            factor.reap(tx, _REAPED_AT_ONCE)

    return (
        Errand("leases.expire", 1.0, desk.due, work.expire),
        Errand("leases.forget", 3600.0, lambda: True, work.forget),
        Errand("mfa.reap", 30.0, lambda: factor.expired(store.reader()), reap),
    )


def lease_tables(
    desk: LeaseDesk, store: Store, clock: Clock, mounts: MountTable, namespaces: NamespaceTable
) -> tuple[list[Operation], ...]:
    """The operations behind `ROUTES`."""
    places = Places(namespaces)
    locked = LockedUsers(
        store, Lockouts(store, clock), partial(_mounts_by_id, mounts), partial(_within, namespaces)
    )
    quotas = QuotaHandlers(store, partial(_mount_at, mounts), places.of_path, tuple(_ROLES))
    return LeaseHandlers(desk, mounts.accessor_of, places).table(), locked.table(), quotas.table()


class Entrance:
    """Step 0 of the road: the state of the server and of the namespace, then the quotas."""

    def __init__(
        self, state: ServerState, store: Store, shared: Shared, clock: Clock, namespaces: NamespaceTable
    ) -> None:
        threshold = Threshold(namespaces)
        self.enter, self.stay = threshold.admit, threshold.stay
        self.admit = state.admit
        self.admit_change = state.admit_change
        self.count = Limiter(store, shared, clock, partial(_role_of, store)).admit


def _mounts_by_id(mounts: MountTable) -> dict[str, MountRef]:
    return {row.value.id: reference(row) for row in mounts.rows().values()}


def _within(namespaces: NamespaceTable, above: NamespaceRef) -> list[NamespaceRef]:
    """A namespace and all below it."""
    below = (
        NamespaceRef(row.value.id, path) for path, row in namespaces.rows().items() if path != above.path
    )
    return [above, *(one for one in below if above.covers(one))]


def _mount_at(mounts: MountTable, path: str) -> MountRef | None:
    found = mounts.resolve(path.rstrip("*").rstrip("/") + "/")
    return found[0] if found is not None else None


def _role_of(store: Store, call: Call) -> str:
    read = _ROLES.get(call.mount.type)
    return read(store, call) if read is not None else ""


def _named(_store: Store, call: Call) -> str:
    return str(call.args.get("role") or "")


def _by_role_id(store: Store, call: Call) -> str:
    row = store.reader().get(ROLE_IDS, role_id_key(call.mount, str(call.args.get("role_id") or "")))
    return row.value.name if row is not None else ""


# How a login of a method says which role it is for.
_ROLES: dict[str, Callable[[Store, Call], str]] = {
    "approle": _by_role_id,
    "jwt": _named,
    "kubernetes": _named,
}
