"""Rotating the storage keyring: a new term seals rows from now on, old terms go on opening theirs."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Final

import msgspec

from kms.clock import Clock, rfc3339
from kms.errors import ErrorKind, KmsError
from kms.hsm import Hsm, Purpose
from kms.keys.keyring import ANEW_BYTES, TERM_BYTES, TERMS, Term, fresh_key, open_row, seal_forms, term_key
from kms.keys.recovery import to_custodians
from kms.keys.roots import Roots, active_rows
from kms.operation import Change, Result
from kms.sensitive import Sensitive
from kms.tables import Store, Table, Transaction

_SETTINGS_KEY = "keyring"
# Half of the bound of AES-GCM with random nonces (2^32 uses, SP 800-38D 8.3) leaves room to be late.
DEFAULT_MAX_OPERATIONS: Final = 2**31
LEAST_MAX_OPERATIONS: Final = 1_000_000
LEAST_INTERVAL_SECONDS: Final = 86_400


class KeyringSettings(msgspec.Struct, frozen=True, kw_only=True):
    """sys/rotate/config: when the jobs process rotates by itself. `interval` in seconds, 0 for never."""

    max_operations: int = DEFAULT_MAX_OPERATIONS
    interval: int = 0
    enabled: bool = True


SETTINGS = Table("keyring-settings", "keyring_settings", KeyringSettings, digest="system")


class KeyringRotator:
    """Rotation, its settings and the state of the keyring.

    Args:
        instance: (id, custodians' public key or b"") of this server.
        sealed_under: how many rows were sealed under a term.
        adopt: takes the new term into use in this process; `announce` tells the others.
    """

    def __init__(
        self,
        store: Store,
        hsm: Callable[[], Hsm],
        roots: Roots,
        clock: Clock,
        *,
        instance: Callable[[], tuple[str, bytes]],
        sealed_under: Callable[[int], int],
        adopt: Callable[[int, Sensitive], None],
        announce: Callable[[], None],
    ) -> None:
        self._store = store
        self._hsm = hsm
        self._roots = roots
        self._clock = clock
        self._instance = instance
        self._sealed_under = sealed_under
        self._adopt = adopt
        self._announce = announce

    def rotate(self, *, anew: bool = False) -> Change:
        """One new term, sealed by the HSM before the transaction and in use once it is committed.

        Args:
            anew: the keyring was stolen: the term brings a derivation secret too.

        Raises:
            KmsError(CONFLICT): another rotation, of the keyring or the root, was quicker.
        """
        newest = self._newest()
        term = newest.term + 1
        key = fresh_key(self._hsm(), secrets.token_bytes, ANEW_BYTES if anew else TERM_BYTES)
        row = self._sealed(
            Term(
                term=term,
                root="",
                root_version=0,
                sealed=b"",
                created=self._clock.now(),
                anew=anew,
                ended=newest.ended,
            ),
            key,
        )

        def write(tx: Transaction) -> Result:
            _under_active_root(tx, row)
            tx.insert(TERMS, term_key(term), row)
            return Result(subject={"term": term})

        def after() -> None:
            self._adopt(term, key)
            self._announce()

        return Change(write, after)

    def end_before(self, term: int) -> Change:
        """End the terms before this one: their rows go, and this one and those after it say so from now on.

        Raises:
            KmsError(CONFLICT): a row is still sealed under one of them, or the keyring was rotated meanwhile.
        """
        instance, _ = self._instance()
        rows = [row for row in self._store.reader().scan(TERMS) if row.value.term]
        kept = [
            (
                row,
                self._sealed(
                    msgspec.structs.replace(row.value, ended=term),
                    open_row(self._hsm(), instance, row.value),
                ),
            )
            for row in rows
            if row.value.term >= term
        ]

        def write(tx: Transaction) -> Result:
            if {row.key for row in tx.scan(TERMS) if row.value.term} != {row.key for row in rows}:
                raise KmsError(ErrorKind.CONFLICT, "the keyring was rotated at the same time; try again")
            tx.end_terms(term)
            for row, new in kept:
                _under_active_root(tx, new)
                tx.replace(TERMS, row, new)
            for row in rows:
                if row.value.term < term:
                    tx.delete(TERMS, row)
            return Result(subject={"ended_before": term})

        return Change(write, self._announce)

    def _sealed(self, term: Term, key: Sensitive) -> Term:
        """`term` under the active root of each token that answers, and for the custodians."""
        instance, public = self._instance()
        sealed = seal_forms(self._hsm(), self._roots.every(Purpose.ROOT_SEAL), instance, term, key)
        recovery = to_custodians(public, instance, term.term, key, term.ended)
        return msgspec.structs.replace(sealed, recovery=recovery)

    def status(self) -> dict[str, Any]:
        """The body of sys/key-status."""
        newest = self._newest()
        return {
            "term": newest.term,
            "install_time": rfc3339(newest.created),
            "encryptions": self._sealed_under(newest.term),
        }

    def settings(self) -> KeyringSettings:
        """What sys/rotate/config holds."""
        row = self._store.reader().get(SETTINGS, _SETTINGS_KEY)
        return row.value if row is not None else KeyringSettings()

    def configure(self, given: dict[str, Any]) -> Change:
        """Change settings. Out-of-range values are raised to the least allowed, as the peer does."""

        def write(tx: Transaction) -> Result:
            row = tx.get(SETTINGS, _SETTINGS_KEY)
            new = msgspec.structs.replace(row.value if row is not None else KeyringSettings(), **given)
            new = msgspec.structs.replace(
                new,
                max_operations=min(max(new.max_operations, LEAST_MAX_OPERATIONS), 2**32 - 1),
                interval=max(new.interval, LEAST_INTERVAL_SECONDS) if new.interval else 0,
            )
            if row is None:
                tx.insert(SETTINGS, _SETTINGS_KEY, new)
            else:
                tx.replace(SETTINGS, row, new)
            return Result()

        return Change(write)

    def due(self) -> bool:
        """Whether the jobs process should rotate now."""
        settings, newest = self.settings(), self._newest()
        if not settings.enabled:
            return False
        old = bool(settings.interval) and self._clock.now() - newest.created >= settings.interval
        return old or self._sealed_under(newest.term) >= settings.max_operations

    def _newest(self) -> Term:
        rows = self._store.reader().scan(TERMS)
        return max((row.value for row in rows), key=lambda term: term.term)


def _under_active_root(tx: Transaction, term: Term) -> None:
    active = {row.key for row in active_rows(tx, Purpose.ROOT_SEAL)}
    if not {form.root for form in term.forms} <= active:
        raise KmsError(ErrorKind.CONFLICT, "the root was rotated at the same time; try again")
