"""Group commit: writers of one process that queue up share a commit, and so a sync of the disk.

A commit costs more than what is written in it. When a transaction's block ends and other threads already
wait to write, the open transaction is handed to the next one instead of being committed; the last one, or
the one that fills the group, commits for all. Everybody returns only when that commit is on disk, so what
`transaction` promises holds for each. A member whose block raises is rolled back to its savepoint, alone;
when the commit itself fails, it fails for all.

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

MOST_MEMBERS: Final = 16  # bounds how long the first member waits for the others


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

    def _begin(self) -> _Group:
        db = self._db()
        self._turn.take()
        begun = False
        try:
            execute(db.conn, "BEGIN IMMEDIATE")
            begun = True
        finally:
            if not begun:
                self._turn.give_back()
        self._group = _Group()
        return self._group

    def _member(self, group: _Group) -> Iterator[SqliteTransaction]:
        db = self._db()
        first = not group.members
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
            if others_intact:
                self._hand_over_or_commit(group)
            else:
                self._end(group, unavailable("the database rolled back; free space, and try again"))

    def _hand_over_or_commit(self, group: _Group) -> None:
        if self._waiting and len(group.members) < MOST_MEMBERS:
            return  # whoever waits for the lock goes on with this group
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
