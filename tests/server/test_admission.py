"""A worker that stops accepting serves what it has accepted, at whatever turn of its loop it stops."""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from kms.server.admission import Admission, Place
from kms.shared import Shared
from tests.harness.tls import self_signed

TURNS = 12


class _Hello(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        transport.write(b"hello")
        transport.close()


def _greeting(address: tuple[str, int], trust: Path | None) -> bytes:
    with socket.create_connection(address, timeout=10) as plain:
        if trust is None:
            return plain.recv(5)
        context = ssl.create_default_context(cafile=str(trust))
        context.check_hostname = False
        with context.wrap_socket(plain) as wrapped:
            return wrapped.recv(5)


async def _closed_after(turns: int, tls: dict[str, Any], trust: Path | None) -> bytes:
    """What a client is told by a worker that accepts, and stops `turns` turns after the client was there."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
        place = Place(listener, _Hello, tls)
        first, second = (Admission([place], 100, Shared()) for _ in range(2))
        await first.open()
        client = asyncio.get_running_loop().run_in_executor(None, _greeting, listener.getsockname(), trust)
        select.select([listener], [], [], 10)  # the client is there, and the loop has not turned yet
        for _ in range(turns):
            await asyncio.sleep(0)
        first.close()
        await second.open()  # another worker, who takes what the first has not
        greeting = await client
        second.close()
        await asyncio.sleep(0)
        return greeting


@pytest.mark.parametrize("turns", range(TURNS))
def test_no_accepted_connection_is_dropped(turns: int) -> None:
    assert asyncio.run(_closed_after(turns, {}, None)) == b"hello"


@pytest.mark.parametrize("turns", range(TURNS))
def test_no_accepted_tls_connection_is_dropped(turns: int, tmp_path: Path) -> None:
    key, trust = tmp_path / "key.pem", tmp_path / "trust.pem"
    self_signed(key, trust)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trust, key)
    assert asyncio.run(_closed_after(turns, {"ssl": context}, trust)) == b"hello"
