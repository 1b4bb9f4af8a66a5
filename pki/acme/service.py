"""ACME of one process: builds the parts, and wraps each handler in what every answer has."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from kms.errors import KmsError
from kms.operation import Call, Change, Outcome, Result
from kms.sensitive import Sensitive
from kms.tables import Store, Transaction
from pki.acme import cleaning
from pki.acme.accounts import Accounts
from pki.acme.authorizations import Authorizations
from pki.acme.bindings import Bindings
from pki.acme.callers import Callers
from pki.acme.certificates import Certificates
from pki.acme.directories import Directories
from pki.acme.entrance import Entrance
from pki.acme.finalize import Finalizing
from pki.acme.nonces import Nonces
from pki.acme.orders import Orders
from pki.acme.preauthorizing import PreAuthorizations
from pki.acme.problems import as_problem, malformed
from pki.acme.replacing import RenewalInfo
from pki.acme.settings import AcmeSettings
from pki.acme.validation import Ports, Validator
from pki.service import PkiService

T = TypeVar("T")
Handler = Callable[[Call], Outcome]


class AcmeService:
    """All verbs of ACME.

    Args:
        nonce_key: gives the key of nonces; raises KmsError(SEALED) while there is none.
        ports: the operator's networks and ports of validation.
    """

    def __init__(
        self, store: Store, pki: PkiService, nonce_key: Callable[[], Sensitive], ports: Ports
    ) -> None:
        roles, self._store, self._clock = pki.issuance.roles, store, pki.clock
        self.directories = Directories(store, pki.authorities, roles)
        self.nonces = Nonces(store, nonce_key)
        callers = Callers(store, self.directories, self.nonces)
        self.entrance = Entrance(self.directories, self.nonces)
        self.settings = AcmeSettings(store, self.directories, pki.authorities, roles)
        self.bindings = Bindings(store, self.directories)
        self.accounts = Accounts(store, callers, pki.issuance.blocklist)
        self.orders = Orders(store, callers)
        self.authorizations = Authorizations(store, callers)
        self.preauthorizations = PreAuthorizations(store, callers)
        self.finalizing = Finalizing(store, callers, self.orders, pki.issuance)
        self.certificates = Certificates(store, callers, self.orders, pki.revocations)
        self.renewal_info = RenewalInfo(store, self.directories)
        self.validator = Validator(store, self.directories, pki.authorities, ports, pki.clock)

    def answering(self, handler: Handler) -> Handler:
        """The handler with a fresh nonce and the link to the directory on every answer, refusals too."""

        def act(call: Call) -> Outcome:
            with self._refusing(call):
                if call.wrap_ttl:
                    raise malformed("ACME answers are never wrapped: leave X-Vault-Wrap-TTL out")
                return self._dressed(call, handler(call))

        return act

    def retire_mount(self, tx: Transaction, mount_id: str) -> int:
        """A mount is being removed."""
        return cleaning.retire_mount(tx, mount_id)

    def clean(self) -> int:
        """Delete what is over; for the jobs process."""
        return cleaning.clean(self._store, self._clock.now())

    @contextmanager
    def _refusing(self, call: Call) -> Iterator[None]:
        """Every refusal has a nonce for the next try."""
        try:
            yield
        except KmsError as error:
            problem = as_problem(error)
            problem.headers = (*problem.headers, self._nonce(call))
            raise problem from None

    def _dressed(self, call: Call, outcome: Outcome) -> Outcome:
        def dress(result: Result) -> Result:
            return dataclasses.replace(result, headers=(*result.headers, *self._headers(call)))

        if isinstance(outcome, Result):
            return dress(outcome)
        if isinstance(outcome, Change):
            write = outcome.write
            return Change(self._within(call, lambda tx: dress(write(tx))), outcome.after)
        begin, conclude = outcome.begin, outcome.conclude
        return dataclasses.replace(
            outcome,
            begin=None if begin is None else self._within(call, begin),
            conclude=lambda tx, done: dress(conclude(tx, done)),
        )

    def _within(self, call: Call, step: Callable[[Transaction], T]) -> Callable[[Transaction], T]:
        def run(tx: Transaction) -> T:
            with self._refusing(call):
                return step(tx)

        return run

    def _headers(self, call: Call) -> tuple[tuple[str, str], ...]:
        return self._nonce(call), ("Link", f'<{self.directories.of(call).url("directory")}>;rel="index"')

    def _nonce(self, call: Call) -> tuple[str, str]:
        return "Replay-Nonce", self.nonces.make(call.mount.id, call.now)
