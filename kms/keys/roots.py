"""The root keys: which token objects seal the keyring and wrap `hsm` keys, and in which state each is.

A root lives through: planned (row with our CKA_ID, nothing in the token yet), active (exactly one per
purpose and token), retired (opens and unwraps what it once closed, closes nothing new); or lost, with the HSM that
held it. Token objects are written once; everything that changes is in these rows.

Two processes may make the same version at once. Each attempt has rows and objects of its own, as a token
takes two keys of one CKA_ID and can then use neither; the first commit wins, the others' are discarded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kms.clock import Clock
from kms.errors import ErrorKind, KmsError, integrity
from kms.hsm import Hsm, KeySpec, Purpose, Resident, Scheme
from kms.ids import CkaId, new_cka_id
from kms.tables import Reader, Row, Store, Table, Transaction

PLANNED, ACTIVE, RETIRED, LOST = "planned", "active", "retired", "lost"
DISCARDED = "discarded"  # of an attempt that did not win; an object may still be in the token
SETTLING_SECONDS = 3600.0
"""How long after its planning an attempt may still be at work: an HSM that hangs may answer late."""


class RootObject(msgspec.Struct, frozen=True, kw_only=True):
    """One object of the token that the service itself owns. Holds nothing secret."""

    purpose: str
    version: int
    state: str
    created: float
    public: bytes = b""  # SubjectPublicKeyInfo, for the log key
    lacks: str = ""  # the mechanism for want of which the token has no such object
    sealed: bytes = b""  # the log key where the token has no Ed25519: its seed under the seal root ...
    sealed_under: str = ""  # ... of this hex CKA_ID
    attempt: str = ""  # who makes it; "" for a recovery, which runs alone
    home: str = ""  # the token that it is in; "" while there is only one (kms.keys.tokens)


ROOTS = Table(
    "root-object", "root_objects", RootObject, index=("purpose", "state"), sealed=False, cached=True
)


@dataclass(frozen=True, slots=True)
class Root:
    """A root as the rest of the service sees it."""

    cka_id: CkaId
    version: int
    public: bytes


@dataclass(frozen=True, slots=True)
class LogKeyRef:
    """A key of the log: the row of its root, and SubjectPublicKeyInfo in DER."""

    row: str
    public: bytes


# What init makes, and with which algorithm. Sealing and wrapping are different objects for ever: a
# key that may both decrypt and unwrap undoes its own wrapping by hand (finding H6).
_SPECS = {
    Purpose.ROOT_SEAL: KeySpec.AES_256,
    Purpose.ROOT_WRAP_ENC: KeySpec.AES_256,
    Purpose.ROOT_WRAP_MAC: KeySpec.AES_256,
    Purpose.ROOT_WRAP_SIGN: KeySpec.AES_256,
    Purpose.LOG_SIGN: KeySpec.ED25519,
}
ROTATED = (Purpose.ROOT_SEAL, Purpose.ROOT_WRAP_ENC, Purpose.ROOT_WRAP_MAC, Purpose.ROOT_WRAP_SIGN)


class Roots:
    """Finds and makes root objects. `current` is called per new key and is served from memory."""

    def __init__(self, store: Store, hsm: Callable[[], Hsm], clock: Clock) -> None:
        self._store = store
        self._hsm = hsm
        self._clock = clock
        self._current: dict[Purpose, list[Root]] = {}
        self._lock = threading.Lock()
        store.watch(ROOTS, self)

    def drop(self, _key: str) -> None:
        """A root changed: look all of them up again (kms.tables.CacheListener)."""
        self.clear()

    def clear(self) -> None:
        """Forget which roots are active (kms.tables.CacheListener)."""
        with self._lock:
            self._current = {}

    def current(self, purpose: Purpose) -> CkaId:
        """CKA_ID of the active root of this purpose.

        Raises:
            KmsError(UNINITIALIZED): there is none. KmsError(INTEGRITY): there are two.
        """
        return self.active(purpose).cka_id

    def active(self, purpose: Purpose) -> Root:
        """The active root of this purpose in the first token that answers; same errors as `current`."""
        roots = self._active(purpose)
        if len(roots) == 1:
            return roots[0]
        first = self.candidates(purpose)[0]
        return next(root for root in roots if root.cka_id == first)

    def candidates(self, purpose: Purpose) -> list[CkaId]:
        """The active roots of this purpose, those first whose token answers; same errors as `current`."""
        ids = [root.cka_id for root in self._active(purpose)]
        return ids if len(ids) == 1 else self._hsm().order(ids)

    def every(self, purpose: Purpose) -> list[Root]:
        """The active roots of this purpose in all tokens, the newest first."""
        return list(self._active(purpose))

    def newest(self, purpose: Purpose) -> Root:
        """The active root with the highest version, whether its token answers or not."""
        return self._active(purpose)[0]

    def _active(self, purpose: Purpose) -> list[Root]:
        with self._lock:
            known = self._current.get(purpose)
        if known is not None:
            return known
        roots = [_root(row) for row in active_rows(self._store.reader(), purpose)]
        with self._lock:
            self._current[purpose] = roots
        return roots

    def ensure(self, purpose: Purpose, version: int, attempt: str = "", token: str = "") -> Root:
        """The root of this purpose, version, attempt and token, made now if it is not there; resumable at every step.

        Plan the row, generate the object under the row's CKA_ID, note its public key. A crash
        between any two steps is healed by calling again, or by another attempt: the planned row names
        the object. Activation is the caller's, in the transaction that starts to use it.

        Args:
            purpose: what it is for.
            version: counts from 1.
            attempt: names the one thread that makes it; another attempt gets another object.
            token: where; "" for the first.
        """
        row = self._planned(purpose, version, attempt, token)
        cka_id = CkaId(bytes.fromhex(row.key))
        hsm = self._hsm().at(token)
        if row.value.state == PLANNED:
            label = f"keystead {purpose.value} v{version}"
            form = hsm.root_form(purpose, _SPECS[purpose])
            if form.lacks:
                return _root(self._without(row, form.lacks))
            public = hsm.adopt(form.purpose, form.spec, cka_id)
            if public is None:
                public = hsm.generate(form.purpose, form.spec, cka_id, label)
            if public != row.value.public:
                with self._store.transaction() as tx:
                    row = tx.replace(ROOTS, row, msgspec.structs.replace(row.value, public=public))
        return _root(row)

    def _without(self, row: Row[RootObject], lacks: str) -> Row[RootObject]:
        """A root that this token cannot carry: none at all, or the log key under the newest seal root."""
        if row.value.lacks:
            return row
        changed = msgspec.structs.replace(row.value, lacks=lacks)
        if row.value.purpose == Purpose.LOG_SIGN.value:
            seals = self._store.reader().find(ROOTS, {"purpose": Purpose.ROOT_SEAL.value})
            ours = [each for each in seals if _usable(each.value, row.value)]
            seal = max(ours, key=lambda each: each.value.version)
            pair = Ed25519PrivateKey.generate()
            root = CkaId(bytes.fromhex(seal.key))
            changed = msgspec.structs.replace(
                changed,
                public=pair.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
                sealed=self._hsm().at(row.value.home).seal(root, pair.private_bytes_raw(), _log_aad(row.key)),
                sealed_under=seal.key,
            )
        with self._store.transaction() as tx:
            return tx.replace(ROOTS, row, changed)

    def log_keys(self) -> list[LogKeyRef]:
        """The keys that sign the log, each in one token, the oldest first.

        Raises:
            KmsError(UNINITIALIZED)
        """
        rows = sorted(active_rows(self._store.reader(), Purpose.LOG_SIGN), key=lambda row: row.value.created)
        return [LogKeyRef(row.key, row.value.public) for row in rows]

    def sign_log(self, key: str, message: bytes) -> bytes:
        """Ed25519 (RFC 8032) with this log key, in the HSM where it has that.

        Raises:
            KmsError(HSM_UNAVAILABLE, SEALED)
        """
        row = self._store.reader().get(ROOTS, key)
        if row is None:
            raise integrity("the row of a log key is gone")
        if not row.value.sealed:
            ref = Resident(CkaId(bytes.fromhex(key)), Purpose.LOG_SIGN, KeySpec.ED25519)
            return self._hsm().sign(ref, Scheme.EDDSA, message)
        root = CkaId(bytes.fromhex(row.value.sealed_under))
        seed = self._hsm().unseal(root, row.value.sealed, _log_aad(key))
        return Ed25519PrivateKey.from_private_bytes(seed).sign(message)

    def _planned(self, purpose: Purpose, version: int, attempt: str, token: str) -> Row[RootObject]:
        for row in self._store.reader().find(ROOTS, {"purpose": purpose.value}):
            wanted = (row.value.version, row.value.attempt, row.value.home)
            if wanted == (version, attempt, token) and row.value.state != LOST:
                return row
        root = RootObject(
            purpose=purpose.value,
            version=version,
            state=PLANNED,
            created=self._clock.now(),
            attempt=attempt,
            home=token,
        )
        with self._store.transaction() as tx:
            return tx.insert(ROOTS, new_cka_id().hex(), root)

    def destroy_discarded(self) -> int:
        """Destroy the token objects of attempts that did not win, and of those that died.

        Safe to repeat, and beside running attempts: what is planned for a version that is not active yet is
        left alone. A row goes only after a while, as its attempt may still have made the object later.

        Returns:
            How many rows were looked at.
        """
        rows = [*self._store.reader().find(ROOTS, {"state": DISCARDED}), *self._stale()]
        for row in rows:
            self._hsm().at(row.value.home).destroy(CkaId(bytes.fromhex(row.key)))
            if self._settled(row.value):
                with self._store.transaction() as tx:
                    tx.delete(ROOTS, row)
        return len(rows)

    def _stale(self) -> list[Row[RootObject]]:
        """Planned after the version was made by somebody else, and left by an attempt that was killed."""
        reader = self._store.reader()
        planned = reader.find(ROOTS, {"state": PLANNED})
        made = {_place(row.value): row.value.version for row in reader.find(ROOTS, {"state": ACTIVE})}
        return [
            row
            for row in planned
            if row.value.version <= made.get(_place(row.value), 0) and self._settled(row.value)
        ]

    def _settled(self, root: RootObject) -> bool:
        return self._clock.now() - root.created >= SETTLING_SECONDS


def _log_aad(key: str) -> bytes:
    return b"keystead log key " + key.encode()


def active_rows(reader: Reader, purpose: Purpose) -> list[Row[RootObject]]:
    """The rows of the active roots of this purpose, one of each token, the newest first.

    Raises:
        KmsError(UNINITIALIZED): there is none. KmsError(INTEGRITY): one token has two.
    """
    rows = reader.find(ROOTS, {"purpose": purpose.value, "state": ACTIVE})
    if not rows:
        raise KmsError(ErrorKind.UNINITIALIZED, "the server is not initialized; run 'keystead init'")
    if len({row.value.home for row in rows}) != len(rows):
        raise integrity(f"two active roots for {purpose.value}")
    return sorted(rows, key=lambda row: row.value.version, reverse=True)


def active_row(reader: Reader, purpose: Purpose) -> Row[RootObject]:
    """The newest of `active_rows`."""
    return active_rows(reader, purpose)[0]


def _place(root: RootObject) -> tuple[str, str]:
    return root.purpose, root.home


def _usable(root: RootObject, other: RootObject) -> bool:
    if root.home != other.home:
        return False
    return root.state in {ACTIVE, RETIRED} or (root.state == PLANNED and root.attempt == other.attempt)


def activate(tx: Transaction, purpose: Purpose, version: int, attempt: str) -> None:
    """Make this attempt's version the active one, in each token where it made one, in the caller's transaction.

    Its predecessor is retired, and what other attempts at a version so far planned is discarded.
    """
    rows = tx.find(ROOTS, {"purpose": purpose.value})
    made = {row.key: row.value.home for row in rows if _made(row.value, version, attempt)}
    for row in rows:
        if row.key in made:
            state = ACTIVE
        elif row.value.home not in made.values():
            continue
        elif row.value.state == ACTIVE:
            state = RETIRED
        elif row.value.state == PLANNED and row.value.version <= version:
            state = DISCARDED
        else:
            continue
        if row.value.state != state:
            tx.replace(ROOTS, row, msgspec.structs.replace(row.value, state=state))


def _made(root: RootObject, version: int, attempt: str) -> bool:
    return root.version == version and root.attempt == attempt and root.state in {PLANNED, ACTIVE}


def discard(tx: Transaction, attempt: str) -> None:
    """Give up all that this attempt planned, in the caller's transaction."""
    for row in tx.find(ROOTS, {"state": PLANNED}):
        if row.value.attempt == attempt:
            tx.replace(ROOTS, row, msgspec.structs.replace(row.value, state=DISCARDED))


def replace_lost(tx: Transaction, purpose: Purpose, version: int) -> None:
    """Make this version the active one, and all others lost, in the caller's transaction.

    Of this version there may be a plan of a rotation that the loss of the HSM cut off.
    """
    for row in tx.find(ROOTS, {"purpose": purpose.value}):
        state = ACTIVE if row.value.version == version and not row.value.attempt else LOST
        if row.value.state != state:
            tx.replace(ROOTS, row, msgspec.structs.replace(row.value, state=state))


def _root(row: Row[RootObject]) -> Root:
    return Root(CkaId(bytes.fromhex(row.key)), row.value.version, row.value.public)


__all__ = [
    "DISCARDED",
    "LOST",
    "ROOTS",
    "ROTATED",
    "LogKeyRef",
    "Root",
    "RootObject",
    "Roots",
    "activate",
    "active_row",
    "active_rows",
    "discard",
    "replace_lost",
]
