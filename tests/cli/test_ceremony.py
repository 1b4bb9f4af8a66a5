"""`keystead ca ceremony` at a terminal, and what it says when something is missing."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.harness import processes
from tests.harness.dev import KEYSTEAD, clean_environment
from tests.harness.offline import WITNESSES, Offline

ROOT = {"action": "make-root", "name": "root", "common_name": "Example Root"}
CRL = {"action": "sign-crl", "issuer": "root"}


@pytest.fixture
def offline(tmp_path: Path) -> Offline:
    return Offline(tmp_path / "offline")


class Seat:
    """A terminal with the command running at it."""

    def __init__(self, offline: Offline, *arguments: str) -> None:
        self._main, side = pty.openpty()
        self._process = subprocess.Popen(
            [str(KEYSTEAD), "ca", "ceremony", *arguments],
            stdin=side,
            stdout=side,
            stderr=side,
            env=clean_environment(offline.folder),
            start_new_session=True,
        )
        os.close(side)
        self.seen = ""

    def answer(self, question: str, text: str) -> None:
        """Wait for a question, and type."""
        self._read_to(question)
        os.write(self._main, text.encode() + b"\n")

    def _read_to(self, text: str) -> None:
        start = len(self.seen)

        def there() -> bool:
            self.seen += os.read(self._main, 4096).decode()
            return text in self.seen[start:]

        processes.wait_for(there, 60, lambda: self.seen)

    def end(self) -> int:
        """Read to the end; the exit code."""
        try:
            while part := os.read(self._main, 4096):
                self.seen += part.decode()
        except OSError:  # the other side is closed
            pass
        os.close(self._main)
        return self._process.wait(60)


def test_witnesses_confirm_at_the_terminal_and_one_who_does_not_stops_it(offline: Offline) -> None:
    script, record = str(offline.script(ROOT, CRL, signer="root")), str(offline.folder / "record")
    pin = offline.token.pin_file.read_text().strip()
    seat = Seat(offline, "--script", script, "--transcript", record)
    seat.answer("PIN of the token offline", pin)
    seat.answer("Ada: type yes", "yes")
    seat.answer("Grace: type yes", "no")
    assert seat.end() == 1
    assert "stopped at step 1 of 2: Grace did not confirm; run the same command" in seat.seen
    assert pin not in seat.seen

    seat = Seat(offline, "--script", script, "--transcript", record)
    seat.answer("PIN of the token offline", pin)
    for _ in range(2):
        for name in WITNESSES:
            seat.answer(f"{name}: type yes", "yes")
    assert seat.end() == 0, seat.seen
    assert "subject     CN=Example Root" in seat.seen
    said = offline.run("ca", "verify-ceremony", record, "--trust", f"{record}/root.crt")
    assert "it was stopped 1 times" in said
    text = Path(record, "transcript.jsonl").read_text()
    assert text.count('"how":"terminal"') == 5
    assert pin not in text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "there is no terminal to type the PIN at: give --pin-file"),
        (["--pin-file", "token/pin"], "there is no terminal for Ada to confirm at"),
        (["--pin-file", "token/pin", "--yes-by", "Eve"], "--yes-by Eve: the script names no such witness"),
        (["--pin-file", "open"], "can be read by others"),
    ],
)
def test_what_is_missing_is_said(offline: Offline, arguments: list[str], told: str) -> None:
    (offline.folder / "open").write_text("1234\n")
    (offline.folder / "open").chmod(0o644)
    script = str(offline.script(ROOT, signer="root"))
    done = subprocess.run(
        [str(KEYSTEAD), "ca", "ceremony", "--script", script, "--transcript", "record", *arguments],
        capture_output=True,
        text=True,
        cwd=offline.folder,
        env=clean_environment(offline.folder),
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr
