"""A finished audit folder, and ways to damage it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec

from kms.audit import Receipt
from kms.audit.control import Frame, Opened, decode_control, encode_control, line_hash
from kms.audit.ledger import note_line
from kms.audit.merkle import CompactRange, leaf_hash
from kms.audit.note import Checkpoint, sign_checkpoint
from kms.audit.record import decode_record, encode_record
from kms.audit.verify import Report, verify
from tests.audit.rig import Rig, Signer, die, event

LEAVES, HISTORY = "log/leaves.jsonl", "log/checkpoints.jsonl"


class Log:
    """A finished audit folder to damage: two clean segments, a recovered one with a torn tail, three checkpoints.

    Attributes:
        a, b: ids of segments that closed cleanly; `a` has three frames of three records.
        dead: id of the recovered segment.
    """

    def __init__(self, folder: Path, rig: Rig, a: str, b: str, dead: str, receipts: list[Receipt]) -> None:
        self.folder = folder
        self.rig = rig
        self.a, self.b, self.dead = a, b, dead
        self.receipts = receipts

    def path(self, name: str) -> Path:
        """A file by its name, with A, B and DEAD for the segments."""
        for short, segment in (("DEAD", self.dead), ("A", self.a), ("B", self.b)):
            if name == f"segments/{short}":
                name = f"segments/{segment}.jsonl"
        if name == "torn":
            return next((self.folder / "torn").iterdir())
        return self.folder / name

    def lines(self, name: str) -> list[bytes]:
        return self.path(name).read_bytes().splitlines(keepends=True)

    def write(self, name: str, lines: list[bytes]) -> None:
        self.path(name).write_bytes(b"".join(lines))

    def short(self, text: str) -> str:
        for short, segment in (("A", self.a), ("B", self.b), ("DEAD", self.dead)):
            text = text.replace(f"{segment}.jsonl", short).replace(segment, short)
        return text

    def report(self) -> Report:
        return verify(self.folder, self.rig.trust)


def build(rig: Rig) -> tuple[str, str, str, list[Receipt]]:
    sequencer = rig.sequencer()
    a, b, dead = rig.recorder(), rig.recorder(), rig.recorder()
    for recorder in (a, b, dead):
        recorder._tick = lambda: None  # type: ignore[method-assign]  # frames are closed here only
    receipts = []
    for number in range(3):
        receipts += [a.write(event()), a.write(event(fields={"n": number}))]
        rig.change(a, f"a{number}")
        b.write(event())
        for recorder in (a, b):
            recorder.flush()
        sequencer.step()
    rig.conclude(a, rig.intend(a, "forged"))
    dead.write(event())
    die(dead)
    with rig.layout.segment(dead.segment).open("ab") as file:
        file.write(b"torn")
    rig.recover()
    a.close()
    b.close()
    sequencer.stop()
    return a.segment, b.segment, dead.segment, receipts


Damage = Callable[[Log], None]


def edit(name: str, line: int, old: bytes, new: bytes) -> Damage:
    def damage(log: Log) -> None:
        lines = log.lines(name)
        assert old in lines[line - 1]
        lines[line - 1] = lines[line - 1].replace(old, new, 1)
        log.write(name, lines)

    return damage


def drop(name: str, line: int) -> Damage:
    def damage(log: Log) -> None:
        lines = log.lines(name)
        del lines[line - 1]
        log.write(name, lines)

    return damage


def repeat(name: str, line: int) -> Damage:
    def damage(log: Log) -> None:
        lines = log.lines(name)
        lines.insert(line, lines[line - 1])
        log.write(name, lines)

    return damage


def swap(name: str, line: int) -> Damage:
    def damage(log: Log) -> None:
        lines = log.lines(name)
        lines[line - 1], lines[line] = lines[line], lines[line - 1]
        log.write(name, lines)

    return damage


def cut(name: str, left: int) -> Damage:
    """Keep the first `left` lines."""

    def damage(log: Log) -> None:
        log.write(name, log.lines(name)[:left])

    return damage


def shorten(name: str, by: int) -> Damage:
    """Drop the last bytes."""

    def damage(log: Log) -> None:
        path = log.path(name)
        path.write_bytes(path.read_bytes()[:-by])

    return damage


def add(name: str, data: bytes) -> Damage:
    def damage(log: Log) -> None:
        path = log.path(name)
        path.parent.mkdir(exist_ok=True)
        with path.open("ab") as file:
            file.write(data)

    return damage


def remove(name: str) -> Damage:
    return lambda log: log.path(name).unlink()


def exchange(name: str, other: str) -> Damage:
    def damage(log: Log) -> None:
        first, second = log.path(name).read_bytes(), log.path(other).read_bytes()
        log.path(name).write_bytes(second)
        log.path(other).write_bytes(first)

    return damage


def empty(name: str) -> Damage:
    def damage(log: Log) -> None:
        log.path(name).write_bytes(b"")

    return damage


def rehash_record(log: Log) -> None:
    """Change the second record of A and give it a right h."""
    lines = log.lines("segments/A")
    _, record, happened = decode_record(lines[2])
    changed = msgspec.json.encode(msgspec.structs.replace(happened, operation="harmless"))
    lines[2] = encode_record(log.a, record.seq, record.wall, record.mono, changed)[1]
    log.write("segments/A", lines)


def rehash_segment(log: Log) -> None:
    """Change a record of A and make every frame, link and last line of the segment fit again."""
    rehash_record(log)
    lines = log.lines("segments/A")
    pending, prev = CompactRange(), ""
    for at, line in enumerate(lines):
        if not line.startswith(b'{"control"'):
            pending.push(decode_record(line)[0])
            continue
        control = decode_control(line[:-1])
        if isinstance(control, Frame):
            control = msgspec.structs.replace(control, root=pending.root().hex(), prev=prev)
            pending = CompactRange()
        elif not isinstance(control, Opened):
            control = msgspec.structs.replace(control, prev=prev)
        encoded = encode_control(control)
        prev = line_hash(encoded)
        lines[at] = encoded + b"\n"
    log.write("segments/A", lines)


def rehash_everything(log: Log) -> None:
    """As `rehash_segment`, with the leaves made to fit too: only the signatures cannot be made."""
    old = [line for line in log.lines("segments/A") if line.startswith(b'{"control"')]
    rehash_segment(log)
    new = [line for line in log.lines("segments/A") if line.startswith(b'{"control"')]
    leaves = log.lines("log/leaves.jsonl")
    log.write("log/leaves.jsonl", [new[old.index(line)] if line in old else line for line in leaves])


def resign(log: Log) -> None:
    """As `rehash_everything`, signed with another key that pretends to be the log's."""
    rehash_everything(log)
    signer = Signer()
    tree, notes = CompactRange(), []
    sizes = {json.loads(line)["note"].split("\n")[1] for line in log.lines("log/checkpoints.jsonl")}
    note = b""
    for line in log.lines("log/leaves.jsonl"):
        tree.push(leaf_hash(line[:-1]))
        if str(tree.size) in sizes:
            note = sign_checkpoint(Checkpoint(log.rig.key.name, tree.size, tree.root()), signer)
            notes.append(note_line(note))
    log.write("log/checkpoints.jsonl", notes)
    log.path("checkpoint").write_bytes(note)


def older_checkpoint(log: Log) -> None:
    first = json.loads(log.lines("log/checkpoints.jsonl")[0])["note"]
    log.path("checkpoint").write_text(first)


def truncated_history(log: Log) -> None:
    """Cut the history to its first line, with the checkpoint that belongs to it; the leaves stay."""
    log.write("log/checkpoints.jsonl", log.lines("log/checkpoints.jsonl")[:1])
    older_checkpoint(log)
