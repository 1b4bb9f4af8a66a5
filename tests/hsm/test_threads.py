"""H1 and T-07: threads crash an unprotected SoftHSM, and do not crash ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = 30
MUTATION_TRIES = 3
HUNG = 124


def hammer(folder: Path, seconds: float, mode: str, threads: int = 8) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.hsm.hammer", str(folder), str(seconds), mode, str(threads)]
    top = Path(__file__).parent.parent.parent
    try:
        return subprocess.run(
            command, cwd=top, capture_output=True, text=True, timeout=seconds + 60, check=False
        )
    except subprocess.TimeoutExpired:  # a crash inside a lock of the module's is a standstill
        return subprocess.CompletedProcess(command, HUNG, "", "it hangs")


@pytest.mark.slow
def test_eight_threads_for_thirty_seconds(tmp_path: Path) -> None:
    done = hammer(tmp_path / "token", SECONDS, "guarded")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    locking, threads, calls = done.stdout.split()
    assert (locking, threads) == ("True", "8")
    print(f"{calls} calls by 8 threads in {SECONDS} s")
    assert int(calls) > 8 * 240


@pytest.mark.slow
def test_without_the_protection_it_is_caught(tmp_path: Path) -> None:
    """The mutation: were the protection lost, the test above would see a signal, an error, a wrong answer or a standstill.

    With one thread the mutated program runs through, so it is the threads that break it.
    """
    alone = hammer(tmp_path / "alone", 1, "naked", threads=1)
    assert (alone.returncode, alone.stderr) == (0, "")
    for attempt in range(MUTATION_TRIES):
        done = hammer(tmp_path / f"token-{attempt}", SECONDS / 2, "naked")
        if done.returncode != 0 or done.stderr:
            print(f"exit code {done.returncode}")
            return
    pytest.fail("SoftHSM without locking survived; the hammer is too weak to show that the protection works")


def test_a_module_without_os_locking_is_called_by_one_thread_at_a_time(tmp_path: Path) -> None:
    done = hammer(tmp_path / "token", 5, "refused")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.split()[:2] == ["False", "8"]
