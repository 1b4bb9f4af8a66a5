"""dev, init and serve over the real parts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.test_transcripts import run
from tests.conftest import ServerFactory
from tests.harness import processes
from tests.harness.api import Api
from tests.harness.bao import Bao
from tests.harness.dev import KEYSTEAD, DevServer, clean_environment


def _lines(running: DevServer) -> list[str]:
    return running.output.read_text().splitlines()


def test_dev_prints_what_a_newcomer_needs(fresh_server: ServerFactory) -> None:
    running = fresh_server(workers=1)
    lines = _lines(running)
    assert f"root token: {running.token}" in lines
    for name in ("BAO_ADDR", "VAULT_ADDR"):
        assert f"export {name}={running.address}" in lines
    for name in ("BAO_TOKEN", "VAULT_TOKEN"):
        assert f"export {name}={running.token}" in lines
    assert sum(line.startswith("custodian share: ") for line in lines) == 1
    assert lines[-1] == f"ready: {running.address}"
    assert {"token", "storage", "audit"} <= {path.name for path in running.data.iterdir() if path.is_dir()}
    assert running.errors.read_text() == ""
    assert all(not path.stat().st_mode & 0o077 for path in running.data.rglob("*"))


def test_a_second_start_carries_on(fresh_server: ServerFactory) -> None:
    running = fresh_server(workers=1)
    with running.api() as api:
        api.ok("POST", "sys/mounts/transit", {"type": "transit"})
        api.ok("POST", "transit/keys/app")
        ciphertext = api.post("transit/encrypt/app", {"plaintext": "aGk="}).json["data"]["ciphertext"]
    assert running.stop() == 0
    running.start()
    with running.api() as api:
        assert api.post("transit/decrypt/app", {"ciphertext": ciphertext}).json["data"]["plaintext"] == "aGk="
    assert sum(line.startswith("custodian share: ") for line in _lines(running)) == 1
    assert "root token: as printed at the first start" not in _lines(running)


def test_another_root_token_at_a_second_start_is_refused(fresh_server: ServerFactory) -> None:
    running = fresh_server(workers=1)
    running.stop()
    port = str(processes.free_port())
    done = run(
        running.folder,
        "dev",
        "--data-dir",
        str(running.data),
        "--listen",
        f"127.0.0.1:{port}",
        "--root-token",
        "hvs.other",
    )
    assert done.returncode == 1
    assert "initialised with another root token" in done.stderr


def test_dev_makes_a_token_of_its_own(tmp_path: Path) -> None:
    port = processes.free_port()
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(
            [str(KEYSTEAD), "dev", "--data-dir", "d", "--listen", f"127.0.0.1:{port}", "--workers", "1"],
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
            env=clean_environment(tmp_path),
            start_new_session=True,
        )
    try:
        processes.wait_for(lambda: "ready:" in (tmp_path / "out").read_text(), 60, "ready")
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    (line,) = [x for x in (tmp_path / "out").read_text().splitlines() if x.startswith("root token: ")]
    assert line.removeprefix("root token: ").startswith("hvs.")


def test_no_init_waits_for_the_api(fresh_server: ServerFactory, tmp_path: Path) -> None:
    running = fresh_server(start=False, workers=1, arguments=["--no-init"])
    running.answers = lambda: True  # type: ignore[method-assign]  # health says 501 here
    running.start()
    assert any("not initialised" in line for line in _lines(running))
    assert run(tmp_path, "status", "--address", running.address).returncode == 2
    bao = Bao(running.address, "", tmp_path)
    made = json.loads(bao("operator", "init", "-format=json", "-key-shares=3", "-key-threshold=2"))
    assert len(made["unseal_keys_b64"]) == 3
    with Api(running.address, made["root_token"]) as api:
        api.ok("GET", "auth/token/lookup-self")
    assert run(tmp_path, "status", "--address", running.address).returncode == 0


def test_the_token_of_a_file_is_in_no_command_line(server: DevServer) -> None:
    """T-61: `ps` shows arguments and, to the same user, environments."""
    pin = (server.data / "token" / "pin").read_text().strip()
    for process in server.tree():
        for name in ("cmdline", "environ"):
            shown = Path(f"/proc/{process.pid}/{name}").read_bytes()
            assert server.token.encode() not in shown
            assert pin.encode() not in shown


def test_init_and_serve(tmp_path: Path) -> None:
    """The production path, on a token of its own."""
    config = _production(tmp_path)
    early = run(tmp_path, "init", "--config", str(config), "--shares", "2", "--threshold", "3")
    assert early.returncode == 1
    made = run(
        tmp_path, "init", "--config", str(config), "--shares", "5", "--threshold", "3", "--format", "json"
    )
    assert made.returncode == 0, made.stderr
    answer = json.loads(made.stdout)
    assert len(answer["recovery_keys_base64"]) == 5
    again = run(tmp_path, "init", "--config", str(config))
    assert again.returncode == 1
    assert "already initialized" in again.stderr
    _serve_and_rotate(tmp_path, config, answer["root_token"])


def _production(folder: Path) -> Path:
    """A configuration as an operator would write it, around a token that somebody made before."""
    seed = DevServer(folder / "seed", workers=1)
    seed.start()
    seed.stop()
    text = (seed.data / "keystead.toml").read_text()
    for name in ("storage", "audit"):
        text = text.replace(str(seed.data / name), str(folder / name))
    text = text.replace(f":{seed.port}", f":{processes.free_port()}").replace("workers = 1", "workers = 2")
    (folder / "keystead.toml").write_text(text)
    return folder / "keystead.toml"


def _serve_and_rotate(folder: Path, config: Path, token: str) -> None:
    address = "http://" + config.read_text().split('"')[1]
    with (folder / "out").open("wb") as out:
        process = subprocess.Popen(
            [str(KEYSTEAD), "serve", "--config", str(config)],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=clean_environment(folder),
            start_new_session=True,
        )
    try:
        processes.wait_for(lambda: f"ready: {address}" in (folder / "out").read_text(), 60, "ready")
        rotated = run(folder, "rotate-root", "--format", "json", BAO_ADDR=address, BAO_TOKEN=token)
        assert rotated.returncode == 0, rotated.stderr
        assert json.loads(rotated.stdout)["state"] == "complete"
        denied = run(folder, "rotate-root", BAO_ADDR=address, BAO_TOKEN="hvs.nobody")
        assert denied.returncode == 1
        assert "permission denied" in denied.stderr
        os.kill(process.pid, signal.SIGHUP)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert token not in (folder / "out").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_writes_the_last_checkpoint(fresh_server: ServerFactory, number: signal.Signals) -> None:
    running = fresh_server(workers=2)
    with running.api() as api:
        for _ in range(5):
            api.ok("GET", "auth/token/lookup-self")
    os.kill(running.pid, number)
    processes.wait_for(lambda: not running.tree(), 20, "the end")
    found = json.loads(run(running.folder, "audit", "verify", str(running.audit), "--format", "json").stdout)
    assert found["ok"], found
    assert found["uncovered"] == 0
