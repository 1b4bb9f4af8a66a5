"""Which keys count for a checkpoint: those that are trusted, and those that the log names and they vouch for.

A `signer` leaf names a key. It counts for checkpoints after the first one that covers the leaf, which a key must have signed
that counted already. A `signer-ended` leaf ends a key, a trusted one too: it counts for no checkpoint that covers the leaf.
The leaves are believed here for their place alone: that they are what the checkpoints cover is checked after (leaves.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kms.audit.control import MAX_CONTROL_LINE, SignerBegan, SignerEnded, decode_control
from kms.audit.layout import Layout
from kms.audit.note import LogKey, parse_key
from kms.audit.verify.report import BadError
from kms.errors import KmsError

LEAVES = "log/leaves.jsonl"
_PREFIX = b'{"control":"signer'


class Spell(msgspec.Struct, frozen=True):
    """A leaf about a key: its number from 1, and whether the key begins or ends there."""

    leaf: int
    key: LogKey
    begins: bool


class Signing:
    """The keys of one log."""

    def __init__(self, trusted: Sequence[LogKey], spells: Sequence[Spell]) -> None:
        self.origin = trusted[0].name
        self._trusted = tuple(trusted)
        self._spells = tuple(spells)

    def every(self) -> list[LogKey]:
        """Those that may count somewhere."""
        return [*self._trusted, *(each.key for each in self._spells)]

    def keys(self, size: int, covered: int) -> list[LogKey]:
        """Those that count for a checkpoint of this size, the good one before it being of size `covered`, or 0."""
        begun = [each.key for each in self._spells if each.begins and each.leaf <= covered]
        ended = [each.key for each in self._spells if not each.begins and each.leaf <= size]
        return [key for key in [*self._trusted, *begun] if key not in ended]


def read_signing(layout: Layout, trusted: Sequence[LogKey]) -> Signing:
    """Find the leaves that name keys. Raises BadError."""
    spells: list[Spell] = []
    try:
        with layout.leaves.open("rb") as file:
            number = 0
            while line := file.readline(MAX_CONTROL_LINE + 1):
                number += 1
                if line.startswith(_PREFIX) and line.endswith(b"\n"):
                    spells.append(_spell(line[:-1], number, trusted[0].name))
    except FileNotFoundError:
        pass  # said where the leaves are read
    return Signing(trusted, spells)


def _spell(line: bytes, number: int, origin: str) -> Spell:
    place = f"{LEAVES}:{number}"
    try:
        control = decode_control(line)
        if not isinstance(control, SignerBegan | SignerEnded):
            raise BadError(place, "it names no key")
        key = parse_key(control.key)
    except KmsError as error:
        raise BadError(place, error.detail) from None
    if key.name != origin:
        raise BadError(place, f"a key of another log, {key.name}")
    return Spell(number, key, isinstance(control, SignerBegan))
