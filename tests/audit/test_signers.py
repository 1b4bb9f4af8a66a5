"""Two keys sign one log: the second counts once the first vouched for it, and a key that has ended counts no more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kms.audit import LogKey, Sequencer
from kms.audit.control import SignerBegan, SignerEnded, decode_control, encode_control
from kms.audit.ledger import note_line, read_note
from kms.audit.merkle import CompactRange, leaf_hash
from kms.audit.note import Checkpoint, open_checkpoint, read_checkpoint, sign_checkpoint
from kms.audit.store import LOG, LOG_KEY
from kms.errors import ErrorKind, KmsError
from tests.audit.rig import ORIGIN, Rig, Signer, event

AWAY = KmsError(ErrorKind.HSM_UNAVAILABLE, "away")


class TwoKeys(Rig):
    """A log whose sequencer may sign with `live`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.second = Signer()
        self.live = [self.signer]
        self.running = self.begin()

    def begin(self) -> Sequencer:
        sequencer = Sequencer(
            self.folder,
            self.store,
            self.live[0],
            self.clock,
            origin=ORIGIN,
            reserve_bytes=64 * 1024,
            signers=lambda: tuple(self.live),
        )
        sequencer.start()
        self._open.append(sequencer.abandon)
        return sequencer

    def again(self) -> None:
        """Stop and start."""
        self.running.stop()
        self.running = self.begin()

    def work(self) -> str:
        """Something happens and is sequenced; why it was not signed."""
        recorder = self.recorder()
        recorder.write(event())
        recorder.close()
        return self.running.step().unsigned_because

    def key_of(self, signer: Signer) -> LogKey:
        return LogKey(ORIGIN, signer.public)

    def signed_by(self) -> str:
        """Whose signature the published checkpoint bears."""
        note = self.layout.checkpoint.read_bytes()
        for name, signer in (("first", self.signer), ("second", self.second)):
            try:
                open_checkpoint(note, [self.key_of(signer)])
            except KmsError:
                continue
            return name
        return "nobody"


@pytest.fixture
def two(tmp_path: Path) -> Iterator[TwoKeys]:
    made = TwoKeys(tmp_path)
    yield made
    made.shut()


def joined(two: TwoKeys) -> None:
    """The second key has joined and is vouched for."""
    two.work()
    two.live = [two.signer, two.second]
    assert two.work() == ""
    assert two.signed_by() == "first"


def test_whoever_lives_signs(two: TwoKeys) -> None:
    joined(two)
    two.signer.fails = AWAY
    assert two.work() == ""
    assert two.signed_by() == "second"
    two.again()
    two.second.fails, two.signer.fails = AWAY, None
    assert two.work() == ""
    assert two.signed_by() == "first"
    two.signer.fails = AWAY
    assert "away" in two.work()
    two.signer.fails = two.second.fails = None
    assert two.work() == ""
    two.running.stop()
    # Who only knows the first key believes all of it, and so does who knows the folder alone.
    assert two.verified().pinned
    assert two.layout.keys.read_text().split() == [two.key.line()]


def test_a_key_signs_nothing_before_it_is_vouched_for(two: TwoKeys) -> None:
    two.work()
    two.signer.fails = AWAY
    two.live = [two.signer, two.second]
    assert two.work() == "away"
    assert two.work() == "away"
    two.again()
    assert two.work() == "away"
    two.signer.fails = None
    assert two.work() == ""
    two.signer.fails = AWAY
    assert two.work() == ""
    assert two.signed_by() == "second"
    two.verified()


def test_a_key_whose_hsm_is_removed_ends(two: TwoKeys) -> None:
    joined(two)
    two.live = [two.second]
    two.again()
    assert two.work() == ""
    assert two.signed_by() == "second"
    two.again()
    two.work()
    rows = two.store.reader().get(LOG, LOG_KEY)
    assert rows is not None
    assert [bool(row.until) for row in rows.value.signers] == [True, False]
    two.running.stop()
    two.verified()
    assert two.layout.keys.read_text().split() == [two.key.line()]


def test_the_last_key_never_ends(two: TwoKeys) -> None:
    joined(two)
    two.live = [Signer()]
    two.work()
    rows = two.store.reader().get(LOG, LOG_KEY)
    assert rows is not None
    assert [bool(row.until) for row in rows.value.signers] == [False, False, False]
    two.verified()


# -- damage -----------------------------------------------------------------------------------------------


def leaves(two: TwoKeys) -> list[bytes]:
    return two.layout.leaves.read_bytes().splitlines()


def rewrite(two: TwoKeys, lines: list[bytes], notes: list[tuple[int, Signer]]) -> None:
    """Leaves as given, and checkpoints of these sizes signed anew."""
    two.layout.leaves.write_bytes(b"".join(line + b"\n" for line in lines))
    tree, roots = CompactRange(), {}
    for line in lines:
        tree.push(leaf_hash(line))
        roots[tree.size] = tree.root()
    signed = [sign_checkpoint(Checkpoint(ORIGIN, size, roots[size]), signer) for size, signer in notes]
    two.layout.checkpoints.write_bytes(b"".join(note_line(note) for note in signed))
    two.layout.checkpoint.write_bytes(signed[-1])


def sizes(two: TwoKeys) -> list[int]:
    lines = two.layout.checkpoints.read_bytes().splitlines()
    return [read_checkpoint(read_note(line)).size for line in lines]


def finding(two: TwoKeys) -> tuple[str, str]:
    failure = two.verify().failure
    assert failure is not None
    return failure.place, failure.what


def test_a_stranger_cannot_vouch_for_itself(two: TwoKeys) -> None:
    """A thief of the folder adds a key of his own, and signs the checkpoint over that line with it."""
    two.work()
    two.running.stop()
    thief = Signer()
    whole, kept = leaves(two), sizes(two)
    named = encode_control(SignerBegan(key=two.key_of(thief).line(), wall=two.clock.now()))
    rewrite(two, [*whole, named], [(kept[-1], two.signer), (len(whole) + 1, thief)])
    assert finding(two) == ("log/checkpoints.jsonl:2", "no known key has signed the note")
    rewrite(two, [*whole, named], [(len(whole) + 1, thief)])
    assert finding(two) == ("log/checkpoints.jsonl:1", "no known key has signed the note")


def test_a_key_that_joined_does_not_sign_backwards(two: TwoKeys) -> None:
    joined(two)
    two.running.stop()
    lines = leaves(two)
    place = next(n for n, line in enumerate(lines, 1) if isinstance(decode_control(line), SignerBegan))
    rewrite(two, lines, [(place - 1, two.second), (len(lines), two.signer)])
    assert finding(two) == ("log/checkpoints.jsonl:1", "no known key has signed the note")
    rewrite(two, lines, [(place, two.second), (len(lines), two.signer)])
    assert finding(two) == ("log/checkpoints.jsonl:1", "no known key has signed the note")
    rewrite(two, lines, [(place, two.signer), (len(lines), two.second)])
    two.verified()


def test_a_key_that_ended_signs_no_more(two: TwoKeys) -> None:
    joined(two)
    two.live = [two.second]
    two.again()
    two.work()
    two.running.stop()
    lines, kept = leaves(two), sizes(two)
    place = next(n for n, line in enumerate(lines, 1) if isinstance(decode_control(line), SignerEnded))
    before = max(size for size in kept if size < place)
    rewrite(two, lines, [(before, two.signer), (place, two.signer)])
    assert finding(two) == ("log/checkpoints.jsonl:2", "no known key has signed the note")
    rewrite(two, lines, [(before, two.signer), (len(lines), two.second)])
    two.verified()


@pytest.mark.parametrize("what", ["dropped", "twice", "another log's", "ends a stranger", "edited"])
def test_a_line_about_keys_is_damaged(two: TwoKeys, what: str) -> None:
    joined(two)
    two.signer.fails = AWAY
    two.work()
    two.running.stop()
    lines = leaves(two)
    place = next(n for n, line in enumerate(lines) if isinstance(decode_control(line), SignerBegan))
    other = LogKey("other", Signer().public).line()
    wall = two.clock.now()
    new = {
        "dropped": lines[:place] + lines[place + 1 :],
        "twice": [*lines, lines[place]],
        "another log's": [*lines, encode_control(SignerBegan(key=other, wall=wall))],
        "ends a stranger": [
            *lines,
            encode_control(SignerEnded(key=two.key_of(Signer()).line(), why="x", wall=wall)),
        ],
        "edited": [
            *lines[:place],
            encode_control(SignerBegan(key=two.key_of(Signer()).line(), wall=wall)),
            *lines[place + 1 :],
        ],
    }[what]
    if what in {"dropped", "edited"}:
        # The notes stand: the second key's are nobody's now.
        two.layout.leaves.write_bytes(b"".join(line + b"\n" for line in new))
    else:
        two.signer.fails = None
        rewrite(two, new, [(len(lines), two.signer), (len(new), two.signer)])
    assert finding(two)[0] in {"checkpoint", "log/checkpoints.jsonl:3", f"log/leaves.jsonl:{len(new)}"}
