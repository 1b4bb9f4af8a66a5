"""Audit devices of a production server: syslog, what the operator allows, restarts, and no section at all."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.dev import ConfiguredServer
from tests.harness.processes import wait_for
from tests.sys.sides import Side, device


@pytest.fixture(scope="module")
def production(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[ConfiguredServer, Path, socket.socket]]:
    """`keystead serve` with a syslog of ours, raw lines allowed, and two workers."""
    folder = tmp_path_factory.mktemp("production")
    logs = folder / "logs"
    logs.mkdir(mode=0o700)
    syslog = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    syslog.bind(str(folder / "syslog"))
    syslog.settimeout(30)
    section = (
        f'\n[audit_devices]\nfolders = ["{logs}"]\nsyslog = "{folder / "syslog"}"\n'
        "allow_raw = true\nallow_prefix = true\n"
    )

    def change(text: str) -> str:
        head, _, _ = text.partition("\n[audit_devices]")
        return head + section

    running = ConfiguredServer(folder / "server", workers=2)
    running.prepare(change)
    running.start()
    yield running, logs, syslog
    running.stop()
    syslog.close()


def test_syslog(production: tuple[ConfiguredServer, Path, socket.socket]) -> None:
    server, _, syslog = production
    side = Side(server.address, server.token)
    side.data("POST", "sys/audit/sys", {"type": "syslog", "options": {"facility": "LOCAL3", "tag": "vault"}})
    try:
        line = syslog.recv(65_536)
        assert re.match(rb"<158>vault\[\d+\]: \{", line), line[:60]
        side.data("GET", "sys/mounts")
        lines = [json.loads(syslog.recv(262_144).partition(b": ")[2]) for _ in range(2)]
        assert [(line["type"], line["request"]["path"]) for line in lines] == [
            ("request", "sys/mounts"),
            ("response", "sys/mounts"),
        ]
    finally:
        side.data("DELETE", "sys/audit/sys")
        assert side.ask("POST", "sys/audit/sys", {"type": "syslog", "options": {"facility": "x"}})[0] == 400
        side.close()


def test_raw_lines_and_prefixes_where_the_operator_allows_them(
    production: tuple[ConfiguredServer, Path, socket.socket],
) -> None:
    server, logs, _ = production
    side = Side(server.address, server.token)
    path = logs / "raw.log"
    with device(side, path, options={"log_raw": "true", "prefix": "@cee: ", "mode": "0640"}):
        side.data("POST", "sys/tools/hash", {"input": "Y2xlYXI="})
    side.close()
    text = path.read_text()
    assert all(line.startswith("@cee: {") for line in text.splitlines())
    assert "Y2xlYXI=" in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_devices_outlive_a_restart_and_files_are_opened_anew_at_sighup(
    production: tuple[ConfiguredServer, Path, socket.socket],
) -> None:
    """Logrotate's way: rename, SIGHUP, and the next lines are in a new file; none is lost."""
    server, logs, _ = production
    side = Side(server.address, server.token)
    path, moved = logs / "rotated.log", logs / "rotated.log.1"
    side.data("POST", "sys/audit/rotated", {"type": "file", "options": {"file_path": str(path)}})
    try:
        before = secrets.token_hex(8)
        side.ask("POST", f"sys/tools/hash/{before}", {})
        path.rename(moved)
        os.kill(server.pid, signal.SIGHUP)
        marks: list[str] = []

        def opened() -> bool:
            marks.append(secrets.token_hex(8))
            assert side.ask("POST", f"sys/tools/hash/{marks[-1]}", {}, Connection="close")[0] == 400
            return path.exists() and marks[-1] in path.read_text()

        wait_for(opened, 60, "a new file")
        both = moved.read_text() + path.read_text()
        assert all(both.count(f'/hash/{mark}"') == 2 for mark in [before, *marks])
        server.stop()
        server.start()
        again = secrets.token_hex(8)
        side.ask("POST", f"sys/tools/hash/{again}", {})
        assert path.read_text().count(f'/hash/{again}"') == 2
    finally:
        side.data("DELETE", "sys/audit/rotated")
        side.close()


def test_without_the_section_no_place_is_allowed(tmp_path: Path) -> None:
    server = ConfiguredServer(tmp_path / "server", workers=1)
    server.prepare(lambda text: text.partition("\n[audit_devices]")[0] + "\n")
    server.start()
    side = Side(server.address, server.token)
    try:
        for body in (
            {"type": "file", "options": {"file_path": str(tmp_path / "x.log")}},
            {"type": "socket", "options": {"address": "127.0.0.1:1"}},
            {"type": "http", "options": {"uri": "http://127.0.0.1:1"}},
        ):
            status, answer = side.ask("POST", "sys/audit/x", body)
            assert status == 400, answer
            assert "configuration" in answer["errors"][0]
    finally:
        side.close()
        server.stop()
