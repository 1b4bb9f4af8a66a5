"""The logic of scripts/timing with small counts: same answers are demanded here, times are only looked at there."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from tests.drills.timing import apart, cases, logins, lookups, oracle, welch
from tests.harness.api import Api
from tests.harness.dev import DevServer


def test_twenty_kinds_of_wrong_ciphertext_get_one_answer(
    server: DevServer, api: Api, mount: Callable[[str], str]
) -> None:
    path = mount("transit")
    for case in cases(api, path):
        answers, medians = oracle(server, path, case, 2)
        assert len(answers) == 1
        assert next(iter(answers)).startswith("400 ")
        assert len(medians) == 20
        assert all(medians.values())


def test_medians_are_compared() -> None:
    assert apart({"a": 100.0, "b": 104.0}) < 0.05 < apart({"a": 100.0, "b": 106.0})


def test_a_difference_shows_in_t_and_none_does_not() -> None:
    lot = random.Random(1)
    times = [[int(lot.gauss(10_000, 500)) for _ in range(5_000)] for _ in range(2)]
    assert abs(welch(times[0], times[1])) < 4.5
    assert welch(times[0], [time - 60 for time in times[1]]) > 4.5
    assert welch([5] * 9, [5] * 9) == 0.0


def test_a_failed_login_does_not_say_whether_the_name_is_there(server: DevServer) -> None:
    answers, _ = logins(server, 20)
    assert answers == {(400, "['invalid username or password']")}


def test_lookups_are_timed(tmp_path: Path) -> None:
    assert len(lookups(tmp_path, 200)) == 2
