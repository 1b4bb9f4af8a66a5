"""Validating what a client says it is ready for: off the request's path, resumable, bounded in time and number.

    challenge POST  ->  authorization row with queue "due" (committed before the client hears "processing")
    step (jobs)     ->  a thread of the pool talks to the client's host; no row, no key, no transaction there
    step (jobs)     ->  its verdict in one commit, with a record of its own

The row is the queue: what a killed process was validating is due still, and the next one begins it anew. A failure that
may pass (no answer, no such name yet) is tried again a few times; a wrong answer is final.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import msgspec

from kms.clock import Clock
from kms.errors import ErrorKind, KmsError
from kms.operation import Change, Result
from kms.tables import Reader, Store, Transaction
from pki.acme import caa, dns01, http01, limits, tlsalpn01
from pki.acme.authorizations import DUE, seen, with_challenge
from pki.acme.directories import Directories
from pki.acme.model import (
    VALID_LIFETIME,
    Account,
    AcmeConfig,
    Authorization,
    Challenge,
    Problem,
    Status,
)
from pki.acme.network import Fleeting, Network, Reach
from pki.acme.orders import current
from pki.acme.problems import AcmeProblem, kept
from pki.acme.resolving import Resolver
from pki.acme.store import ACCOUNTS, AUTHORIZATIONS, ORDERS
from pki.authority import Authorities

THREADS = 8
WAITS = (1, 3)  # seconds before the second and the third attempt
OPERATION = "pki.acme-validate"
Run = Callable[[str, str, Change], None]


@dataclass(frozen=True, slots=True)
class Ports:
    """The operator's part of `Reach`, from the configuration file."""

    networks: tuple[str, ...]
    http_port: int = 80
    tls_port: int = 443

    def reach(self, config: AcmeConfig) -> Reach:
        """With what the mount narrows."""
        return Reach(_parsed(self.networks), _parsed(config.allowed_networks), self.http_port, self.tls_port)


def _parsed(networks: Sequence[str]) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(one) for one in networks)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one attempt. `passing`: it may go better in a moment."""

    problem: Problem | None = None
    passing: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """All that a validation needs: it reads no row."""

    identifier_type: str
    host: str
    wildcard: bool
    way: str
    token: str
    key_authorization: str
    account_url: str
    config: AcmeConfig
    reach: Reach

    def run(self) -> Verdict:
        """One attempt: is control of the name proven, and does CAA agree?"""
        try:
            resolver = Resolver(self.config.dns_resolver)
            self._prove(resolver)
            if self.identifier_type == "dns" and self.config.caa_identities:
                asking = caa.Asking(self.config.caa_identities, self.account_url, self.way, self.wildcard)
                caa.check(self.host, asking, resolver)
        except AcmeProblem as problem:
            found = kept(problem, (self.identifier_type, self.host))
            return Verdict(found, passing=isinstance(problem, Fleeting))
        return Verdict()

    def _prove(self, resolver: Resolver) -> None:
        if self.way == "http-01":
            http01.validate(self.host, self.token, self.key_authorization, resolver, self.reach)
        elif self.way == "tls-alpn-01":
            tlsalpn01.validate(self.host, self.key_authorization, resolver, self.reach)
        elif self.way == "dns-01" and self.identifier_type == "dns":
            dns01.validate(self.host, self.key_authorization, resolver)
        else:
            raise AcmeProblem("serverInternal", "no way to validate this challenge")


@dataclass
class Validator:
    """The queue's worker: one, in the jobs process. `step` is called in its thread, several times a second."""

    store: Store
    directories: Directories
    authorities: Authorities
    ports: Ports
    clock: Clock
    _pool: ThreadPoolExecutor | None = None
    _running: dict[str, Future[Verdict]] = field(default_factory=dict)

    def busy(self) -> bool:
        """Whether there is anything to do: one look-up by index, no transaction."""
        if any(one.done() for one in self._running.values()):
            return True
        return bool(self._due(limit=len(self._running) + 1))

    def step(self, run: Run) -> None:
        """Record verdicts that are there, begin what is due."""
        for key, future in list(self._running.items()):
            if future.done():
                del self._running[key]
                self._record(key, future.result(), run)
        for name in self._due(limit=2 * THREADS):
            if name not in self._running and len(self._running) < THREADS:
                self._begin(name, run)

    def _due(self, limit: int) -> list[str]:
        now = self.clock.now()
        rows = self.store.reader().find(
            AUTHORIZATIONS, {"queue": DUE}, below=("next_at", now + 1), limit=limit
        )
        return [row.key for row in rows if row.key not in self._running]

    def _begin(self, key: str, run: Run) -> None:
        row = self.store.reader().get(AUTHORIZATIONS, key)
        if row is None or row.value.queue != DUE:
            return
        try:
            task = self._task(row.value)
        except KmsError as error:
            if error.kind not in {ErrorKind.INVALID, ErrorKind.DENIED}:
                raise
            self._record(key, Verdict(Problem(type="unauthorized", detail=error.detail, status=403)), run)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="acme")
        self._running[key] = self._pool.submit(task.run)

    def _task(self, authorization: Authorization) -> Task:
        config = self.directories.config(authorization.mount_id)
        challenge = _processing(authorization)
        account = _account(self.store.reader(), authorization)
        ordered = not authorization.order_id or self.store.reader().get(
            ORDERS, f"{authorization.mount_id}/{authorization.order_id}"
        )
        if challenge is None or account is None or not ordered or not config.enabled:
            raise AcmeProblem("unauthorized", "the account, the order or ACME itself is gone")
        if challenge.type not in config.challenge_types:
            raise AcmeProblem("unauthorized", f"config/acme no longer offers {challenge.type}")
        base = self.authorities.config(authorization.mount_id).cluster_path.rstrip("/")
        return Task(
            identifier_type=authorization.identifier.type,
            host=authorization.identifier.value,
            wildcard=authorization.wildcard,
            way=challenge.type,
            token=challenge.token,
            key_authorization=f"{challenge.token}.{authorization.thumbprint}",
            account_url=f"{base}/{account.directory}account/{account.id}",
            config=config,
            reach=self.ports.reach(config),
        )

    def _record(self, key: str, verdict: Verdict, run: Run) -> None:
        def write(tx: Transaction) -> Result:
            row = tx.get(AUTHORIZATIONS, key)
            challenge = _processing(row.value) if row is not None else None
            if row is None or challenge is None or row.value.queue != DUE:
                return Result(items=0)  # deactivated meanwhile
            changed = self._judged(tx, row.value, challenge, verdict)
            tx.replace(AUTHORIZATIONS, row, changed)
            if changed.status == Status.INVALID:
                _fail_order(tx, changed, int(self.clock.now()))
            return Result(
                subject={
                    "authorization": changed.id,
                    "challenge": challenge.type,
                    "identifier": changed.identifier.value,
                    "status": changed.status,
                    "problem": verdict.problem.type if verdict.problem is not None else "",
                }
            )

        run(OPERATION, f"acme/{key}", Change(write))

    def _judged(
        self, tx: Transaction, held: Authorization, challenge: Challenge, verdict: Verdict
    ) -> Authorization:
        now = int(self.clock.now())
        if verdict.passing and held.attempts < len(WAITS):
            later = now + WAITS[held.attempts]
            return msgspec.structs.replace(held, attempts=held.attempts + 1, next_at=later)
        problem = verdict.problem or _too_late(tx, held, now)
        if problem is None:
            done = msgspec.structs.replace(challenge, status=Status.VALID, validated_at=now)
            until = min(held.expires_at, now + VALID_LIFETIME)
            return msgspec.structs.replace(
                with_challenge(held, done), status=Status.VALID, queue="", expires_at=until
            )
        config = self.directories.config(held.mount_id)
        _count_failure(tx, held, config.failed_validations, now)
        failed = msgspec.structs.replace(challenge, status=Status.INVALID, error=problem)
        return msgspec.structs.replace(
            with_challenge(held, failed), status=Status.INVALID, queue="", free_for=""
        )


def _too_late(tx: Transaction, held: Authorization, now: int) -> Problem | None:
    if _account(tx, held) is None:
        return Problem(type="unauthorized", detail="the account is no longer valid", status=403)
    if seen(held, now).status != Status.PENDING:
        return Problem(type="unauthorized", detail="the authorization expired", status=403)
    return None


def _processing(authorization: Authorization) -> Challenge | None:
    return next((one for one in authorization.challenges if one.status == Status.PROCESSING), None)


def _account(reader: Reader, authorization: Authorization) -> Account | None:
    row = reader.get(ACCOUNTS, f"{authorization.mount_id}/{authorization.account_id}")
    return row.value if row is not None and row.value.status == Status.VALID else None


def _count_failure(tx: Transaction, held: Authorization, limit: int, now: int) -> None:
    try:
        limits.spend(tx, held.mount_id, "failure", held.account_id, limit=limit, now=now)
    except AcmeProblem:
        return  # it is at the limit already; new orders are refused


def _fail_order(tx: Transaction, authorization: Authorization, now: int) -> None:
    """An order that cannot be finished any more gives its other authorizations up (they count as pending)."""
    row = tx.get(ORDERS, f"{authorization.mount_id}/{authorization.order_id}")
    if row is None or row.value.status != Status.PENDING:
        return
    failed = current(tx, row.value, now)
    tx.replace(ORDERS, row, failed)
    for name in failed.authorizations:
        other = tx.get(AUTHORIZATIONS, f"{authorization.mount_id}/{name}")
        if other is not None and other.value.status == Status.PENDING and not other.value.queue:
            tx.replace(AUTHORIZATIONS, other, msgspec.structs.replace(other.value, status=Status.DEACTIVATED))
