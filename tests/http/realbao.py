"""A real OpenBao dev server, the arbiter of the wire."""

from __future__ import annotations

import http.client
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.harness.dev import clean_environment
from tests.harness.processes import free_port, wait_for

BAO = Path(sys.prefix) / "bin" / "bao"


@contextmanager
def real_bao(folder: Path) -> Iterator[int]:
    """Yields the port; root token "root", a transit mount with a key `a`."""
    port = free_port()
    command = [str(BAO), "server", "-dev", "-dev-no-store-token", "-dev-root-token-id=root"]
    process = subprocess.Popen(
        [*command, f"-dev-listen-address=127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        cwd=folder,
        env=clean_environment(folder),
    )
    try:
        wait_for(lambda: _status(port, "GET", "/v1/sys/health") == 200, 30, "bao")
        _status(port, "POST", "/v1/sys/mounts/transit", b'{"type":"transit"}')
        _status(port, "POST", "/v1/transit/keys/a")
        yield port
    finally:
        process.terminate()
        process.wait(20)


def exchange(
    port: int, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
) -> tuple[int, dict[str, str], bytes]:
    """(status, headers in lower case, body) of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body=body or None, headers=headers or {})
        response = connection.getresponse()
        return response.status, {n.lower(): v for n, v in response.getheaders()}, response.read()
    finally:
        connection.close()


def _status(port: int, method: str, path: str, body: bytes = b"") -> int:
    with suppress(OSError):
        return exchange(port, method, path, {"X-Vault-Token": "root"}, body)[0]
    return 0
