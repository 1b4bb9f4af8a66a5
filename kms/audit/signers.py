"""Which keys sign the log, and from where to where. The verifier has the same rule, in its own words (verify/signing.py).

A key of a second HSM is named by a leaf. From the first checkpoint on that covers the leaf, and that a key signed which
counted before, it may sign too. A leaf also ends a key: it signs nothing that covers that leaf.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from kms.audit.control import Control, SignerBegan, SignerEnded
from kms.audit.note import LogKey, LogSigner
from kms.audit.store import SignerRow

_GONE = "its HSM was removed"


class Signers:
    """The rule, for the sequencer.

    Args:
        first: the key of the log's first line.
        live: signers of all HSMs that serve, whether they answer or not.
    """

    def __init__(self, first: LogKey, live: Callable[[], Sequence[LogSigner]]) -> None:
        self._first = first
        self._live = live

    def keys(self, rows: Sequence[SignerRow]) -> list[LogKey]:
        """All keys that a checkpoint of this log may bear."""
        known = [row.public for row in rows] or [self._first.public]
        return [LogKey(self._first.name, public) for public in known]

    def changes(
        self, rows: tuple[SignerRow, ...], leaves: int, now: float
    ) -> tuple[tuple[SignerRow, ...], list[Control]]:
        """What the log has to say about keys that came or went, and the rows after that.

        Args:
            rows: as they are.
            leaves: how many there are before the next one.
            now: Unix seconds.
        """
        live = [signer.public for signer in self._live()]
        if not rows and live == [self._first.public]:
            return rows, []
        changed = list(rows or (SignerRow(public=self._first.public),))
        said: list[Control] = []
        for place, row in enumerate(changed):
            if not row.until and row.public not in live and any(each in live for each in _counting(changed)):
                said.append(SignerEnded(key=self._line(row.public), why=_GONE, wall=now))
                changed[place] = msgspec.structs.replace(row, until=leaves + len(said))
        for public in live:
            if all(row.public != public for row in changed):
                said.append(SignerBegan(key=self._line(public), wall=now))
                changed.append(SignerRow(public=public, since=leaves + len(said)))
        return tuple(changed), said

    def counting(self, rows: Sequence[SignerRow], signed: int, size: int) -> list[LogSigner]:
        """The signers whose key counts for a checkpoint of this size, the one before being of size `signed`."""
        if not rows:
            return list(self._live())
        allowed = {
            row.public for row in rows if row.since <= signed and not (row.until and row.until <= size)
        }
        return [signer for signer in self._live() if signer.public in allowed]

    def _line(self, public: bytes) -> str:
        return LogKey(self._first.name, public).line()


def _counting(rows: Sequence[SignerRow]) -> list[bytes]:
    return [row.public for row in rows if not row.until]
