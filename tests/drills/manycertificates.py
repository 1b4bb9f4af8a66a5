"""Many stored certificates, a tenth of them revoked: do issuing, revoking, a start or memory get dearer with them?

Certificates are issued and revoked over the HTTP API, as anybody does it. Then the same requests go to this server and
to an empty one, in turn, block by block, so that what else the machine does falls on both. Both are stopped and started;
the shortest start counts. Last, sampled revoked certificates must be in the CRL shard that they name, and OCSP say so.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from tests.drills import wrk
from tests.harness import processes
from tests.harness.api import Api
from tests.harness.dev import DevServer

MOUNT = "many"
SHARDS = 128
CALLERS = 4
STARTS = 3
BLOCKS, BLOCK = 6, 50
PORTION_SECONDS = 20
SAMPLED = 50
# Costs that grew with the certificates would grow a hundredfold; this is what a busy machine may add.
ALLOWED_DEARER = 1.5
ALLOWED_MS = 1.0
ALLOWED_SLOWER_START = 1.0
ALLOWED_MIB = 64


@dataclass
class Figures:
    """What one server showed."""

    name: str
    certificates: int = 0
    revoked: int = 0
    issue_ms: list[float] = field(default_factory=list)
    revoke_ms: list[float] = field(default_factory=list)
    shard_ms: list[float] = field(default_factory=list)
    issue_cpu: float = 0.0
    revoke_cpu: float = 0.0
    start_seconds: float = 0.0
    started_mib: float = 0.0
    worked_mib: float = 0.0

    def line(self) -> str:
        """A row of the table."""
        each = BLOCKS * BLOCK
        return (
            f"{self.name:<8} {self.certificates:>9,} stored {self.revoked:>8,} revoked   "
            f"issue {statistics.median(self.issue_ms):6.2f} ms, {self.issue_cpu / each * 1e6:6.0f} us CPU   "
            f"revoke {statistics.median(self.revoke_ms):6.2f} ms, {self.revoke_cpu / each * 1e6:6.0f} us CPU   "
            f"next CRL shard {statistics.median(self.shard_ms):6.2f} ms   start {self.start_seconds:5.2f} s   "
            f"memory {self.started_mib:4.0f} MiB at the start, {self.worked_mib:4.0f} after"
        )


def prepare(server: DevServer) -> x509.Certificate:
    """A CA with shards."""
    with server.api() as api:
        api.ok("POST", f"sys/mounts/{MOUNT}", {"type": "pki", "config": {"max_lease_ttl": "8760h"}})
        root = {"common_name": "Many Root", "key_type": "ec", "ttl": "8760h"}
        made = api.ok("POST", f"{MOUNT}/root/generate/internal", root)
        api.ok(
            "POST", f"{MOUNT}/config/urls", {"crl_distribution_points": f"{server.address}/v1/{MOUNT}/crl"}
        )
        api.ok("POST", f"{MOUNT}/config/crl", {"shards": SHARDS, "auto_rebuild": True})
        role = {"allow_any_name": True, "key_type": "ec", "max_ttl": "720h", "ttl": "720h"}
        api.ok("POST", f"{MOUNT}/roles/web", role)
    return x509.load_pem_x509_certificate(made["certificate"].encode())


def issue(api: Api, number: int) -> dict[str, Any]:
    """One certificate."""
    return api.ok("POST", f"{MOUNT}/issue/web", {"common_name": f"host-{number}.example.test"})


def revoke(api: Api, issued: dict[str, Any]) -> None:
    """And its end."""
    api.ok("POST", f"{MOUNT}/revoke", {"serial_number": issued["serial_number"]})


def store(server: DevServer, certificates: int, folder: Path) -> int:
    """Issue at least so many, as fast as they are answered; how many it were."""
    made = 0
    folder.mkdir()
    body = {"common_name": f"host-{wrk.NUMBER}.example.test"}
    while made < certificates:
        seconds = PORTION_SECONDS if certificates - made > 100 * PORTION_SECONDS else 1
        made += int(
            wrk.load(server.address, server.token, f"{MOUNT}/issue/web", body, seconds, folder)["requests"]
        )
        print(f"    {made:,} of {certificates:,}", flush=True)
    return made


def fill(server: DevServer, revoked: int) -> list[str]:
    """Issue and revoke so many; some of them, in PEM."""
    sample: list[str] = []
    failures: list[str] = []
    kept = random.Random(7)  # a choice of certificates, no secret

    def work(offset: int) -> None:
        try:
            with server.api() as api:
                for number in range(offset, revoked, CALLERS):
                    issued = issue(api, number)
                    revoke(api, issued)
                    if kept.random() < 4 * SAMPLED / revoked:
                        sample.append(issued["certificate"])
                    if offset == 0 and number % 10_000 < CALLERS:
                        print(f"    {number:,} of {revoked:,} revoked", flush=True)
        except AssertionError as error:
            failures.append(str(error))

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise SystemExit(f"a certificate was not issued or revoked: {failures[0]}")
    return sample


def _timed(act: Callable[[], object], into: list[float]) -> None:
    began = time.monotonic()
    act()
    into.append((time.monotonic() - began) * 1e3)


def measure(server: DevServer, figures: Figures) -> None:
    """One block of each request, by one caller."""
    with server.api() as api:
        issued: list[dict[str, Any]] = []
        before = processes.cpu_seconds(server.pid)
        for number in range(BLOCK):
            _timed(lambda number=number: issued.append(issue(api, number)), figures.issue_ms)  # type: ignore[misc]
        between = processes.cpu_seconds(server.pid)
        for one in issued:
            _timed(lambda one=one: revoke(api, one), figures.revoke_ms)  # type: ignore[misc]
        figures.revoke_cpu += processes.cpu_seconds(server.pid) - between
        figures.issue_cpu += between - before
        for one in issued[:10]:
            path = shard_of(one["certificate"])
            _timed(lambda path=path: api.get(path), figures.shard_ms)  # type: ignore[misc]


def shard_of(pem: str) -> str:
    """The path below /v1 of the CRL that a certificate names."""
    certificate = x509.load_pem_x509_certificate(pem.encode())
    point = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value[0]
    if point.full_name is None:
        raise SystemExit("a certificate names no CRL")
    return str(point.full_name[0].value).partition("/v1/")[2]


def restart(server: DevServer, figures: Figures) -> None:
    """Stop and start, some times."""
    starts = []
    for _ in range(STARTS):
        server.stop()
        began = time.monotonic()
        server.start()
        starts.append(time.monotonic() - began)
    figures.start_seconds = min(starts)
    figures.started_mib = processes.resident_bytes(server.pid) / 2**20


def check(server: DevServer, root: x509.Certificate, sample: list[str]) -> list[str]:
    """Whether each of these is in its shard, and OCSP calls it revoked."""
    wrong = []
    with server.api() as api:
        for pem in sample:
            certificate = x509.load_pem_x509_certificate(pem.encode())
            crl = x509.load_der_x509_crl(api.get(shard_of(pem)).content)
            if crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is None:
                wrong.append(f"{certificate.serial_number:x} is not in its shard")
            request = ocsp.OCSPRequestBuilder().add_certificate(certificate, root, SHA256()).build()
            text = request.public_bytes(Encoding.DER)
            said = ocsp.load_der_ocsp_response(api.call("POST", f"{MOUNT}/ocsp", raw=text).content)
            if said.certificate_status is not ocsp.OCSPCertStatus.REVOKED:
                wrong.append(f"OCSP says {said.certificate_status.name} of {certificate.serial_number:x}")
    return wrong


def verdict(control: Figures, many: Figures) -> list[str]:
    """What is wrong; empty if nothing is."""
    wrong = []
    pairs = {
        "issuing": (control.issue_ms, many.issue_ms),
        "revoking": (control.revoke_ms, many.revoke_ms),
    }
    for what, (few, lots) in pairs.items():
        before, after = statistics.median(few), statistics.median(lots)
        if after > ALLOWED_DEARER * before + ALLOWED_MS:
            wrong.append(f"{what} got dearer: {before:.2f} ms to {after:.2f} ms")
    if many.start_seconds > control.start_seconds + ALLOWED_SLOWER_START:
        wrong.append(f"a start got slower: {control.start_seconds:.2f} s to {many.start_seconds:.2f} s")
    if many.worked_mib > control.worked_mib + ALLOWED_MIB:
        wrong.append(f"memory grew: {control.worked_mib:.0f} MiB to {many.worked_mib:.0f} MiB")
    return wrong


def drill(folder: Path, certificates: int, revoked: int, workers: int = 2) -> list[str]:
    """The whole; prints as it goes, returns what is wrong."""
    servers = [DevServer(folder / name, workers=workers) for name in ("control", "many")]
    try:
        roots = []
        for server in servers:
            server.start()
            roots.append(prepare(server))
        began = time.monotonic()
        certificates = revoked + store(servers[1], certificates - revoked, folder / "wrk")
        sample = fill(servers[1], revoked)
        seconds = time.monotonic() - began
        print(f"{certificates:,} issued and {revoked:,} revoked in {seconds:.0f} s", flush=True)
        figures = [Figures("control"), Figures("many", certificates, revoked)]
        for server, shown in zip(servers, figures, strict=True):
            restart(server, shown)
        for block in range(BLOCKS + 1):
            for server, shown in zip(servers, figures, strict=True):
                # The first block warms both up.
                measure(server, shown if block else Figures("warming up"))
        picked = random.Random(7).sample(sample, min(SAMPLED, len(sample)))  # a choice, no secret
        wrong = check(servers[1], roots[1], picked)
        print(f"{len(picked)} sampled revoked certificates: {len(picked) - len(wrong)} are in their shard")
        for server, shown in zip(servers, figures, strict=True):
            shown.worked_mib = processes.resident_bytes(server.pid) / 2**20
            print(shown.line(), flush=True)
    finally:
        for server in servers:
            server.stop()
    return wrong + verdict(*figures)


def main() -> int:
    """Command line of scripts/many-certificates."""
    parser = argparse.ArgumentParser(
        prog="scripts/many-certificates", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("certificates", type=int, nargs="?", default=60_000, help="how many to issue")
    parser.add_argument("revoked", type=int, nargs="?", default=0, help="how many to revoke; a tenth")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="keystead-many-certificates-") as name:
        wrong = drill(Path(name), given.certificates, given.revoked or given.certificates // 10)
    for line in wrong:
        sys.stderr.write(line + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
