"""The processes: started in order, restarted, stopped cleanly, never two, never orphaned."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.harness import processes
from tests.http.realbao import exchange
from tests.server.conftest import Starter
from tests.server.running import Running

HEALTH = b"GET /v1/sys/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
KEPT = HEALTH.replace(b"Connection: close\r\n", b"")


def _gone(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() and _state(pid) != "Z" for pid in pids)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


def test_ready_means_that_all_workers_answer(wire: Running) -> None:
    seen = set()
    for _ in range(200):
        seen.add(re.search(rb'"pid":(\d+)', wire.talk(HEALTH, quiet=3).raw)[1])  # type: ignore[index]  # there is one
    assert len(seen) == len(wire.workers()) == 2


def test_folders_are_private(wire: Running) -> None:
    for name in ("storage", "audit"):
        assert stat.S_IMODE((wire.folder / name).stat().st_mode) == 0o700


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_clean_and_leaves_nobody(starter: Starter, number: signal.Signals) -> None:
    running = starter()
    running.start()
    everybody = running.tree()
    with httpx.Client(base_url=f"http://127.0.0.1:{running.port}", trust_env=False) as idle:
        assert idle.get("/v1/sys/health").status_code == 200  # an idle connection does not hold it up
        assert running.stop(number) == 0
    assert _gone(everybody)
    assert running.log() == []


def test_requests_that_run_may_finish(starter: Starter) -> None:
    running = starter()
    running.start()
    with ThreadPoolExecutor(4) as pool:
        answers = [
            pool.submit(exchange, running.port, "POST", "/v1/sys/slow", {"X-Vault-Token": "root"})
            for _ in range(4)
        ]
        time.sleep(0.4)
        assert running.stop() == 0
    assert [answer.result()[0] for answer in answers] == [200] * 4


def test_a_seal_replaces_every_process_that_was_open(starter: Starter) -> None:
    """Python cannot wipe memory: a fresh process is the honest wipe."""
    running = starter()
    running.start()
    before = set(running.tree()) - {running.pid}
    arbiter = {p.parent for p in processes.tree(running.pid) if p.pid == running.workers()[0]}
    assert exchange(running.port, "POST", "/v1/sys/seal", {"X-Vault-Token": "root"})[0] == 204
    processes.wait_for(lambda: not (before - arbiter) & set(running.tree()), 10, "everybody to leave")
    processes.wait_for(lambda: len(running.workers()) == 2, 10, "fresh workers")
    assert running.talk(HEALTH, quiet=8).statuses == [200]
    assert running.log() == []


def test_a_stuck_event_loop_is_ended_at_its_deadline(starter: Starter) -> None:
    """Decision 13: an HSM call that hangs inline costs one worker; the others answer meanwhile."""
    running = starter(extra="[limits]\nrequest_seconds = 2")
    running.start()
    before = set(running.workers())
    with running.connect() as stuck:
        stuck.sendall(b"POST /v1/sys/block HTTP/1.1\r\nHost: x\r\nX-Vault-Token: root\r\n\r\n")
        time.sleep(0.2)
        assert any(running.talk(HEALTH, quiet=1).statuses == [200] for _ in range(8))
        processes.wait_for(lambda: len(before & set(running.workers())) == 1, 15, "the stuck one to end")
    processes.wait_for(lambda: len(running.workers()) == 2, 10, "its successor")
    assert "WORKER TIMEOUT" in running.errors.read_text()


def test_killed_workers_are_replaced(starter: Starter) -> None:
    running = starter()
    running.start()
    before = running.workers()
    for pid in before:
        processes.kill(pid)
    processes.wait_for(lambda: len(set(running.workers()) - set(before)) == 2, 10, "new workers")
    processes.wait_for(lambda: running.talk(HEALTH, quiet=3).statuses == [200], 10, "answer")


def test_a_killed_arbiter_takes_its_workers_along_and_is_replaced(starter: Starter) -> None:
    running = starter()
    running.start()
    workers = running.workers()
    arbiter = next(p.parent for p in processes.tree(running.pid) if p.pid == workers[0])
    processes.kill(arbiter)
    processes.wait_for(lambda: _gone(workers), 5, "workers die with their parent")
    # The listening socket stays open meanwhile: a client waits, and is not refused.
    assert running.talk(HEALTH, quiet=8).statuses == [200]
    assert running.log()[-1]["event"] == "process_ended"


def test_a_killed_jobs_process_is_replaced(starter: Starter) -> None:
    running = starter()
    running.start()
    workers = running.workers()
    arbiter = next(p.parent for p in processes.tree(running.pid) if p.pid == workers[0])
    jobs = next(pid for pid in running.tree() if pid not in (running.pid, arbiter, *workers))
    processes.kill(jobs)
    processes.wait_for(
        lambda: any(p not in (running.pid, arbiter, jobs, *workers) for p in running.tree()), 10, "new jobs"
    )
    assert running.stop() == 0


def test_a_killed_supervisor_takes_everybody_along_and_the_next_start_works(starter: Starter) -> None:
    running = starter()
    running.start()
    everybody = running.tree()
    processes.kill(running.pid)
    assert running.process is not None
    running.process.wait(10)
    running.start()  # waits for the lock
    assert _gone(everybody)
    assert running.talk(HEALTH, quiet=3).statuses == [200]


def test_a_second_server_on_the_same_folder_is_refused(wire: Running) -> None:
    config = wire.folder / "second.toml"
    config.write_text(wire.config.read_text().replace(f":{wire.port}", f":{processes.free_port()}"))
    done = subprocess.run(
        [sys.executable, "-m", "tests.http.fakeserver", str(config)],
        capture_output=True,
        text=True,
        env=wire.environment,
        cwd=Path(__file__).parents[2],
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "another Keystead server is running" in done.stderr


def test_a_taken_port_is_a_sentence(starter: Starter, wire: Running) -> None:
    running = starter()
    running.config.write_text(running.config.read_text().replace(f":{running.port}", f":{wire.port}"))
    process = running.launch()
    assert process.wait(20) == 1
    assert "cannot listen on 127.0.0.1" in running.errors.read_text()


@pytest.mark.parametrize("role", ["start", "worker"])
def test_a_build_that_fails_says_why_and_ends(starter: Starter, role: str) -> None:
    running = starter(environment={"KEYSTEAD_TEST_REFUSE": role})
    process = running.launch()
    assert process.wait(30) == 1
    assert "the token does not answer; plug it in" in running.errors.read_text()
    assert "Traceback" not in running.errors.read_text()
    assert "ready" not in running.output.read_text()


def test_a_failing_jobs_process_does_not_stop_the_service(starter: Starter) -> None:
    running = starter(environment={"KEYSTEAD_TEST_REFUSE": "jobs"})
    running.start()
    assert running.talk(HEALTH, quiet=3).statuses == [200]
    events = [line["event"] for line in running.log()]
    assert "process_cannot_start" in events


def test_hangup_replaces_the_workers_without_losing_a_request(starter: Starter) -> None:
    running = starter()
    running.start()
    before = set(running.workers())
    os.kill(running.pid, signal.SIGHUP)
    for _ in range(300):
        assert exchange(running.port, "GET", "/v1/sys/health")[0] == 200
        if not before & set(running.workers()):
            break
    processes.wait_for(lambda: not before & set(running.workers()), 10, "new workers")


def test_processes_are_hardened(wire: Running) -> None:
    for pid in wire.tree():
        limits = Path(f"/proc/{pid}/limits").read_text()
        core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
        assert core.split()[4:6] == ["0", "0"]
        assert "Umask:\t0077" in Path(f"/proc/{pid}/status").read_text()


def test_others_of_the_same_user_cannot_look_in(wire: Running) -> None:
    """PR_SET_DUMPABLE=0: memory and descriptors belong to root, ptrace is refused (T-61)."""
    for pid in wire.tree():
        assert Path(f"/proc/{pid}/mem").stat().st_uid == 0
    if os.geteuid() == 0:
        # As root everything is root's; a process of another user shows the difference.
        done = subprocess.run(
            [sys.executable, "-c", _DUMPABLE], capture_output=True, text=True, check=True, timeout=20
        )
        assert done.stdout.split() == ["1", "0"]


_DUMPABLE = """
import ctypes
from kms.server import hardening
libc = ctypes.CDLL(None)
print(libc.prctl(3, 0, 0, 0, 0))
hardening.harden()
print(libc.prctl(3, 0, 0, 0, 0))
"""


@pytest.mark.slow
def test_heads_have_a_deadline(wire: Running) -> None:
    with wire.connect() as silent, wire.connect() as dribbling:
        dribbling.sendall(b"GET /v1/sys/health HTTP/1.1\r\nHos")
        for connection in (silent, dribbling):
            connection.settimeout(15)
            try:
                assert connection.recv(1000) == b""
            except ConnectionResetError:
                continue


def test_a_full_worker_leaves_connections_to_those_with_room(starter: Starter) -> None:
    running = starter(workers=2, extra="[limits]\nconnections = 5")
    running.start()
    other = running.workers()[1]
    os.kill(other, signal.SIGSTOP)  # so that the first one is full, and alone in accepting
    held = [running.connect() for _ in range(5)]
    try:
        for connection in held:
            connection.sendall(KEPT)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200"), (
                "they are kept after their first request"
            )
        waits = running.connect()
        held.append(waits)
        waits.sendall(KEPT)
        waits.settimeout(1)
        with pytest.raises(TimeoutError):
            waits.recv(65536)
        os.kill(other, signal.SIGCONT)
        waits.settimeout(20)
        assert waits.recv(65536).startswith(b"HTTP/1.1 200")
        # Room again: both accept.
        for connection in held:
            connection.close()
        for _ in range(8):
            assert running.talk(HEALTH, quiet=3).statuses == [200]
    finally:
        os.kill(other, signal.SIGCONT)
        for connection in held:
            connection.close()


def test_connections_beyond_the_limit_are_closed(starter: Starter) -> None:
    running = starter(workers=1, extra="[limits]\nconnections = 3")
    running.start()
    open_ones = [running.connect() for _ in range(3)]
    try:
        answers = running.talk(HEALTH, quiet=3)
        assert answers.closed
        assert answers.responses == []
        open_ones.pop().close()
        processes.wait_for(lambda: running.talk(HEALTH, quiet=3).statuses == [200], 5, "room again")
    finally:
        for connection in open_ones:
            connection.close()
