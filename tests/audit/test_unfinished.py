"""Written intents: a record of the log and nothing else, until it is ended, kept, or found by recovery."""

from __future__ import annotations

import os

import msgspec
import pytest

from kms.audit import Recorder
from kms.audit.event import Event
from kms.audit.store import INTENTS, OUTBOX
from kms.audit.unfinished import KEEP_AFTER_SECONDS, WINDOW_SECONDS, read_last_part
from kms.errors import ErrorKind, KmsError
from tests.audit.rig import Rig, die, event


def announce(recorder: Recorder, name: str) -> Event:
    intent = event("intent", "thing.forge", resource=f"things/{name}", subject={"name": name})
    recorder.intend(intent)
    return intent


def end(intent: Event, outcome: str = "ok") -> Event:
    return msgspec.structs.replace(intent, phase="outcome", outcome=outcome, at=0.0)


def intents(rig: Rig) -> list[str]:
    return rig.store.reader().keys(INTENTS)


def tick(recorder: Recorder, rig: Rig) -> None:
    """What the recorder's thread does now and then, `KEEP_AFTER_SECONDS` later."""
    rig.clock.jump += KEEP_AFTER_SECONDS
    recorder._keep_announced(KEEP_AFTER_SECONDS)


def test_a_killed_process_leaves_its_open_intents_and_no_others(rig: Rig) -> None:
    recorder = rig.recorder()
    for name in ("stated", "written"):
        intent = announce(recorder, name)
        if name == "stated":
            rig.conclude(recorder, intent)
        else:
            recorder.conclude(end(intent))
    left = announce(recorder, "open")
    assert intents(rig) == [], "an intent costs no commit"
    die(recorder)
    (found,) = rig.recover().intents
    assert (found.id, found.subject) == (left.id, {"name": "open"})
    assert [one.id for one in rig.recover().intents] == [left.id]
    other = rig.recorder()
    rig.conclude(other, found, "unknown")
    assert rig.recover().intents == []
    other.close()
    rig.sequencer().stop()
    assert rig.verified().unknown == [f"thing.forge things/open ({left.id})"]


def test_an_outcome_that_was_committed_and_not_written_ends_its_intent(rig: Rig) -> None:
    recorder = rig.recorder()
    intent = announce(recorder, "a")
    with rig.store.transaction() as tx:
        recorder.stage(tx, end(intent))
    die(recorder)
    found = rig.recover()
    assert (found.ended[0].appended, found.intents) == (1, [])
    rig.sequencer().stop()
    assert rig.verified().unknown == []


def test_an_intent_that_a_power_cut_took_comes_back_with_its_outcome(rig: Rig) -> None:
    recorder = rig.recorder()
    recorder.write(event())
    recorder.flush()
    path = rig.layout.segment(recorder.segment)
    durable = path.stat().st_size
    intent = announce(recorder, "a")
    with rig.store.transaction() as tx:
        recorder.stage(tx, end(intent))
    die(recorder)
    os.truncate(path, durable)
    found = rig.recover()
    assert (found.ended[0].appended, found.intents) == (2, [])
    text = path.read_bytes()
    assert text.index(b'"phase":"intent"') < text.index(b'"phase":"outcome"')
    rig.sequencer().stop()
    rig.verified()
    assert rig.store.reader().keys(OUTBOX) == []


@pytest.mark.parametrize("how", ["stage", "conclude"])
def test_an_intent_that_stays_open_is_kept_in_the_database_until_it_ends(rig: Rig, how: str) -> None:
    recorder = rig.recorder()
    intent = announce(recorder, "slow")
    tick(recorder, rig)
    tick(recorder, rig)
    assert intents(rig) == [intent.id]
    assert rig.recover().intents == [], "its process lives"
    if how == "stage":
        rig.conclude(recorder, intent)
    else:
        recorder.conclude(end(intent))
    assert intents(rig) == []
    die(recorder)
    assert rig.recover().intents == []


def test_a_kept_intent_is_found_once_and_however_late(rig: Rig) -> None:
    recorder = rig.recorder()
    intent = announce(recorder, "slow")
    tick(recorder, rig)
    rig.clock.jump += 2 * WINDOW_SECONDS
    recorder.write(event())
    die(recorder)
    assert [one.id for one in rig.recover().intents] == [intent.id]


def test_an_intent_whose_outcome_is_committed_is_not_kept(rig: Rig) -> None:
    recorder = rig.recorder()
    intent = announce(recorder, "a")
    with rig.store.transaction() as tx:
        staged = recorder.stage(tx, end(intent))
    tick(recorder, rig)
    assert intents(rig) == []
    recorder.publish(staged)
    recorder.close()
    assert intents(rig) == []


def test_an_outcome_that_was_rolled_back_leaves_the_intent_open(rig: Rig) -> None:
    recorder = rig.recorder()
    intent = announce(recorder, "a")

    def roll_back() -> None:
        with rig.store.transaction() as tx:
            recorder.stage(tx, end(intent))
            raise KmsError(ErrorKind.CONFLICT, "no")

    with pytest.raises(KmsError):
        roll_back()
    tick(recorder, rig)
    assert intents(rig) == [intent.id]
    rig.conclude(recorder, intent, "conflict")
    assert intents(rig) == []
    recorder.close()


def test_a_stop_leaves_no_intent_in_memory(rig: Rig) -> None:
    recorder = rig.recorder()
    intent = announce(recorder, "a")
    recorder.close()
    assert [one.id for one in rig.recover().intents] == [intent.id]


def test_nothing_is_announced_when_the_log_takes_nothing(rig: Rig) -> None:
    recorder = rig.recorder()
    recorder._segment.abandon()
    with pytest.raises(KmsError) as refused:
        announce(recorder, "a")
    assert refused.value.kind is ErrorKind.AUDIT_UNAVAILABLE
    assert recorder._announced == {}
    recorder._ending.set()
    recorder._thread.join()


def test_the_last_part_is_found_across_many_reads_and_no_further_back_than_needed(rig: Rig) -> None:
    recorder = rig.recorder()
    old = announce(recorder, "old")
    recorder.write(event())
    rig.clock.jump += WINDOW_SECONDS + 1
    first = announce(recorder, "first")
    for _ in range(300):  # more than one read of a MiB
        recorder.write(event(fields={"text": "x" * 4000, "phase": "intent"}))
    last = announce(recorder, "last")
    recorder.conclude(end(first))
    die(recorder)
    path = rig.layout.segment(recorder.segment)
    with path.open("rb") as file:
        end_of_file = max(i for i, byte in enumerate(path.read_bytes()) if byte) + 1
        part = read_last_part(file.fileno(), end_of_file)
    assert set(part.written) == {first.id, last.id}
    assert part.ended == {first.id}
    assert old.id not in part.written
