"""What the commands say and how they end, failures first."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kms import __version__
from kms.cli import main
from tests.harness.dev import KEYSTEAD, DevServer, clean_environment


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """One command in a clean environment."""
    return subprocess.run(
        [str(KEYSTEAD), *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=clean_environment(folder, **environment),
        timeout=120,
        check=False,
    )


def _file(folder: Path, name: str, text: str, mode: int = 0o600) -> str:
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    return str(path)


Here = Callable[..., tuple[int, str]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    """A command in this process, which is quicker: (exit code, everything printed)."""
    monkeypatch.chdir(tmp_path)
    for name in ("BAO_ADDR", "VAULT_ADDR", "BAO_TOKEN", "VAULT_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["keystead", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out + printed.err

    return call


REFUSED: dict[str, tuple[list[str], int, str]] = {
    "no data folder": (["dev"], 2, "--data-dir"),
    "listen on a name": (["dev", "--data-dir", "d", "--listen", "localhost:1"], 1, "IP address"),
    "listen to the world": (["dev", "--data-dir", "d", "--listen", "0.0.0.0:8200"], 1, "loopback only"),
    "two tokens": (["dev", "--data-dir", "d", "--root-token", "a", "--root-token-file", "b"], 1, "not both"),
    "token with a space": (["dev", "--data-dir", "d", "--root-token", "a b"], 1, "no spaces"),
    "empty token": (["dev", "--data-dir", "d", "--root-token", ""], 1, "printable ASCII"),
    "token file that others read": (["dev", "--data-dir", "d", "--root-token-file", "OPEN"], 1, "chmod 600"),
    "no token file": (["dev", "--data-dir", "d", "--root-token-file", "nosuch"], 1, "cannot read"),
    "data folder that others enter": (["dev", "--data-dir", "WIDE"], 1, "chmod 700"),
    "too many workers": (["dev", "--data-dir", "d", "--workers", "1000"], 2, "--workers"),
    "no configuration": (["serve", "--config", "nosuch.toml"], 1, "cannot read the configuration"),
    "bad configuration": (["serve", "--config", "BAD"], 1, "wrokers"),
    "init with a bad configuration": (["init", "--config", "BAD"], 1, "wrokers"),
    "doctor of nothing": (["doctor"], 1, "--config FILE or --data-dir DIR"),
    "status of nobody": (["status", "--address", "http://127.0.0.1:1"], 1, "cannot reach"),
    "status of no address": (["status", "--address", "ftp://x"], 1, "http://"),
    "rotation without a token": (["rotate-root"], 1, "BAO_TOKEN"),
    "recovery from a theft without a token": (["recover-compromise"], 1, "BAO_TOKEN"),
    "audit of nothing": (["audit", "verify", "nosuch"], 2, "nosuch"),
    "audit of another folder": (["audit", "verify", "."], 1, "FAILED"),
    "no such command": (["destroy"], 2, "No such command"),
}


@pytest.mark.parametrize(("arguments", "code", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_with_a_sentence(
    here: Here, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    (tmp_path / "wide").mkdir(mode=0o755)
    (tmp_path / "wide").chmod(0o755)
    made = {
        "OPEN": _file(tmp_path, "open", "token\n", 0o644),
        "BAD": _file(tmp_path, "bad.toml", 'wrokers = 1\nrecovery = "none"\n'),
        "WIDE": str(tmp_path / "wide"),
    }
    ended, printed = here(*[made.get(argument, argument) for argument in arguments])
    assert ended == code
    assert words in printed
    assert not (tmp_path / "d" / "token").exists()


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["dev"],
        ["init"],
        ["serve"],
        ["status"],
        ["doctor"],
        ["audit"],
        ["audit", "verify"],
        ["rotate-root"],
        ["recover-compromise"],
    ],
)
def test_help(here: Here, command: list[str]) -> None:
    ended, printed = here(*command, "--help")
    assert ended == 0
    assert printed.startswith("Usage: keystead")


def test_version(tmp_path: Path) -> None:
    done = run(tmp_path, "version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"keystead {__version__}\n", "")


def test_errors_are_one_line(tmp_path: Path) -> None:
    done = run(tmp_path, "serve", "--config", "nosuch")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: cannot read the configuration")
    assert len(done.stderr.splitlines()) == 1


def test_status(server: DevServer, tmp_path: Path) -> None:
    done = run(tmp_path, "status", BAO_ADDR=server.address)
    assert done.returncode == 0
    assert "pkcs11" in done.stdout
    found = json.loads(run(tmp_path, "status", "--format", "json", "--address", server.address).stdout)
    assert (found["sealed"], found["initialized"], found["type"]) == (False, True, "pkcs11")


def test_audit_verify(server: DevServer, tmp_path: Path) -> None:
    with server.api() as api:
        api.ok("GET", "auth/token/lookup-self")
    done = run(tmp_path, "audit", "verify", str(server.audit))
    assert (done.returncode, "key not pinned" in done.stdout) == (3, True), done.stdout
    found = json.loads(run(tmp_path, "audit", "verify", str(server.audit), "--format", "json").stdout)
    assert (found["ok"], found["exit_code"], found["pinned"]) == (True, 3, False)


def test_doctor(server: DevServer, tmp_path: Path) -> None:
    done = run(tmp_path, "doctor", "--data-dir", str(server.data))
    assert done.returncode == 0, done.stdout
    assert "simulated: its files and PIN are the keys" in done.stdout
    assert "0 wrong" in done.stdout


def test_doctor_names_what_is_wrong(server: DevServer, tmp_path: Path) -> None:
    text = (server.data / "keystead.toml").read_text()
    pin = _file(tmp_path, "pin", (server.data / "token" / "pin").read_text(), 0o644)
    text = text.replace(str(server.data / "token" / "pin"), pin)
    text = text.replace('"keystead"', '"no such token"').replace(str(server.audit), str(tmp_path / "log"))
    (tmp_path / "log").mkdir(mode=0o755)
    (tmp_path / "log").chmod(0o755)
    done = run(tmp_path, "doctor", "--config", _file(tmp_path, "c.toml", text), "--format", "json")
    assert done.returncode == 1
    found = {finding["check"]: finding for finding in json.loads(done.stdout)}
    for check in ("secret files", "token", "audit folder"):
        assert found[check]["verdict"] == "wrong"
        assert found[check]["mend"]
    assert found["storage folder"]["verdict"] == "ok"


def test_doctor_of_a_bad_configuration(tmp_path: Path) -> None:
    done = run(tmp_path, "doctor", "--config", _file(tmp_path, "c.toml", "x = 1"))
    assert done.returncode == 1
    assert "configuration" in done.stdout


def test_no_environment_of_others_changes_the_server(tmp_path: Path) -> None:
    """gunicorn, a2wsgi and OpenSSL read variables; none of them reaches the processes."""
    running = DevServer(
        tmp_path / "s",
        workers=1,
        environment={
            "GUNICORN_CMD_ARGS": "--bind 0.0.0.0:1",
            "SCRIPT_NAME": "/v1",
            "WEB_CONCURRENCY": "7",
            "FORWARDED_ALLOW_IPS": "*",
            "SSLKEYLOGFILE": str(tmp_path / "keys"),
        },
    )
    try:
        running.start()
        with running.api() as api:
            api.ok("GET", "auth/token/lookup-self")
        assert len(running.tree()) == 4  # supervisor, arbiter, one worker, jobs
    finally:
        running.stop()
    assert not (tmp_path / "keys").exists()
