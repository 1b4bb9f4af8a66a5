"""The sweep runs beside the other tasks, tells what it found in its turn, and ends with the process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kms.errors import ErrorKind, KmsError
from kms.jobs.sweeper import EVERY_SECONDS, FIRST_AFTER_SECONDS, Breathe, Sweeper
from kms.storage import SqliteStore, sweep
from tests.pki.bench import StepClock
from tests.storage.test_store import _SQL, ITEMS, put, raw
from tests.support import make_store


class Comparing:
    """A comparison that lasts until it is let go, and fails as it is told to."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.failure: KmsError | None = None
        self.runs = 0

    def __call__(self, breathe: Breathe) -> None:
        self.runs += 1
        self.begun.set()
        while not self.go.is_set():
            breathe()
        if self.failure is not None:
            raise self.failure


@pytest.fixture(name="comparing")
def _comparing() -> Comparing:
    return Comparing()


@pytest.fixture(name="clock")
def _clock() -> StepClock:
    return StepClock()


@pytest.fixture(name="sweeper")
def _sweeper(comparing: Comparing, clock: StepClock) -> Iterator[Sweeper]:
    sweeper = Sweeper(comparing, clock)
    yield sweeper
    sweeper.stop()


def finish(sweeper: Sweeper, comparing: Comparing) -> None:
    comparing.go.set()
    running = sweeper._running
    assert running is not None
    running.exception(30)
    assert sweeper.ended()
    sweeper.take()


def test_it_begins_soon_after_a_start_and_then_each_hour(
    sweeper: Sweeper, comparing: Comparing, clock: StepClock
) -> None:
    assert not sweeper.due()
    clock.sleep(FIRST_AFTER_SECONDS)
    assert sweeper.due()
    sweeper.begin()
    assert comparing.begun.wait(30)
    assert not sweeper.due()
    assert not sweeper.ended()
    finish(sweeper, comparing)
    assert not sweeper.due()
    clock.sleep(EVERY_SECONDS)
    assert sweeper.due()
    assert comparing.runs == 1


def test_what_it_found_is_raised_in_the_thread_of_the_tasks(
    sweeper: Sweeper, comparing: Comparing, clock: StepClock
) -> None:
    clock.sleep(FIRST_AFTER_SECONDS)
    comparing.failure = KmsError(ErrorKind.INTEGRITY, "a row was put back")
    sweeper.begin()
    with pytest.raises(KmsError, match="put back"):
        finish(sweeper, comparing)
    assert not sweeper.due()


def test_a_seal_meanwhile_is_no_failure(sweeper: Sweeper, comparing: Comparing, clock: StepClock) -> None:
    clock.sleep(FIRST_AFTER_SECONDS)
    comparing.failure = KmsError(ErrorKind.SEALED, "Vault is sealed")
    sweeper.begin()
    finish(sweeper, comparing)


def test_the_end_of_the_process_ends_it(sweeper: Sweeper, comparing: Comparing, clock: StepClock) -> None:
    clock.sleep(FIRST_AFTER_SECONDS)
    sweeper.begin()
    assert comparing.begun.wait(30)
    sweeper.stop()
    assert sweeper.ended()
    sweeper.take()


def test_it_breathes_after_each_row(tmp_path: Path) -> None:
    store: SqliteStore = make_store(tmp_path)
    raw(tmp_path, _SQL)
    for number in range(7):
        put(store, f"k{number}")
    rows: list[None] = []
    assert sweep(store, [ITEMS], lambda: rows.append(None)) == []
    assert len(rows) == 7
    store.close()
