"""The scheduler and the fence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from kms.errors import ErrorKind, KmsError
from kms.jobs import Fence, Scheduler, Task
from kms.oplog import OperatorLog
from tests.support import make_store


class Steps:
    """A clock that moves only when somebody sleeps; ends the scheduler at a given time."""

    def __init__(self, until: float) -> None:
        self.time = 0.0
        self._until = until

    def now(self) -> float:
        return 1_700_000_000 + self.time

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += max(seconds, 0.001)

    def wanted(self) -> bool:
        return self.time < self._until


@pytest.fixture
def log(tmp_path: Path) -> Iterator[tuple[OperatorLog, Path]]:
    path = tmp_path / "log"
    with path.open("wb") as file:
        yield OperatorLog(descriptor=file.fileno()), path


def _run(clock: Steps, log: OperatorLog, *tasks: Task) -> None:
    Scheduler(tasks, clock, log, wanted=clock.wanted, wait=clock.sleep).run()


def _events(path: Path) -> list[str]:
    return [json.loads(line)["event"] for line in path.read_text().splitlines()]


def test_each_task_has_its_interval(log: tuple[OperatorLog, Path]) -> None:
    clock, fast, slow = Steps(10.05), [0], [0]

    def count(box: list[int]) -> None:
        box[0] += 1

    _run(clock, log[0], Task("fast", 0.5, lambda: count(fast)), Task("slow", 5.0, lambda: count(slow)))
    assert fast[0] in (20, 21)
    assert slow[0] == 3


def test_a_failing_task_backs_off_and_does_not_stop_the_others(log: tuple[OperatorLog, Path]) -> None:
    clock, ran, failed = Steps(120.0), [0], [0]

    def fine() -> None:
        ran[0] += 1

    def refuse() -> None:
        failed[0] += 1
        if failed[0] < 6:
            raise KmsError(ErrorKind.HSM_UNAVAILABLE, "the token is away")

    _run(clock, log[0], Task("bad", 1.0, refuse), Task("good", 1.0, fine))
    assert ran[0] >= 115
    assert failed[0] < 70  # 1 s + 2 + 4 + 8 + 16 + 32, then each second again
    events = _events(log[1])
    assert events == ["task_failed", "task_recovered"]
    assert "the token is away" in log[1].read_text()


def test_a_crashing_task_is_contained_and_its_text_is_not_logged(log: tuple[OperatorLog, Path]) -> None:
    clock, ran = Steps(3.0), [0]

    def crash() -> None:
        raise ValueError("canary")

    def fine() -> None:
        ran[0] += 1

    _run(clock, log[0], Task("bad", 1.0, crash), Task("good", 1.0, fine))
    assert ran[0] >= 3
    assert "task_crashed" in _events(log[1])
    assert "canary" not in log[1].read_text()


def test_slow_tasks_are_named(log: tuple[OperatorLog, Path]) -> None:
    clock = Steps(5.0)
    _run(clock, log[0], Task("slow", 10.0, lambda: clock.sleep(2.5)))
    assert _events(log[1]) == ["task_slow"]


def test_last_runs_at_a_stop(log: tuple[OperatorLog, Path]) -> None:
    clock, ran = Steps(0.05), []
    _run(
        clock,
        log[0],
        Task("a", 60.0, lambda: ran.append("a"), at_stop=True),
        Task("b", 60.0, lambda: ran.append("b")),
    )
    assert ran == ["a", "b", "a"]


def test_nothing_to_do(log: tuple[OperatorLog, Path]) -> None:
    _run(Steps(1.0), log[0])


def test_the_fence_moves_on(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    first = Fence.take(store)
    with store.transaction() as tx:
        first.guard(tx)
    second = Fence.take(store)
    assert second.number == first.number + 1
    with store.transaction() as tx:
        second.guard(tx)
    with pytest.raises(KmsError) as refusal, store.transaction() as tx:
        first.guard(tx)
    assert refusal.value.kind is ErrorKind.CONFLICT
    store.close()
