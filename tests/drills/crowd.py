"""Ten thousand clients that stay connected, through the front proxy that the README documents (T-58, second half).

    scripts/slowloris --clients 10000 [--seconds 60] [--rate 100]

All are connected at once, over TLS, to one nginx in front of one server; each asks again over its own kept connection, in turn, at so many
requests a second together. Passes when every request was answered with 200, 99 of 100 within a second, and no connection was lost.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.gates.sources import manual
from tests.harness import processes
from tests.harness.tls import self_signed

PATIENCE_SECONDS = 30
AT_ONCE = 50  # handshakes under way together
FRONT = re.compile(r"^```nginx\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Outcome:
    """What the real traffic saw. `held`: how many sockets are open."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    held: int = 0

    @property
    def p99(self) -> float:
        """Of the answers' times."""
        return sorted(self.seconds)[int(len(self.seconds) * 0.99)] if self.seconds else float("inf")


class Front:
    """The README's nginx, with this machine's ports and files in the places of its own."""

    def __init__(self, folder: Path, behind: int) -> None:
        self.port = processes.free_port()
        folder.mkdir(mode=0o700)
        key, self.trust = folder / "front.key", folder / "front.pem"
        self_signed(key, self.trust)
        (text,) = FRONT.findall(manual())
        for documented, ours in (
            ("listen 443 ssl", f"listen 127.0.0.1:{self.port} ssl"),
            ("/etc/nginx/tls.pem", str(self.trust)),
            ("/etc/nginx/tls.key", str(key)),
            ("127.0.0.1:8200", f"127.0.0.1:{behind}"),
        ):
            assert documented in text, documented
            text = text.replace(documented, ours)
        places = "".join(
            f"    {kind}_temp_path {folder}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        text = text.replace("http {\n", f"http {{\n    access_log off;\n{places}", 1)
        head = f"daemon off;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log warn;\nuser root;\n"
        configuration = folder / "nginx.conf"
        configuration.write_text(head + text)
        command = [processes.program("nginx"), "-p", str(folder), "-c", str(configuration)]
        self._process = subprocess.Popen(
            [*command, "-e", str(folder / "error.log")], stdin=subprocess.DEVNULL
        )
        processes.wait_for(lambda: processes.listens(self.port), 15, "nginx")

    def stop(self) -> None:
        """Stop at once."""
        self._process.terminate()
        self._process.wait(15)


class _Client:
    """One kept connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer

    @property
    def hung_up(self) -> bool:
        """Whether the other side has closed it."""
        return self._reader.at_eof() or self.writer.is_closing()

    async def ask(self, request: bytes, crowd: Outcome) -> None:
        """One request; its time, or what went wrong."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                self.writer.write(request)
                head = await self._reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: (\d+)", head)
                said = await self._reader.readexactly(int(length[1]) if length else 0)
        except (OSError, TimeoutError, EOFError) as error:
            crowd.errors.append(f"{type(error).__name__}: {error}")
            return
        crowd.seconds.append(time.monotonic() - began)
        if not head.startswith(b"HTTP/1.1 200"):
            crowd.errors.append(f"{head[:12].decode()} {said[:200]!r}")


async def gather(port: int, trust: Path, token: str, *, clients: int, seconds: float, rate: int) -> Outcome:
    """All connect and ask once; then they ask in turn, and that is what is timed."""
    crowd, arriving = Outcome(), Outcome()
    context = ssl.create_default_context(cafile=str(trust))
    turns = asyncio.Semaphore(AT_ONCE)

    async def connect() -> _Client:
        async with turns:
            made = _Client(*await asyncio.open_connection("127.0.0.1", port, ssl=context, limit=8192))
            await made.ask(request, arriving)  # who says nothing for a minute would be hung up on
        return made

    body = json.dumps({"input": "aGVsbG8="}).encode()
    head = f"POST /v1/sys/tools/hash HTTP/1.1\r\nHost: x\r\nX-Vault-Token: {token}\r\n"
    request = f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    crew = await asyncio.gather(*(connect() for _ in range(clients)))
    loop = asyncio.get_running_loop()
    asked: list[asyncio.Task[None]] = []
    began = loop.time()
    for number in range(max(int(seconds * rate), clients)):  # each at least once
        await asyncio.sleep(max(0.0, began + number / rate - loop.time()))
        if number >= clients:
            await asked[number - clients]  # its answer before, long ago
        asked.append(asyncio.create_task(crew[number % clients].ask(request, crowd)))
    await asyncio.gather(*asked)
    crowd.errors += arriving.errors
    crowd.held = sum(not client.hung_up for client in crew)
    for client in crew:
        client.writer.transport.abort()
    return crowd
