"""The same requests against Keystead and OpenBao on this machine, side by side.

What is compared is the CPU time that the server spends on a request: user and system time of its whole
process tree, from /proc, divided by the requests that the load generator counted. Requests per second and
latency are printed too, but they depend on who else uses the machine. Both servers write their audit log to
a file, and both are asked with a token that is not root and has one policy of two rules.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table

from tests.drills import manycertificates, wrk
from tests.drills.peer import Peer
from tests.harness import processes
from tests.harness.api import Api
from tests.harness.dev import DevServer

MESSAGE = base64.b64encode(bytes(64)).decode()
POLICY = """
path "transit/*" { capabilities = ["create", "update"] }
path "pki/issue/*" { capabilities = ["update"] }
"""
NAME = "host.svc.example.test"


class Server(Protocol):
    """What the bench needs of a server."""

    address: str
    token: str

    @property
    def pid(self) -> int:
        """The root of its process tree."""
        ...


@dataclass(frozen=True)
class Row:
    """One kind of request.

    Args:
        body: may ask the server first, for a ciphertext to decrypt.
        like_for_like: False where our key is in the HSM and the peer's, which has no such keys, in memory.
    """

    name: str
    path: str
    body: Callable[[Api], dict[str, Any]]
    like_for_like: bool = True


def _ciphertext(api: Api) -> dict[str, Any]:
    return {"ciphertext": api.ok("POST", "transit/encrypt/aes", {"plaintext": MESSAGE})["ciphertext"]}


def _issue(_api: Api) -> dict[str, Any]:
    return {"common_name": NAME, "ttl": "1h"}


ROWS = [
    Row("encrypt", "transit/encrypt/aes", lambda _: {"plaintext": MESSAGE}),
    Row("decrypt", "transit/decrypt/aes", _ciphertext),
    Row(
        "encrypt, batch of 400",
        "transit/encrypt/aes",
        lambda _: {"batch_input": [{"plaintext": MESSAGE}] * 400},
    ),
    Row("sign ecdsa-p256", "transit/sign/ec", lambda _: {"input": MESSAGE}),
    Row(
        "sign ecdsa-p256 in the HSM", "transit/sign/ec-hsm", lambda _: {"input": MESSAGE}, like_for_like=False
    ),
    Row("sign ed25519", "transit/sign/ed", lambda _: {"input": MESSAGE}),
    Row("sign ed25519 in the HSM", "transit/sign/ed-hsm", lambda _: {"input": MESSAGE}, like_for_like=False),
    Row("sign rsa-2048", "transit/sign/rsa", lambda _: {"input": MESSAGE}),
    Row("issue, stored", "pki/issue/stored", _issue),
    Row("issue, not stored", "pki/issue/unstored", _issue),
]


@dataclass
class Figures:
    """What one server did on one row."""

    cpu_us: float = 0
    per_second: float = 0
    p50_ms: float = 0
    p99_ms: float = 0
    requests: int = 0


@dataclass
class Line:
    """One row of the answer."""

    name: str
    ours: Figures
    theirs: Figures
    ratio: float
    like_for_like: bool = True


def prepare(api: Api) -> str:
    """The same keys, roles and policy on both; returns the token that asks."""
    api.ok("POST", "sys/mounts/transit", {"type": "transit"})
    api.ok("POST", "sys/mounts/pki", {"type": "pki", "config": {"max_lease_ttl": "87600h"}})
    for name, kind in (("aes", "aes256-gcm96"), ("ec", "ecdsa-p256"), ("ed", "ed25519"), ("rsa", "rsa-2048")):
        # The peer knows no protection, ignores it, and keeps each key in its memory.
        api.ok("POST", f"transit/keys/{name}", {"type": kind, "protection": "software"})
        if name in {"ec", "ed"}:
            api.ok("POST", f"transit/keys/{name}-hsm", {"type": kind, "protection": "hsm"})
    api.ok(
        "POST", "pki/root/generate/internal", {"common_name": "Bench Root", "key_type": "ec", "ttl": "8760h"}
    )
    role = {
        "allowed_domains": "svc.example.test",
        "allow_subdomains": True,
        "key_type": "ec",
        "key_bits": 256,
    }
    api.ok("POST", "pki/roles/stored", role | {"no_store": False})
    api.ok("POST", "pki/roles/unstored", role | {"no_store": True})
    api.ok("POST", "sys/policies/acl/bench", {"policy": POLICY})
    answer = api.post("auth/token/create", {"policies": ["bench"], "no_default_policy": True, "ttl": "24h"})
    token: str = answer.json["auth"]["client_token"]
    return token


def load(server: Server, token: str, row: Row, seconds: int, folder: Path) -> dict[str, float]:
    """Send the row's request for so long."""
    with Api(server.address, server.token) as api:
        body = row.body(api)
    return wrk.load(server.address, token, row.path, body, seconds, folder)


def measure(server: Server, token: str, row: Row, seconds: int, folder: Path) -> Figures:
    """One warm-up, then the run that counts."""
    load(server, token, row, 1, folder)
    before = processes.cpu_seconds(server.pid)
    counted = load(server, token, row, seconds, folder)
    used = processes.cpu_seconds(server.pid) - before
    return Figures(
        cpu_us=used / counted["requests"] * 1e6,
        per_second=counted["requests"] / counted["seconds"],
        p50_ms=counted["p50_ms"],
        p99_ms=counted["p99_ms"],
        requests=int(counted["requests"]),
    )


def table(lines: list[Line], peer: str) -> Table:
    """The figures as people read them."""
    shown = Table(title=f"server CPU per request, Keystead beside {peer}")
    shown.add_column("request")
    for heading in (
        "ours",
        "peer",
        "peer / ours",
        "ours/s",
        "peer/s",
        "p50 ours",
        "p50 peer",
        "p99 ours",
        "p99 peer",
    ):
        shown.add_column(heading, justify="right")
    for line in lines:
        ours, theirs = line.ours, line.theirs
        style = "green" if line.ratio >= 1 else "red" if line.like_for_like else "yellow"
        shown.add_row(
            line.name,
            f"{ours.cpu_us:,.0f} us",
            f"{theirs.cpu_us:,.0f} us",
            f"[{style}]{line.ratio:.2f}[/]",
            f"{ours.per_second:,.0f}",
            f"{theirs.per_second:,.0f}",
            *(f"{value:.1f} ms" for value in (ours.p50_ms, theirs.p50_ms, ours.p99_ms, theirs.p99_ms)),
        )
    return shown


def run(seconds: int, workers: int, wanted: str, console: Console) -> dict[str, Any]:
    """Start both, ask both, stop both."""
    rows = [row for row in ROWS if wanted in row.name]
    with tempfile.TemporaryDirectory(prefix="keystead-bench-") as name:
        folder = Path(name)
        ours, theirs = DevServer(folder / "ours", workers=workers), Peer(folder / "peer")
        lines: list[Line] = []
        try:
            ours.start()
            theirs.start()
            servers: tuple[Server, Server] = (ours, theirs)
            tokens = []
            for server in servers:
                with Api(server.address, server.token) as api:
                    tokens.append(prepare(api))
            for row in rows:
                console.print(f"[cyan]==>[/] {row.name}")
                figures = [
                    measure(server, token, row, seconds, folder)
                    for server, token in zip(servers, tokens, strict=True)
                ]
                ratio = figures[1].cpu_us / max(figures[0].cpu_us, 0.001)
                lines.append(Line(row.name, figures[0], figures[1], ratio, row.like_for_like))
            memory = {
                "ours": processes.resident_bytes(ours.pid),
                "peer": processes.resident_bytes(theirs.pid),
            }
            peer = theirs.name
        finally:
            ours.stop()
            theirs.stop()
    console.print(table(lines, peer))
    console.print(f"memory after the runs: ours {memory['ours'] >> 20} MiB, peer {memory['peer'] >> 20} MiB")
    return {
        "peer": peer,
        "seconds": seconds,
        "workers": workers,
        "memory": memory,
        "rows": [asdict(x) for x in lines],
    }


def devices(seconds: int, workers: int, wanted: str, console: Console) -> dict[str, list[float]]:
    """Server CPU per request in microseconds, with no audit device, one that is a file, and two: row -> figures."""
    found: dict[str, list[float]] = {row.name: [] for row in ROWS if wanted in row.name}
    with tempfile.TemporaryDirectory(prefix="keystead-bench-") as name:
        server = DevServer(Path(name) / "ours", workers=workers)
        server.start()
        try:
            with server.api() as api:
                token = prepare(api)
                for count in range(3):
                    if count:
                        options = {"file_path": str(server.data / "devices" / f"{count}.log")}
                        api.ok("POST", f"sys/audit/d{count}", {"type": "file", "options": options})
                    for row in ROWS:
                        if row.name in found:
                            figures = measure(server, token, row, seconds, Path(name))
                            found[row.name].append(figures.cpu_us)
        finally:
            server.stop()
    shown = Table(title="server CPU per request, with so many audit devices (files) beside the log")
    for heading in ("request", "none", "one", "two"):
        shown.add_column(heading, justify="left" if heading == "request" else "right")
    for name, figures_of in found.items():
        shown.add_row(name, *(f"{value:,.0f} us" for value in figures_of))
    console.print(shown)
    return found


def main() -> int:
    """Command line of scripts/bench."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seconds", type=int, default=8, help="length of each measured run")
    parser.add_argument("--workers", type=int, default=2, help="worker processes of Keystead")
    parser.add_argument("--rows", default="", help="only rows whose name holds this text")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument(
        "--certificates",
        type=int,
        default=0,
        help="also what so many stored certificates cost, a tenth of them revoked (scripts/many-certificates)",
    )
    parser.add_argument(
        "--devices", action="store_true", help="instead: what audit devices cost, without a peer"
    )
    given = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 160)
    if given.devices:
        devices(given.seconds, given.workers, given.rows, console)
        return 0
    figures = run(given.seconds, given.workers, given.rows, console)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")
    slower = [line["name"] for line in figures["rows"] if line["ratio"] < 1 and line["like_for_like"]]
    if slower:
        sys.stderr.write(f"more CPU than the peer: {', '.join(slower)}\n")
    wrong: list[str] = []
    if given.certificates:
        with tempfile.TemporaryDirectory(prefix="keystead-bench-") as name:
            wrong = manycertificates.drill(
                Path(name), given.certificates, given.certificates // 10, given.workers
            )
    for line in wrong:
        sys.stderr.write(line + "\n")
    return 1 if slower or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
