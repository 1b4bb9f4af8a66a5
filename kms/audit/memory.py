"""What the database, the folder and the signed checkpoints remember of the log must agree before it goes on."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kms.audit.ledger import Ledger
from kms.audit.merkle import CompactRange
from kms.audit.note import LogKey
from kms.audit.store import LogRow
from kms.errors import integrity


class Memory(msgspec.Struct, frozen=True):
    """What the folder holds, once it is known to agree with the database.

    Args:
        signed: size of the published checkpoint.
        leaves, notes: lengths of the files as far as they count.
        named: torn files that the leaves name.
    """

    signed: int
    leaves: int
    notes: int
    named: frozenset[str] = frozenset()


def check_memories(ledger: Ledger, state: LogRow | None, keys: Sequence[LogKey]) -> Memory:
    """Compare the three.

    Raises:
        KmsError(INTEGRITY): one is behind or contradicts another; the message names it.
    """
    current = ledger.current(keys)
    recent, notes = ledger.recent(keys)
    signed = [*recent, *([current] if current else [])]
    if state is None:
        if signed:
            raise integrity("the database knows no audit log, but the audit folder holds a signed one")
        return Memory(0, 0, notes)
    if state.origin != keys[0].name:
        raise integrity(f"the audit log belongs to {state.origin}, not to {keys[0].name}")
    if ledger.length() < state.leaves_bytes:
        raise integrity("the audit folder is behind the database: log/leaves.jsonl is too short")
    if max((checkpoint.size for checkpoint in signed), default=0) > state.size:
        raise integrity("the database is behind the audit folder: a larger checkpoint has been signed")
    replay = ledger.replay(state.leaves_bytes, [checkpoint.size for checkpoint in signed])
    if replay.tree.root() != CompactRange(state.size, state.peaks).root():
        raise integrity("the leaves in the audit folder are not those that the database remembers")
    for checkpoint in signed:
        if replay.roots.get(checkpoint.size) != checkpoint.root:
            raise integrity(f"the signed checkpoint of size {checkpoint.size} does not fit the leaves")
    return Memory(current.size if current else 0, state.leaves_bytes, notes, frozenset(replay.named))
