"""A DNS server for tests: answers what a test put in, on a free UDP port of the loopback interface."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dnslib import AAAA, CAA, QTYPE, RCODE, RR, TXT, A
from dnslib.server import BaseResolver, DNSLogger, DNSServer

_KINDS = {"A": A, "AAAA": AAAA, "TXT": TXT, "CAA": CAA}


class Names(BaseResolver):
    """Records by (name, type). A name that is not there is NXDOMAIN; `asked` lists the questions."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], list[Any]] = {}
        self.asked: list[tuple[str, str]] = []
        self.broken: set[str] = set()
        self.files: dict[str, Path] = {}  # TXT records that a client's hook writes, one a line
        self.address = ""

    def host(self, name: str, *addresses: str) -> str:
        """Give a name its addresses."""
        for kind in ("A", "AAAA"):
            self.records[name, kind] = [one for one in addresses if (":" in one) == (kind == "AAAA")]
        return name

    def resolve(self, request: Any, handler: object) -> Any:
        """Dnslib's hook."""
        del handler
        name, kind = str(request.q.qname).rstrip(".").lower(), QTYPE[request.q.qtype]
        self.asked.append((name, kind))
        reply = request.reply()
        if name in self.broken:
            reply.header.rcode = RCODE.SERVFAIL
            return reply
        file = self.files.get(name) if kind == "TXT" else None
        written = file.read_text().split() if file is not None and file.exists() else []
        for value in self.records.get((name, kind), []) + written:
            data = _KINDS[kind](*value) if isinstance(value, tuple) else _KINDS[kind](value)
            reply.add_answer(RR(request.q.qname, request.q.qtype, rdata=data, ttl=0))
        if not written and not any(known == name for known, _ in self.records):
            reply.header.rcode = RCODE.NXDOMAIN
        return reply


@contextmanager
def serving() -> Iterator[Names]:
    """The server, until the block ends."""
    names = Names()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = DNSServer(names, address="127.0.0.1", port=port, logger=DNSLogger("-request,-reply,-error"))
    server.start_thread()
    names.address = f"127.0.0.1:{port}"
    try:
        yield names
    finally:
        server.stop()
        server.server.server_close()
