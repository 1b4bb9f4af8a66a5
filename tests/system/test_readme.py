"""Every command of the README and the guides runs: their blocks in order, in one shell, against a live server."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ServerFactory
from tests.gates.sources import manual
from tests.harness.dev import KEYSTEAD

BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Blocks that other tests run, by their first line.
ELSEWHERE = {
    "scripts/demo": "tests/system/test_demo.py",
    "scripts/test": "the run that you are looking at",
    "bao write -f sys/hsm/tokens/second": "tests/system/test_tokens.py",
    'export PATH="$PWD/.venv/bin:$PATH"': "tests/conftest.py starts each server with this command",
}
# What the blocks must print, so that a command that does nothing is noticed.
PRINTED = (
    "card 4711",
    "battery staple",
    "a large file",
    "complete",
    "Verified OK",
    "billing.pem: OK",
    "Serial Number",
    "IP Address:127.0.0.1",
    "billing.pem: revoked",
    "/crl/shard/",
    "ssh-ed25519-cert-v01@openssh.com user certificate",
    "not let in any more",
    "3 of 3 steps done",
    "permission denied",
    "complete to",
    "keystead 0.",
)


def blocks() -> list[str]:
    return BLOCK.findall(manual())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_commands_of_the_readme_run(fresh_server: ServerFactory, tmp_path: Path) -> None:
    server = fresh_server(workers=2)
    script = ["set -euo pipefail"]
    for block in blocks():
        first = block.splitlines()[0]
        if first not in ELSEWHERE:
            script += [f"echo '### {first[:40].replace(chr(39), '')}'", block]
    environment = {
        "PATH": f"{KEYSTEAD.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "KEYSTEAD_DATA": str(server.data),
        "ACME_HTTP_PORT": str(server.acme_http_port),
        **dict.fromkeys(("BAO_ADDR", "VAULT_ADDR"), server.address),
        **dict.fromkeys(("BAO_TOKEN", "VAULT_TOKEN"), server.token),
    }
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for text in PRINTED:
        assert text in done.stdout + done.stderr, text


def test_blocks_that_run_elsewhere_are_there() -> None:
    firsts = {block.splitlines()[0] for block in blocks()}
    assert set(ELSEWHERE) <= firsts
    assert len(firsts) >= 12


def test_start_command_is_the_one_that_tests_use() -> None:
    start = next(block for block in blocks() if "keystead dev" in block)
    assert re.search(r"keystead dev --listen \S+ --data-dir \S+$", start, re.MULTILINE)
