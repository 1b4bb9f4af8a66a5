"""What the kernel saw: the record is written, and for a change the commit is synced, before any answer leaves."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness import processes
from tests.harness.api import Api
from tests.harness.dev import ConfiguredServer
from tests.system.test_spy import SPY

TRACED = "write,writev,pwrite64,fdatasync,fsync,sendto,sendmsg"
EVENT, INTENT, OUTCOME = (re.escape(f'\\"{word}\\"') for word in ("event", "intent", "outcome"))
ANSWER = r'"HTTP/1\.'
SENDS = "sendto|sendmsg|write|writev"
MESSAGE = "aGVsbG8="


@dataclass(frozen=True)
class SystemCall:
    """One line of strace: who, what, on which file, with which first bytes."""

    pid: int
    name: str
    file: str
    data: str

    def is_(self, name: str, file: str, data: str = "") -> bool:
        return self.name in name.split("|") and file in self.file and re.search(data, self.data) is not None


LINE = re.compile(r"^(\d+) +(\w+)\(\d+<(.*?)>(?:, (?:\[\{iov_base=)?(.*))?")


def trace(path: Path) -> list[SystemCall]:
    found = []
    for line in path.read_text(errors="replace").splitlines():
        match = LINE.match(line)
        if match is not None:
            found.append(SystemCall(int(match[1]), match[2], match[3], match[4] or ""))
    return found


def first(calls: list[SystemCall], name: str, file: str, data: str = "") -> int:
    """Index of the first such call; fails when there is none."""
    for index, call in enumerate(calls):
        if call.is_(name, file, data):
            return index
    raise AssertionError(f"no {name} of {data!r} on {file}: {[(c.name, c.file[-30:]) for c in calls]}")


@dataclass(frozen=True)
class Traced:
    server: ConfiguredServer
    api: Api
    output: Path

    def calls_during(self, verb: str, path: str, body: object) -> list[SystemCall]:
        """System calls of the worker that answered, from the request to the first byte of its answer.

        strace writes with a delay, so the request is found by its record, which names the path.
        """
        before = len(trace(self.output))
        answer = self.api.call(verb, path, body)
        assert answer.status in {200, 204}, answer.content
        mark = re.escape(f'\\"resource\\":\\"{path}\\"')
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            new = trace(self.output)[before:]
            records = [i for i, call in enumerate(new) if call.is_("write", "/segments/", mark)]
            if records:
                mine = self.of_process(new, new[records[0]].pid)
                start = first(mine, "write", "/segments/", mark)
                if ends := [
                    i for i, call in enumerate(mine) if i > start and call.is_(SENDS, "socket:", ANSWER)
                ]:
                    begins = [i for i, call in enumerate(mine[:start]) if call.is_(SENDS, "socket:", ANSWER)]
                    return mine[begins[-1] + 1 if begins else 0 : ends[0] + 1]
            time.sleep(0.1)
        raise AssertionError("strace saw no answer")

    def of_process(self, seen: list[SystemCall], pid: int) -> list[SystemCall]:
        """Calls of all threads of one process."""
        threads = {int(entry.name) for entry in Path(f"/proc/{self.owner(pid)}/task").iterdir()}
        return [call for call in seen if call.pid in threads]

    @staticmethod
    def owner(thread: int) -> int:
        """The process of a thread."""
        status = Path(f"/proc/{thread}/status").read_text()
        found = re.search(r"^Tgid:\s+(\d+)", status, re.MULTILINE)
        assert found is not None
        return int(found[1])


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    folder = tmp_path_factory.mktemp("traced")
    output, spy = folder / "strace.log", folder / "spy.log"
    strace = [
        processes.program("strace"),
        "-f",
        "-qq",
        "-y",
        "-s",
        "3000",
        "-e",
        f"trace={TRACED}",
        "-o",
        str(output),
    ]
    environment = {"PKCS11SPY": "/usr/lib/softhsm/libsofthsm2.so", "PKCS11SPY_OUTPUT": str(spy)}
    running = ConfiguredServer(folder / "server", workers=1, wrapper=strace, environment=environment)
    running.prepare(lambda text: re.sub(r'module = ".*"', f'module = "{SPY}"', text))
    try:
        running.start()
        with running.api() as api:
            for name, engine in (("transit", "transit"), ("pki", "pki")):
                api.ok("POST", f"sys/mounts/{name}", {"type": engine})
            for name, kind in (("aes", "aes256-gcm96"), ("ec", "ecdsa-p256")):
                api.ok("POST", f"transit/keys/{name}", {"type": kind})
            api.ok("POST", "pki/root/generate/internal", {"common_name": "Traced Root", "key_type": "ec"})
            api.ok(
                "POST",
                "pki/roles/any",
                {"allow_any_name": True, "enforce_hostnames": False, "key_type": "ec"},
            )
            yield Traced(running, api, output)
    finally:
        running.stop()


PLAIN = {
    "encrypt": ("POST", "transit/encrypt/aes", {"plaintext": MESSAGE}),
    "sign": ("POST", "transit/sign/ec", {"input": MESSAGE}),
    "hmac": ("POST", "transit/hmac/aes", {"input": MESSAGE}),
    "read a key": ("GET", "transit/keys/aes", None),
    "look up oneself": ("GET", "auth/token/lookup-self", None),
}
CHANGES = {
    "create a key": ("POST", "transit/keys/fresh", {}),
    "rotate a key": ("POST", "transit/keys/aes/rotate", {}),
    "write a policy": ("POST", "sys/policies/acl/p", {"policy": 'path "x" { capabilities = ["read"] }'}),
    "create a token": ("POST", "auth/token/create", {"ttl": "1h"}),
    "write a role": ("POST", "pki/roles/r", {"allow_any_name": True}),
}
# Session objects vanish by themselves; what stays in the token needs its intent first.
STORED = r": {}\\n.*CKA_TOKEN +True"
EXTERNAL = {
    "a resident key": (
        "POST",
        "transit/keys/resident",
        {"type": "ed25519", "protection": "hsm"},
        STORED.format("C_GenerateKeyPair"),
    ),
    "rotate the root": ("POST", "sys/hsm/root/rotate", {}, STORED.format("C_GenerateKey")),
}


@pytest.mark.parametrize("name", PLAIN)
def test_record_is_written_before_the_answer(name: str, traced: Traced) -> None:
    calls = traced.calls_during(*PLAIN[name])
    assert first(calls, "write", "/segments/", EVENT) < len(calls) - 1


@pytest.mark.parametrize("name", CHANGES)
def test_commit_is_durable_before_the_answer(name: str, traced: Traced) -> None:
    calls = traced.calls_during(*CHANGES[name])
    written = first(calls, "pwrite64", "keystead.db-wal")
    synced = first(calls[written:], "fdatasync|fsync", "keystead.db-wal") + written
    recorded = first(calls, "write", "/segments/", EVENT)
    assert written < synced < recorded < len(calls) - 1


def test_intent_is_written_before_a_certificate_is_signed_and_the_rest_is_durable(traced: Traced) -> None:
    calls = traced.calls_during("POST", "pki/issue/any", {"common_name": "a.example.test"})
    intended = first(calls, "write", "/segments/", INTENT)
    acted = first(calls, "write", "spy.log", r"C_Sign\\n")
    written = first(calls, "pwrite64", "keystead.db-wal")
    synced = first(calls[written:], "fdatasync|fsync", "keystead.db-wal") + written
    closed = first(calls, "write", "/segments/", OUTCOME)
    assert intended < acted < written < synced < closed < len(calls) - 1


@pytest.mark.parametrize("name", EXTERNAL)
def test_intent_is_durable_before_the_token_acts(name: str, traced: Traced) -> None:
    verb, path, body, act = EXTERNAL[name]
    calls = traced.calls_during(verb, path, body)
    synced = first(calls, "fdatasync|fsync", "keystead.db-wal")
    intended = first(calls, "write", "/segments/", INTENT)
    acted = first(calls, "write", "spy.log", act)
    closed = first(calls, "write", "/segments/", OUTCOME)
    assert synced < intended < acted < closed < len(calls) - 1
