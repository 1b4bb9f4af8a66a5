"""The audit log of a real run: it verifies offline from public keys, and no damage to it goes unseen."""

from __future__ import annotations

import base64
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness import log
from tests.harness.api import Api
from tests.harness.dev import KEYSTEAD, DevServer, clean_environment


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `audit/`, `trusted.pub` and `receipt`, left by a server that worked and stopped."""
    folder = tmp_path_factory.mktemp("finished")
    server = DevServer(folder / "server", workers=2)
    try:
        server.start()
        with server.api() as api:
            api.ok("POST", "sys/mounts/transit", {"type": "transit"})
            api.ok("POST", "transit/keys/k", {})
            for number in range(200):
                text = base64.b64encode(str(number).encode()).decode()
                answer = api.post("transit/encrypt/k", {"plaintext": text})
                assert answer.status == 200
            (folder / "receipt").write_text(answer.headers["x-keystead-receipt"])
            assert api.get("transit/keys/nosuch").status == 404
    finally:
        assert server.stop() == 0
    shutil.copytree(server.audit, folder / "audit")
    shutil.copy(server.audit / "log.pub", folder / "trusted.pub")
    return folder


def verify(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The verifier, with nothing but the copied folder and public keys."""
    command = [str(KEYSTEAD), "audit", "verify", str(folder / "audit"), *options]
    environment = clean_environment(folder)
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def pinned(folder: Path) -> subprocess.CompletedProcess[str]:
    return verify(folder, "--trust", str(folder / "trusted.pub"))


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


def test_finished_log_verifies_with_pinned_keys(finished: Path) -> None:
    done = pinned(finished)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "complete to" in done.stdout


def test_without_a_trust_file_the_key_is_not_pinned(finished: Path) -> None:
    done = verify(finished)
    assert done.returncode == 3
    assert "not pinned" in done.stdout


def test_receipt_of_an_answer_is_in_the_log(finished: Path) -> None:
    receipt = (finished / "receipt").read_text()
    assert verify(finished, "--receipt", receipt).returncode == 3
    forged = receipt[:-6] + ("000000" if not receipt.endswith("000000") else "111111")
    assert verify(finished, "--receipt", forged).returncode == 1


def test_key_of_another_log_is_refused(finished: Path, copy: Path) -> None:
    line = (finished / "trusted.pub").read_text().strip()
    name, number, key = line.split("+", 2)
    raw = bytearray(base64.b64decode(key))
    raw[-1] ^= 1
    (copy / "trusted.pub").write_text(f"{name}+{number}+{base64.b64encode(raw).decode()}\n")
    assert pinned(copy).returncode == 1


def biggest_segment(folder: Path) -> Path:
    return max((folder / "audit" / "segments").iterdir(), key=lambda path: path.stat().st_size)


def flip(path: Path, position: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * position)] ^= 1
    path.write_bytes(data)


def swap_lines(folder: Path) -> None:
    path = biggest_segment(folder)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2], lines[3] = lines[3], lines[2]
    path.write_bytes(b"".join(lines))


def drop_line(folder: Path) -> None:
    path = biggest_segment(folder)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3] + lines[4:]))


def cut_tail(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def swap_segments(folder: Path) -> None:
    first, second = sorted((folder / "audit" / "segments").iterdir(), key=lambda path: path.stat().st_size)[
        -2:
    ]
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    second.write_bytes(a)


def add_file(folder: Path) -> None:
    (folder / "audit" / "segments" / ("0" * 32 + ".jsonl")).write_text("{}\n")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a byte of a segment": lambda folder: flip(biggest_segment(folder), 0.5),
    "the first byte of a segment": lambda folder: flip(biggest_segment(folder), 0),
    "the last byte of a segment": lambda folder: flip(biggest_segment(folder), 0.99999),
    "a byte of the leaves": lambda folder: flip(folder / "audit" / "log" / "leaves.jsonl", 0.5),
    "a byte of the checkpoint": lambda folder: flip(folder / "audit" / "checkpoint", 0.5),
    "a byte of the old checkpoints": lambda folder: flip(folder / "audit" / "log" / "checkpoints.jsonl", 0.5),
    "two lines swapped": swap_lines,
    "a line dropped": drop_line,
    "the end of a segment cut off": lambda folder: cut_tail(biggest_segment(folder)),
    "the end of the leaves cut off": lambda folder: cut_tail(folder / "audit" / "log" / "leaves.jsonl"),
    "a segment removed": lambda folder: biggest_segment(folder).unlink(),
    "two segments swapped": swap_segments,
    "a strange segment": add_file,
    "the checkpoint removed": lambda folder: (folder / "audit" / "checkpoint").unlink(),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found_and_placed(name: str, copy: Path) -> None:
    DAMAGES[name](copy)
    done = pinned(copy)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    assert done.stdout.strip() or done.stderr.strip()


def test_every_byte_of_the_biggest_segment_counts(copy: Path) -> None:
    path = biggest_segment(copy)
    sound = path.read_bytes()
    step = max(1, len(sound) // 40)
    for position in range(7, len(sound), step):
        data = bytearray(sound)
        data[position] ^= 0x20
        path.write_bytes(data)
        done = pinned(copy)
        assert done.returncode == 1, position
        assert path.stem in done.stdout + done.stderr


def test_each_request_has_its_record(api: Api, server: DevServer) -> None:
    done = api.post("auth/token/create", {"ttl": "1h"})
    refused = api.as_token("hvs." + "A" * 24)
    assert refused.get("sys/mounts").status == 403
    refused.close()
    weak = api.as_token(done.json["auth"]["client_token"])
    assert api.get("auth/token/lookup-self").status == 200
    weak.close()
    entries = [entry for entry in log.entries(server.audit) if entry.id == done.json["request_id"]]
    assert [(entry.phase, entry.outcome) for entry in entries] == [("done", "ok")]
    _origin, segment, seq, _leaf = done.headers["x-keystead-receipt"].split(";")
    assert (entries[0].segment, entries[0].seq) == (segment, int(seq))
