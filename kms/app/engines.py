"""The secrets engines: what each brings to the server, as data. A new engine is one more entry here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from kms.http.vault import transit as transit_routes
from kms.http.vault.route import Route
from kms.jobs.maintenance import Chore, Errand
from kms.keys import KeyService
from kms.keys.store import TABLES as KEY_TABLES
from kms.leases import Revoker
from kms.operation import MountRef, NamespaceRef, Operation
from kms.operations import operations as transit_operations
from kms.policy import PolicyService
from kms.system.mounts import MountTable
from kms.tables import Table, Transaction
from pki import leasing
from pki.acme import store as acme_store
from pki.acme.operations import operations as acme_operations
from pki.acme.service import AcmeService
from pki.est import store as est_store
from pki.est.operations import operations as est_operations
from pki.est.service import EstService
from pki.http.acme import ROUTES as ACME_ROUTES
from pki.http.est import ROUTES as EST_ROUTES
from pki.http.routes import ROUTES as PKI_ROUTES
from pki.http.ssh import ROUTES as SSH_ROUTES
from pki.idempotency import REMEMBERED
from pki.operations import operations as pki_operations
from pki.service import PkiService
from pki.ssh.operations import operations as ssh_operations
from pki.ssh.service import SshService
from pki.ssh.store import CERTIFICATES as SSH_CERTIFICATES
from pki.ssh.store import TABLES as SSH_TABLES
from pki.store import CERTIFICATES, TIDY
from pki.store import TABLES as PKI_TABLES


@dataclass(frozen=True)
class Engine:
    """One type of mount.

    Args:
        name: what `sys/mounts/PATH type=` calls it.
        routes: verbs and paths below a mount.
        operations: what they do.
        retire: frees all names of a mount that is being removed, in its transaction.
        chores: background work that has come due, given the time.
        errands: further periodic work.
        revokers: how each kind of its leases is taken back.
    """

    name: str
    routes: tuple[Route, ...]
    operations: tuple[Operation, ...]
    retire: Callable[[Transaction, str], int]
    chores: Callable[[float], Iterable[Chore]]
    errands: tuple[Errand, ...] = ()
    revokers: tuple[Revoker, ...] = ()


DIGESTED: tuple[Table[Any], ...] = (
    *KEY_TABLES,
    *PKI_TABLES,
    *SSH_TABLES,
    *acme_store.TABLES,
    *est_store.TABLES,
)
"""Tables of the engines whose state digests the hourly sweep compares."""
SEALED: tuple[Table[Any], ...] = (
    *DIGESTED,
    CERTIFICATES,
    TIDY,
    REMEMBERED,
    SSH_CERTIFICATES,
    *acme_store.OTHERS,
)
"""All sealed tables of the engines: what is sealed anew after a keyring was stolen."""


def engines(
    keys: KeyService,
    pki: PkiService,
    acme: AcmeService,
    est: EstService,
    ssh: SshService,
    policies: PolicyService,
    mounts: MountTable,
) -> tuple[Engine, ...]:
    """All engines of one process."""

    def transit_mount(path: str, namespace: NamespaceRef) -> MountRef | None:
        found = mounts.resolve(path)
        exact = found is not None and found[0].path == path and found[0].type == "transit"
        return found[0] if found is not None and exact and found[0].namespace == namespace else None

    def retire_pki(tx: Transaction, mount_id: str) -> int:
        acme.retire_mount(tx, mount_id)
        est.retire_mount(tx, mount_id)
        return pki.retire_mount(tx, mount_id)

    return (
        Engine(
            "transit",
            transit_routes.ROUTES,
            tuple(transit_operations(keys, policies.decide_within, transit_mount)),
            keys.retire_mount,
            keys.chores,
        ),
        Engine(
            "pki",
            (*PKI_ROUTES, *ACME_ROUTES, *EST_ROUTES),
            (*pki_operations(pki), *acme_operations(acme, pki.clock.now), *est_operations(est)),
            retire_pki,
            pki.chores,
            (
                Errand("acme.validate", 0.25, acme.validator.busy, acme.validator.step),
                Errand("pki.index", 1.0, pki.index.due, lambda _: pki.index.step()),
                Errand("acme.clean", 60.0, lambda: True, lambda _: acme.clean()),
            ),
            (leasing.REVOKER,),
        ),
        # Its keys lie with those of the CA, whose chores destroy what is left of them.
        Engine("ssh", SSH_ROUTES, tuple(ssh_operations(ssh)), ssh.retire_mount, lambda _now: ()),
    )
