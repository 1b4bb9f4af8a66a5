"""The composition root: builds every part of one process and hands it what it needs.

The only module that sees everything, pki too. Nothing here decides or acts; no module below reads the
configuration, opens a socket or loads the HSM on its own.

    (1) storage        the database; row keys come later, from the HSM
    (2) audit          this process's segment: nothing is served without a log
    (3) token          opened on first use, never before the fork
    (4) services       keys, identity, policy, pki, the server itself
    (5) the road       registry, pipeline, routes
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from kms import metrics
from kms.app import leasing
from kms.app.alarms import root_alarm
from kms.app.blocked import blocklist
from kms.app.database import instance_of, prepare_database
from kms.app.engines import engines
from kms.app.enrolment import Enrolment
from kms.app.hsmtokens import hsm_tokens
from kms.app.identity import identity
from kms.app.methods import methods
from kms.app.opening import Opening
from kms.app.policing import Policing
from kms.app.rows import AT_START, DIGESTED, SEALED
from kms.app.system import SystemParts
from kms.app.tenancy import Tenancy
from kms.audit import Recorder
from kms.audit.epochs import log_origin
from kms.audit.recovery import recover
from kms.audit.sequencer import Snapshot
from kms.cel import Sandbox
from kms.clock import Clock
from kms.config import Config
from kms.errors import ErrorKind, KmsError, integrity
from kms.http.vault import namespaces as namespace_routes
from kms.http.vault import policies as policy_routes
from kms.http.vault import sys as sys_routes
from kms.http.vault import sys_quorum as quorum_routes
from kms.http.vault import token as token_routes
from kms.http.vault.route import Route
from kms.identity import TokenService
from kms.identity import operations as identity_operations
from kms.identity.cubbyhole import Cubbyholes
from kms.identity.store import TOKENS
from kms.identity.wrapping import Wrapping
from kms.jobs.fence import Fence
from kms.jobs.logkeeper import LogKeeper
from kms.jobs.maintenance import Maintenance
from kms.jobs.scheduler import Task
from kms.jobs.selftester import SelfTester
from kms.jobs.sweeper import Breathe, Sweeper
from kms.keys import KeyService
from kms.keys.enrolment import Enroller
from kms.keys.lost import Losses
from kms.keys.roots import Roots
from kms.keys.rotation import RootRotator
from kms.keys.store import KEY_VERSIONS
from kms.keys.terms import KeyringRotator
from kms.keys.tokens import open_tokens
from kms.namespaces import NamespaceTable
from kms.operation import Call, Capability, External, Operation
from kms.pipeline import Pipeline, Registry
from kms.policy import PolicyService, decide
from kms.sensitive import Sensitive
from kms.shared import Shared
from kms.storage import FILE_NAME, SqliteStore, sweep
from kms.system.choices import strange_token
from kms.system.compromise import CompromiseRecovery
from kms.system.evidence import Evidence
from kms.system.generate_root import RootGeneration
from kms.system.init import Initializer
from kms.system.mount_operations import MountHandlers
from kms.system.mounts import MountTable
from kms.system.operations import NO_ROUTE, LifeHandlers, StatusHandlers
from kms.system.quorum_operations import KeyringHandlers, quorum_operations
from kms.system.recover import refuse_unfinished
from kms.system.rekey import Rekeying
from kms.system.sealing import Sealing
from kms.system.state import ServerState
from kms.system.token import TokenHolder
from kms.tables import Table
from pki.acme.service import AcmeService
from pki.acme.validation import Ports
from pki.service import PkiService
from pki.ssh.service import SshService

Role = Literal["worker", "jobs", "start"]
_EXPIRE_SECONDS = 60.0
_SWEPT_AT_START = 100_000


class App:
    """Everything of one process.

    Args:
        config: the operator's choices.
        shared: the page that all processes of this server share.
        clock: the machine's clocks.
        role: what the process is for; `start` alone may migrate and recover.
    """

    def __init__(self, config: Config, shared: Shared, clock: Clock, role: Role) -> None:
        self.config = config
        self.shared = shared
        self.clock = clock
        self.role = role
        if role == "start":
            prepare_database(config, clock)
        self.store = SqliteStore.open(config.data.storage / FILE_NAME, shared)  # (1)
        instance = instance_of(self.store)
        refuse_unfinished(instance)
        self.instance_id = instance.id
        self.origin = log_origin(instance.id, instance.epoch)
        self.recorder = Recorder.open(  # (2)
            config.data.audit,
            self.store,
            clock,
            origin=self.origin,
            hash_key=lambda: self.store.derived_anew("audit-hmac"),
        )
        losses = Losses(self.store)
        self.token = TokenHolder(  # (3)
            lambda: open_tokens(
                config.hsm, clock, self.store, losses, lambda: strange_token(instance_of(self.store))
            )
        )
        self._opening = Opening(self.instance_id, self.store, self.token, self.recorder)
        self.state = ServerState(
            self.store,
            shared,
            clock,
            open_keyring=self._opening.open,
            close_keyring=self._opening.close,
            renew_keyring=self._opening.renew,
            audit_lag=self.recorder.lag_seconds,
        )
        self._expire_at = clock.monotonic() + _EXPIRE_SECONDS
        self._build_services()  # (4)
        self._build_road()  # (5)

    # -- (4) services --------------------------------------------------------------------------------

    def _build_services(self) -> None:
        store, clock = self.store, self.clock
        self.mounts = MountTable(store, self.state.demand_open)
        tenants = self.namespaces = NamespaceTable(store, lambda: self.state.serving, self.state.demand_open)
        self.roots = Roots(store, self.token.get, clock)
        self.policies = PolicyService(store, clock, self.config.tags, self.namespaces)
        batch_key = lambda: store.derived_anew("batch-token")  # noqa: E731  (as its neighbours)
        self.tokens = TokenService(
            store, lambda: store.derived("token-mac"), clock, batch_key, self.namespaces
        )
        demand = self.config.keys.protection
        self.wrapping = Wrapping(store, self.tokens)
        approvals = self.config.approvals
        self.policing = Policing(
            store, clock, self.policies, self.tokens, self.mounts, approvals, self._named
        )
        programs = Sandbox()
        self.methods, self.logins = methods(store, self.tokens, self.mounts, tenants, programs)
        self.keys = KeyService(store, self.token.get, self.roots, self.instance_id, clock, demand)
        self.identity = identity(
            store, clock, self.tokens, self.logins, self.keys, self.mounts, tenants, address=self.config.url
        )
        blocked = blocklist(self.config.pki.blocklist)
        self.pki = PkiService(
            store, self.token.get, clock, self.tokens.book, programs, derive=store.derived, blocklist=blocked
        )
        self.ssh = SshService(store, self.token.get, clock, demand=demand, blocklist=blocked)
        wanted = self.config.acme
        ports = Ports(wanted.networks, wanted.http_port, wanted.tls_port)
        self.acme = AcmeService(store, self.pki, lambda: store.derived("acme-nonce"), ports)
        self.est = Enrolment(
            store,
            self.pki,
            self.tokens,
            self.policies,
            self.mounts,
            self.logins,
            clock,
            demand_open=self.state.demand_open,
        )
        self.engines = engines(
            self.keys, self.pki, self.acme, self.est.service, self.ssh, self.policies, self.mounts
        )
        self.leases = leasing.lease_desk(store, self.tokens, self.engines)
        self.system = SystemParts(self)
        self.cross_origin, self.devices = self.system.cross_origin, self.system.devices
        self.rotator = RootRotator(
            store, self.token.get, self.roots, lambda: self.instance_id, clock, self._blobs_under
        )
        self.enroller = Enroller(
            store, self.token.get, self.roots, clock, self.config.hsm.title, lambda: self.instance_id
        )
        self.keyring = KeyringRotator(
            store,
            self.token.get,
            self.roots,
            clock,
            instance=self._opening.custodians,
            sealed_under=lambda term: store.reader().sealed_under(term),
            adopt=self._opening.adopt,
            announce=self.shared.bump_seal_epoch,
        )
        self.compromise = CompromiseRecovery(
            store,
            self.roots,
            self.rotator,
            self.keyring,
            self.keys,
            clock,
            sealed=SEALED,
            stale=lambda table, term, after, limit: store.reader().sealed_before(table, term, after, limit),
            holding=lambda term: store.reader().tables_before(term),
        )
        self.sealing = Sealing(
            store,
            self.state,
            self.shared,
            open_keyring=self._opening.open,
            close_keyring=self._opening.close,
        )
        self.initializer = Initializer(
            store,
            self.token.get,
            self.roots,
            clock,
            recovery=self.config.recovery,
            unlock=self._opening.unlock,
            lock=store.lock,
            root_token=self.tokens.create_root,
        )

        self.tester = SelfTester(self.token.get, self.state, clock)
        self.sweeper = Sweeper(lambda breathe: self._compare(DIGESTED, breathe), clock)
        self.log_keeper = LogKeeper(
            self.config.data.audit,
            store,
            self.roots,
            clock,
            origin=self.origin,
            snapshot=self._snapshot,
        )

    def well_known(self, path: str) -> str | None:
        """The path below /v1/ that `path` below /.well-known/ stands for, or None."""
        return self.est.well_known(path)

    def page_key(self) -> Sensitive:
        """Of the proofs in pages for people. Raises KmsError while the server is sealed."""
        self.state.demand_open()
        return self.store.derived("sign-in")

    # -- (5) the road ----------------------------------------------------------------------------------

    def _build_road(self) -> None:
        self.meter = metrics.Meter(self.clock)
        self.registry = Registry(self._tables())
        self.routes: Mapping[str, tuple[Route, ...]] = {
            "system": (
                *sys_routes.ROUTES,
                *namespace_routes.ROUTES,
                *quorum_routes.ROUTES,
                *policy_routes.ROUTES,
                *leasing.ROUTES,
                *policy_routes.CONTROL_GROUP,
                *policy_routes.EXPLAIN,
                *token_routes.WRAPPING,
            ),
            "token": token_routes.ROUTES,
            **{engine.name: engine.routes for engine in self.engines},
            **{method.name: method.routes for method in self.methods},
            "cubbyhole": token_routes.CUBBYHOLE,
            "identity": self.identity.routes,
        }
        self.pipeline = Pipeline(
            store=self.store,
            gate=leasing.Entrance(self.state, self.store, self.shared, self.clock, self.namespaces),
            authenticate=self.tokens.authenticate,
            decide=self.policies.decide,
            wrap=self.wrapping.wrap,
            recorder=self.recorder,
            meter=self.meter,
            clock=self.clock,
            consents=self.policing.consents,
            alarm=root_alarm(self.clock, self.role, self.meter),
            witness=self.devices.witness,
        )
        self.pki.travel(self._errand)

    def _named(self, operation: str) -> Operation | None:
        return self.registry.get(operation)

    def _errand(self, operation: str, mount_id: str, work: External[Any]) -> object:
        return self.pipeline.chore(self.registry[operation], f"pki/{mount_id}", work)

    def _tables(self) -> Sequence[Sequence[Operation]]:
        status = StatusHandlers(
            self.state, self.sealing, self.clock, lambda form: metrics.render(form, self.meter)
        )
        life = LifeHandlers(self.sealing, self.initializer, self.rotator, self.shared)
        mounts = self._mount_handlers()
        self.tenancy = Tenancy(
            self.namespaces, mounts, self.leases, self.policies, self.policing.may_see, self.identity.remains
        )
        return [
            status.table(),
            life.table(),
            mounts.table(),
            *self.tenancy.tables(),
            KeyringHandlers(self.keyring).table(),
            self.compromise.table(),
            hsm_tokens(self, self.enroller).table(),
            quorum_operations(
                RootGeneration(self.store, self.shared, self.tokens.create_root),
                Rekeying(self.store, self.shared, self._opening.keyring, self.shared.bump_seal_epoch),
                self._may_reach,
            ),
            [NO_ROUTE],
            *self.policing.tables(),
            Evidence(self.config.data.audit).table(),
            *self.system.tables(),
            identity_operations(self.tokens, self.policies, self.logins),
            *leasing.lease_tables(self.leases, self.store, self.clock, self.mounts, self.namespaces),
            self.identity.operations,
            Cubbyholes(self.store).table(),
            self.wrapping.table(),
            *(engine.operations for engine in self.engines),
            *(method.operations for method in self.methods),
        ]

    def _mount_handlers(self) -> MountHandlers:
        return MountHandlers(
            self.mounts,
            tuple(engine.name for engine in self.engines),
            tuple(method.name for method in self.methods),
            self.tokens.authenticate,
            self.policing.may_see,
            self.leases.end_mount,
            {engine.name: engine.retire for engine in self.engines}
            | {method.name: method.retire for method in self.methods},
        )

    def _may_reach(self, call: Call, path: str, capability: Capability) -> bool:
        """Whether who calls an open path brought a token that may do this, as sudo; the record names it then."""
        if not call.credential:
            return False
        try:
            call.principal = self.tokens.authenticate(call.credential, call.peer)
        except KmsError:
            return False
        return decide(self.policies.acl_of(call.principal), path, capability, sudo=True).allowed

    def _blobs_under(self, retired: Iterable[str]) -> int:
        reader = self.store.reader()
        columns = ("wrapping", "mac_wrapping")
        return sum(reader.count(KEY_VERSIONS, {column: root}) for root in retired for column in columns)

    # -- life --------------------------------------------------------------------------------------------

    def refresh(self) -> object:
        """Bring caches up to everything committed before this call."""
        return self.store.refresh()

    @property
    def tasks(self) -> Sequence[Task]:
        """The periodic tasks of the jobs process."""
        return self._maintenance().tasks(Fence.take(self.store)) if self.role == "jobs" else ()

    def _maintenance(self) -> Maintenance:
        return Maintenance(
            store=self.store,
            state=self.state,
            hsm=self.token.get,
            pipeline=self.pipeline,
            registry=self.registry,
            recorder=self.recorder,
            log_keeper=self.log_keeper,
            tokens=self.tokens,
            keys=self.keys,
            keyring=self.keyring,
            roots=self.roots,
            clock=self.clock,
            recover=lambda: recover(self.config.data.audit, self.store, self.clock, origin=self.origin),
            chores={engine.name: engine.chores for engine in self.engines}
            | {"identity": self.identity.chores},
            errands=[
                *self.policing.errands,
                *self.tenancy.errands,
                *leasing.lease_errands(self.leases, self.store, self.logins.factor),
                *(errand for engine in self.engines for errand in engine.errands),
                *(errand for method in self.methods for errand in method.errands),
                *self.identity.errands,
            ],
            scrub=self.store.scrub,
            tester=self.tester,
            sweeper=self.sweeper,
            trim=self.store.trim_changes,
            compromise=self.compromise.due,
            enrolment=self.enroller.due,
            rotation=self.rotator.due,
        )

    def mend(self) -> None:
        """Finish what processes that died left half done."""
        self._maintenance().mend()

    def inspect(self) -> None:
        """Before anything is served: are mounts, policies and tokens those that were last written?

        With very many tokens that would take minutes; then the jobs process finds it, soon after.

        Raises:
            KmsError(HSM_UNAVAILABLE): the HSM is there and is not this server's; says what to do.
            KmsError(INTEGRITY): a row was put back, changed or removed outside Keystead.
        """
        serving = self.state.serving
        self.state.refuse_stranger()
        if serving and self.store.reader().count(TOKENS, {}) <= _SWEPT_AT_START:
            self._compare(AT_START)

    def _compare(self, tables: Sequence[Table[Any]], breathe: Breathe = lambda: None) -> None:
        findings = sweep(self.store, tables, breathe)
        if findings:
            raise integrity("; ".join(finding.detail for finding in findings))

    def _snapshot(self) -> Snapshot:
        return Snapshot(generation=self.store.refresh(thorough=True), digests=self.store.digests())

    def leaving(self) -> bool:
        """Whether this process holds what it must forget: it was open, and the server was sealed since."""
        now = self.clock.monotonic()
        if now >= self._expire_at:
            # Asked several times a second in every process, so the one timer that an idle worker has.
            self._expire_at = now + _EXPIRE_SECONDS
            self.keys.expire()
        return self.state.leaving

    def close(self) -> None:
        """Close the segment with its last line, log out of the HSM."""
        self.sweeper.stop()
        self.recorder.close()
        self.log_keeper.stop()
        self.devices.close()
        self.token.close()
        self.store.close()


def build(config: Config, shared: Shared, clock: Clock, role: Role) -> App:
    """Build one process's parts. Call after the fork.

    Raises:
        KmsError: this process cannot start; the detail says why and what to do.
    """
    app = App(config, shared, clock, role)
    if role == "start":
        try:
            app.mend()
        except KmsError as error:
            # What a token that is away holds is mended by the jobs process when it is back.
            if error.kind is not ErrorKind.HSM_UNAVAILABLE:
                raise
        app.inspect()
    return app
