"""After the storage keyring was stolen: nothing that is written from now on opens with what the thief has.

    root    new root keys in the HSM, so that the next term is sealed by nothing that was in use
    term    a new term of the keyring, which seals all rows from now on
    rows    every row under an older term is sealed again, in portions; none is left when this step ends
    keys    a new version of every software key: the thief has the old ones with the rows that held them
    end     the old terms end: no row under one of them is accepted again, in any table, whoever wrote it

The jobs process does a portion at a time, each with its own record in the log, and a crash loses nothing: what
is left is seen in the rows themselves. The new term brings a derivation secret too: state digests and the HMACs of
the audit log are made with it. What stays of term 0 is the key of the tokens' MACs, since nobody has the tokens to
MAC them again: it names rows, and a row counts only if it is sealed under a term of now. What cannot be healed: data
already encrypted by old versions stays readable to the thief until its owner rewraps it, and what was written with the
old terms before the end is taken over as it is, for nothing tells it apart. Rotating the root or the keyring alone
heals less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

import msgspec

from kms.clock import Clock
from kms.errors import ErrorKind, KmsError
from kms.hsm import Purpose
from kms.keys import KeyService
from kms.keys.catalogue import Protection
from kms.keys.keyring import TERMS
from kms.keys.model import NamedKey
from kms.keys.retirement import as_chore
from kms.keys.roots import Roots
from kms.keys.rotation import RootRotator
from kms.keys.store import NAMED_KEYS
from kms.keys.terms import KeyringRotator
from kms.operation import Call, Capability, Change, Effect, External, Field, Operation, Record, Result
from kms.tables import Store, Table, Transaction

RUNNING, COMPLETE = "running", "complete"
PORTION: Final = 200
PORTIONS_A_TURN: Final = 10
_ROW = "compromise"
_MAX_LISTED: Final = 1000


class Compromise(msgspec.Struct, frozen=True, kw_only=True):
    """The newest recovery from a stolen keyring; the one row of its table.

    Args:
        step: root, term, rows, keys, end; "" when it is complete.
        from_root, from_term: what the thief has, and everything before. `to_term`: what seals since.
        failure: why it does not go on.
        resealed: rows so far. `rotated`: keys that got a version, counted at the end.
        skipped: mount id/name of software keys that may get no version here (imported, or by their state).
    """

    state: str
    step: str
    reason: str
    started: float
    from_root: int
    from_term: int
    finished: float = 0.0
    resealed: int = 0
    rotated: int = 0
    skipped: tuple[str, ...] = ()
    to_term: int = 0
    failure: str = ""


COMPROMISES = Table("compromise", "compromises", Compromise, sealed=False)


class Stale(Protocol):
    """Keys of rows of a table that are sealed under an older term: (table, term, after, limit)."""

    def __call__(self, table: Table[Any], term: int, after: str, limit: int) -> list[str]: ...


@dataclass(frozen=True)
class Work:
    """A portion: what to run, and under which operation it is recorded."""

    operation: str
    resource: str
    work: Change | External[Any]


class CompromiseRecovery:
    """Starts, continues and reports it.

    Args:
        sealed: every table whose rows are sealed.
        holding: names of the tables, these or others, that hold rows under a term below the given one.
    """

    def __init__(
        self,
        store: Store,
        roots: Roots,
        rotator: RootRotator,
        keyring: KeyringRotator,
        keys: KeyService,
        clock: Clock,
        *,
        sealed: Sequence[Table[Any]],
        stale: Stale,
        holding: Callable[[int], list[str]],
    ) -> None:
        self._store = store
        self._roots = roots
        self._rotator = rotator
        self._keyring = keyring
        self._keys = keys
        self._clock = clock
        self._sealed = sealed
        self._stale = stale
        self._holding = holding
        self._after: dict[str, str] = {}
        self._steps: dict[str, Callable[[Compromise], Work | None]] = {
            "root": self._root,
            "term": self._term,
            "rows": self._rows,
            "keys": self._versions,
            "end": self._end,
        }

    # -- the operations ------------------------------------------------------------------------------

    def start(self, call: Call) -> Change:
        """Begin; from the first step, when an earlier one is complete.

        Raises:
            KmsError(CONFLICT): one is running.
        """
        fresh = Compromise(
            state=RUNNING,
            step="root",
            reason=str(call.args.get("reason") or ""),
            started=self._clock.now(),
            from_root=self._roots.newest(Purpose.ROOT_SEAL).version,
            from_term=self._newest_term(),
        )

        def write(tx: Transaction) -> Result:
            row = tx.get(COMPROMISES, _ROW)
            if row is None:
                tx.insert(COMPROMISES, _ROW, fresh)
            elif row.value.state == RUNNING:
                raise KmsError(ErrorKind.CONFLICT, "a recovery from a stolen keyring is running already")
            else:
                tx.replace(COMPROMISES, row, fresh)
            return Result(
                msgspec.structs.asdict(fresh),
                subject={"from_root": fresh.from_root, "from_term": fresh.from_term},
            )

        return Change(write)

    def status(self, _call: Call) -> Result:
        """How far it is."""
        row = self._store.reader().get(COMPROMISES, _ROW)
        if row is None:
            return Result({"state": "idle"})
        return Result(msgspec.structs.asdict(row.value))

    def table(self) -> list[Operation]:
        """The operations; the last is the jobs process's own and has no route."""
        reason = Field("reason", record=Record.CLEAR)
        update = Capability.UPDATE
        return [
            Operation(
                "sys.compromise.start", update, self.start, effect=Effect.STATE, sudo=True, fields=(reason,)
            ),
            Operation("sys.compromise.status", Capability.READ, self.status, sudo=True),
            Operation("sys.compromise.step", update, _for_jobs, effect=Effect.STATE, sudo=True),
        ]

    # -- the work ------------------------------------------------------------------------------------

    def due(self) -> Iterator[Work]:
        """Portions to run now, each before the next is asked for; a bounded number."""
        for _ in range(PORTIONS_A_TURN):
            row = self._store.reader().get(COMPROMISES, _ROW)
            if row is None or row.value.state != RUNNING:
                return
            work = self._steps[row.value.step](row.value)
            if work is None:
                return
            yield work

    def _root(self, now: Compromise) -> Work:
        if self._roots.newest(Purpose.ROOT_SEAL).version > now.from_root:
            return self._go_on("term")
        return Work("sys.root.rotate", "sys/hsm/root/rotate", self._rotator.rotate())

    def _term(self, now: Compromise) -> Work:
        terms = [row.value for row in self._store.reader().scan(TERMS)]
        made = [term.term for term in terms if term.anew and term.term > now.from_term]
        if made:
            to_term = min(made)
            return self._step(lambda _tx: {"step": "rows", "to_term": to_term}, {"step": "rows"})
        return Work("sys.keyring.rotate", "sys/rotate", self._keyring.rotate(anew=True))

    def _rows(self, now: Compromise) -> Work:
        term = now.to_term
        for table in self._sealed:
            # Where the last portion ended: rows before it are done, and looking again costs a whole scan.
            if keys := self._stale(table, term, self._after.get(table.name, ""), PORTION):
                self._after[table.name] = keys[-1]
                return self._step(partial(self._reseal, table, keys), {"table": table.name})
        self._after = {}
        return self._go_on("keys")

    def _left(self, now: Compromise) -> bool:
        """A worker may have sealed a row just before it heard of the new term."""
        return any(self._stale(table, now.to_term, "", 1) for table in self._sealed)

    def _reseal(self, table: Table[Any], keys: list[str], tx: Transaction) -> dict[str, Any]:
        done = 0
        for key in keys:
            row = tx.get(table, key)
            if row is not None:
                tx.replace(table, row, row.value)
                done += 1
        return {"resealed": self._current(tx).resealed + done}

    def _versions(self, now: Compromise) -> Work:
        skipped = set(now.skipped)
        after = ""
        while rows := self._store.reader().scan(NAMED_KEYS, after=after, limit=PORTION):
            after = rows[-1].key
            for row in rows:
                key = row.value
                old = max(key.rotated, key.created) < now.started
                if key.protection is not Protection.SOFTWARE or not old or row.key in skipped:
                    continue
                return self._rotation(now, row.key, key)
        return self._go_on("rows" if self._left(now) else "end")

    def _end(self, now: Compromise) -> Work | None:
        if self._left(now):
            return self._go_on("rows")
        if names := self._holding(now.to_term):
            # Ending would lose them. They are of no table that this release knows.
            failure = f"rows of {', '.join(names)} are under an old term; restore the release that wrote them"
            if failure == now.failure:
                return None
            return self._step(lambda _tx: {"failure": failure}, {"failure": failure})
        ending = self._keyring.end_before(now.to_term)
        done = {
            "state": COMPLETE,
            "step": "",
            "finished": self._clock.now(),
            "rotated": self._rotated(now),
            "failure": "",
        }

        def write(tx: Transaction) -> dict[str, Any]:
            ending.write(tx)
            return done

        return self._step(write, {"step": "complete", "ended_before": now.to_term}, ending.after)

    def _rotated(self, now: Compromise) -> int:
        found, after = 0, ""
        while rows := self._store.reader().scan(NAMED_KEYS, after=after, limit=PORTION):
            after = rows[-1].key
            found += sum(row.value.created < now.started <= row.value.rotated for row in rows)
        return found

    def _rotation(self, now: Compromise, row_key: str, key: NamedKey) -> Work:
        try:
            work = self._keys.rotate(key.mount, key.name)
        except KmsError as error:
            if error.kind is not ErrorKind.INVALID:
                raise
            skipped = (*now.skipped, row_key)[-_MAX_LISTED:]
            return self._step(lambda _tx: {"skipped": skipped}, {"skipped": row_key})
        if isinstance(work, Result):
            raise KmsError(ErrorKind.INTERNAL, "a rotation changed nothing")
        return Work("transit.keys.rotate", f"transit/{key.mount}", as_chore(key, work))

    # -- rows of its own -----------------------------------------------------------------------------

    def _go_on(self, step: str) -> Work:
        return self._step(lambda _tx: {"step": step}, {"step": step})

    def _step(
        self,
        write: Callable[[Transaction], dict[str, Any]],
        subject: dict[str, str | int],
        after: Callable[[], None] | None = None,
    ) -> Work:
        def commit(tx: Transaction) -> Result:
            changed = write(tx)
            row = tx.get(COMPROMISES, _ROW)
            if row is None:
                raise KmsError(ErrorKind.CONFLICT, "nothing is being recovered")
            tx.replace(COMPROMISES, row, msgspec.structs.replace(row.value, **changed))
            return Result(subject=subject)

        return Work("sys.compromise.step", "sys/hsm/recover-compromise", Change(commit, after))

    def _current(self, tx: Transaction) -> Compromise:
        row = tx.get(COMPROMISES, _ROW)
        if row is None:
            raise KmsError(ErrorKind.CONFLICT, "nothing is being recovered")
        return row.value

    def _newest_term(self) -> int:
        return max(row.value.term for row in self._store.reader().scan(TERMS))


def _for_jobs(_call: Call) -> Change:
    raise KmsError(ErrorKind.UNSUPPORTED, "unsupported operation")
