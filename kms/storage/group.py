"""Group commit: writers of one process that queue up share a commit, and so a sync of the disk.

A commit costs more than what is written in it. When a transaction's block ends and other threads already
wait to write, the open transaction is handed to the next one instead of being committed; the last one, or
the one that fills the group, commits for all. Everybody returns only when that commit is on disk, so what
`transaction` promises holds for each. A member whose block raises is rolled back to its savepoint, alone;
when the commit itself fails, it fails for all.

Calls that one thread takes together (kms.together) are members one after the other, of a group that nobody leaves
before all of them are in; their commit is waited for in another thread.

What a member reads may be uncommitted work of the members before it. It commits with them or not at all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from sqlite_utils import Database

from kms.errors import KmsError
from kms.storage.rows import SqliteTransaction
from kms.storage.sqlite import execute, unavailable
from kms.storage.turn import Turn
from kms.together import Gathering, gathering

MOST_MEMBERS: Final = 16  # bounds how long the first member waits for the others
_ROLLED_BACK: Final = "the database rolled back; free space, and try again"


@dataclass
class _Group:
    """One SQLite transaction and those who share it."""

    members: list[SqliteTransaction] = field(default_factory=list)
    lasting: set[int] = field(default_factory=set)  # see SqliteTransaction
    # Set when it is over. Most groups have one member, who commits and waits for nobody.
    over: bool = False
    committed: threading.Event | None = None
    failure: KmsError | None = None


class Writers:
    """The one writing connection of a process.

    Args:
        connect: opens it, when the first transaction begins.
        make: a transaction on it.
        announce: tells the other processes of a commit that their caches must hear of.
    """

    def __init__(
        self,
        turn: Turn,
        connect: Callable[[], Database],
        make: Callable[[Database], SqliteTransaction],
        announce: Callable[[], None] = lambda: None,
    ) -> None:
        self._announce = announce
        self._turn = turn
        self._connect = connect
        self._make = make
        self._database: Database | None = None
        self._lock = threading.Lock()  # held by the member whose block runs
        self._count = threading.Lock()
        self._waiting = 0
        self._group: _Group | None = None

    @contextmanager
    def transaction(self) -> Iterator[SqliteTransaction]:
        """Run a block in a transaction; on disk when the context manager exits without an exception."""
        together = gathering()
        if together is not None:
            yield from self._gathered(together)
            return
        with self._count:
            self._waiting += 1
        with self._lock:
            with self._count:
                self._waiting -= 1
            group = self._group or self._begin()
            yield from self._member(group)
            if self._group is group:
                self._hand_over_or_commit(group)
            if not group.over and group.committed is None:
                group.committed = threading.Event()
        if not group.over and group.committed is not None:
            group.committed.wait()
        if group.failure is not None:
            raise group.failure

    def _gathered(self, together: Gathering) -> Iterator[SqliteTransaction]:
        _refuse(together.enter(self))
        group = self._group
        if group is None:
            raise unavailable(_ROLLED_BACK)
        yield from self._member(group, alone=False)
        _refuse(together.rest())
        if group.failure is not None:
            raise group.failure

    # -- for kms.together: the lock is taken by one thread and given back by another ---------------

    def try_open(self) -> bool:
        """Begin a group, if nobody writes (kms.together.Commits)."""
        if not self._lock.acquire(blocking=False):
            return False
        begun = False
        try:
            if self._group is None and self._turn.try_take():
                self._start()
                begun = True
        except KmsError:
            return False  # `open` meets it again, and says it
        finally:
            if not begun:
                self._lock.release()
        return begun

    def open(self) -> None:
        """Begin a group, or go on with one that another thread left open (kms.together.Commits)."""
        self._lock.acquire()
        begun = False
        try:
            if self._group is None:
                self._begin()
            begun = True
        finally:
            if not begun:
                self._lock.release()

    def shut(self) -> None:
        """Commit for all members (kms.together.Commits)."""
        try:
            if self._group is not None:
                self._commit(self._group)
        finally:
            self._lock.release()

    def _begin(self) -> _Group:
        self._turn.take()
        return self._start()

    def _start(self) -> _Group:
        begun = False
        try:
            execute(self._db().conn, "BEGIN IMMEDIATE")
            begun = True
        finally:
            if not begun:
                self._turn.give_back()
        self._group = _Group()
        return self._group

    def _member(self, group: _Group, *, alone: bool = True) -> Iterator[SqliteTransaction]:
        db = self._db()
        # Alone, the first has no need of a savepoint: if it fails, everything is taken back.
        first = alone and not group.members
        tx = self._make(db)
        tx.lasting = group.lasting
        if not first:
            execute(db.conn, "SAVEPOINT member")
        try:
            yield tx
            tx.finish()
            if not first:
                execute(db.conn, "RELEASE member")
        except BaseException:
            self._leave(group, first=first)
            tx.undo()
            raise
        group.members.append(tx)

    def _leave(self, group: _Group, *, first: bool) -> None:
        """A member's block raised: take back what it wrote, and see that the others are not forgotten."""
        connection = self._db().conn
        others_intact = False
        try:
            # SQLite may have rolled back everything by itself (a full disk): then nobody's work is there.
            if connection.in_transaction and not first:
                connection.execute("ROLLBACK TO member")
                connection.execute("RELEASE member")
                others_intact = True
        finally:
            if others_intact and gathering() is not None:
                pass  # the gathering shuts the group
            elif others_intact:
                self._hand_over_or_commit(group)
            else:
                self._end(group, unavailable(_ROLLED_BACK))

    def _hand_over_or_commit(self, group: _Group) -> None:
        if self._waiting and len(group.members) < MOST_MEMBERS:
            return  # whoever waits for the lock goes on with this group
        self._commit(group)

    def _commit(self, group: _Group) -> None:
        failure: KmsError | None = unavailable("the commit did not finish; try again")
        try:
            execute(self._db().conn, "COMMIT")
            failure = None
            if any(tx.announced for tx in group.members):
                self._announce()
        except KmsError as error:
            failure = error
        finally:
            self._end(group, failure)

    def _end(self, group: _Group, failure: KmsError | None) -> None:
        """Let everybody go on. Whatever happened, the next transaction finds a clean connection."""
        if self._db().conn.in_transaction:
            self._db().conn.rollback()
        if failure is not None:
            for tx in group.members:
                tx.undo()
        group.failure = failure
        self._group = None
        self._turn.give_back()
        group.over = True
        if group.committed is not None:
            group.committed.set()

    def _db(self) -> Database:
        if self._database is None:
            self._database = self._connect()
        return self._database


def _refuse(failure: BaseException | None) -> None:
    """What kept a group from beginning or ending is told to each member: with an error of its own, where it is one."""
    if isinstance(failure, KmsError):
        raise unavailable("the storage is not available; try again shortly") from failure
    if failure is not None:
        raise failure
