"""Initialising: the roots are born, the keyring is sealed, custodians get shares, one root token leaves.

    (1) instance row, in the commit of the intent
    (2) root objects and the log key in the HSM (resumable; see kms.keys.roots)
    (3) keyring terms made and sealed by the HSM; nothing is stored yet
    (4) one commit: terms, active roots, mounts, custodians' verifier, root token, `initialized`

A crash before (4) leaves a server that is not initialised, and init may be called again; nobody has
been given anything by then.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from kms.clock import Clock
from kms.errors import ErrorKind, KmsError, invalid
from kms.hsm import Hsm, Purpose
from kms.ids import new_id, new_uuid
from kms.keys.keyring import Term, new_terms, seal_term, store_terms
from kms.keys.recovery import public_half, to_custodians
from kms.keys.roots import ROTATED, Roots, activate, discard
from kms.operation import External, Result
from kms.sensitive import ACCESS, Sensitive
from kms.system.instance import INSTANCE, Instance, insert_custody, insert_instance, read_instance
from kms.system.mounts import BUILTIN, MOUNTS, new_mount
from kms.system.shamir import split
from kms.tables import Store, Transaction

_FIRST_VERSION = 1


@dataclass(frozen=True)
class Custodians:
    """How many shares, how many of them are needed, and under which names they are answered."""

    shares: int = 5
    threshold: int = 3
    recovery_names: bool = False


@dataclass(frozen=True)
class _Prepared:
    attempt: str
    terms: list[Term]
    secret: Sensitive
    shares: list[bytes]


class Initializer:
    """Runs init. `recovery` is the choice of the configuration (none, hsm-backup, quorum).

    Args:
        unlock: opens the store with fresh terms, so that step (4) can write sealed rows.
        lock: takes that back when step (4) fails.
        root_token: creates the first root token in the given transaction and returns it.
    """

    def __init__(
        self,
        store: Store,
        hsm: Callable[[], Hsm],
        roots: Roots,
        clock: Clock,
        *,
        recovery: str,
        unlock: Callable[[str, Mapping[int, Sensitive]], None],
        lock: Callable[[], None],
        root_token: Callable[[Transaction, str], str],
    ) -> None:
        self._store = store
        self._hsm = hsm
        self._roots = roots
        self._clock = clock
        self._recovery = recovery
        self._unlock = unlock
        self._lock = lock
        self._root_token = root_token

    def initialize(self, custodians: Custodians, token: str = "") -> External[_Prepared]:
        """The init operation.

        Args:
            custodians: how the custodians' secret is shared out.
            token: a root token of the caller's choice (`keystead dev --root-token`), or "".

        Raises:
            KmsError(INVALID): already initialized, or impossible shares.
        """
        row = read_instance(self._store.reader())
        if row is not None and row.value.initialized:
            raise invalid("Vault is already initialized")
        split(b"", custodians.shares, custodians.threshold)  # refuse impossible numbers before acting
        instance_id = row.value.id if row is not None else new_uuid()
        attempt = new_id()  # two requests at once make objects of their own; one of them wins

        def begin(tx: Transaction) -> None:
            if read_instance(tx) is None:
                insert_instance(
                    tx,
                    Instance(
                        id=instance_id, cluster_name=f"keystead-{new_id()[:8]}", created=self._clock.now()
                    ),
                )

        def perform() -> _Prepared:
            return self._prepare(instance_id, custodians, attempt)

        def conclude(tx: Transaction, prepared: _Prepared) -> Result:
            return self._commit(tx, prepared, custodians, token)

        def abandon(tx: Transaction, _error: KmsError) -> None:
            discard(tx, attempt)
            self._lock()

        return External({"instance": instance_id}, begin, perform, conclude, abandon)

    def _prepare(self, instance_id: str, custodians: Custodians, attempt: str) -> _Prepared:
        hsm = self._hsm()
        made = (*ROTATED, Purpose.LOG_SIGN)
        roots = {purpose: self._roots.ensure(purpose, _FIRST_VERSION, attempt) for purpose in made}
        # Under `quorum` the custodians' secret is an X25519 private key that opens the terms; else it
        # is random, and good for unsealing and generating a root token only (decision 18).
        secret = Sensitive(X25519PrivateKey.generate().private_bytes_raw())
        public = self._public(secret)
        keys = new_terms(hsm, secrets.token_bytes)
        terms = []
        for term, key in keys.items():
            seal = roots[Purpose.ROOT_SEAL]
            terms.append(
                Term(
                    term=term,
                    root=seal.cka_id.hex(),
                    root_version=seal.version,
                    sealed=seal_term(hsm, seal, instance_id, term, key),
                    created=self._clock.now(),
                    recovery=to_custodians(public, instance_id, term, key),
                )
            )
        shares = split(secret.reveal(ACCESS), custodians.shares, custodians.threshold)
        self._unlock(instance_id, keys)
        return _Prepared(attempt, terms, secret, shares)

    def _public(self, secret: Sensitive) -> bytes:
        return public_half(secret) if self._recovery == "quorum" else b""

    def _commit(self, tx: Transaction, prepared: _Prepared, custodians: Custodians, token: str) -> Result:
        row = read_instance(tx)
        if row is None or row.value.initialized:
            raise KmsError(ErrorKind.CONFLICT, "another request initialized this server at the same time")
        store_terms(tx, prepared.terms)
        for purpose in (*ROTATED, Purpose.LOG_SIGN):
            activate(tx, purpose, _FIRST_VERSION, prepared.attempt)
        for path, kind, description in BUILTIN:
            tx.insert(MOUNTS, path, new_mount(kind, description, builtin=True))
        insert_custody(tx, prepared.secret)
        done = msgspec.structs.replace(
            row.value,
            initialized=True,
            recovery=self._recovery,
            shares=custodians.shares,
            threshold=custodians.threshold,
            recovery_public=self._public(prepared.secret),
        )
        tx.replace(INSTANCE, row, done)
        root_token = self._root_token(tx, token)
        subject: dict[str, str | int] = {
            "instance": row.value.id,
            "recovery": self._recovery,
            "shares": custodians.shares,
        }
        return Result(data=_answer(prepared.shares, custodians, root_token), subject=subject)


def _answer(shares: list[bytes], custodians: Custodians, root_token: str) -> dict[str, Any]:
    hexes = [share.hex() for share in shares]
    base64s = [base64.b64encode(share).decode() for share in shares]
    names = (
        ("recovery_keys", "recovery_keys_base64") if custodians.recovery_names else ("keys", "keys_base64")
    )
    answer: dict[str, Any] = {"keys": [], "keys_base64": [], "root_token": root_token}
    return answer | dict(zip(names, (hexes, base64s), strict=True))
