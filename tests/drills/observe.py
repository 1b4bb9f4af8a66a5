"""Looks at a server at rest: over its API, in its log, in its token, and into every byte it left."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from kms.audit.verify import verify as verify_folder
from tests.harness.api import Answer, Api
from tests.harness.dev import KEYSTEAD, DevServer, clean_environment
from tests.invariants import Ledger, Observed, Sample

MOUNT_CERTIFICATES = "pki"
PATIENCE_SECONDS = 10


def patiently(api: Api, path: str, body: object) -> Answer:
    """A write; 503 says that the HSM is being opened again, and is asked again for some seconds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (answer := api.post(path, body)).status == 503 and time.monotonic() < deadline:
        time.sleep(0.1)
    return answer


def versions_of(api: Api, names: Iterable[str]) -> tuple[dict[str, list[int]], dict[str, int]]:
    """Version numbers and the primary of each key that exists."""

    def look(name: str) -> tuple[str, list[int], int] | None:
        answer = api.get(f"transit/keys/{name}")
        if answer.status == 404:
            return None
        verb, field, result = ("encrypt", "plaintext", "ciphertext")
        if not answer.data["supports_encryption"]:
            verb, field, result = ("sign", "input", "signature")
        made = patiently(api, f"transit/{verb}/{name}", {field: "AAAA"})
        assert made.status == 200, f"{verb} with {name}: {made}, {made.content[:300]!r}"
        versions = sorted(int(number) for number in answer.data["keys"])
        return name, versions, int(made.data[result].split(":")[1][1:])

    with ThreadPoolExecutor(4) as pool:
        seen = [found for found in pool.map(look, names) if found is not None]
    return {name: versions for name, versions, _ in seen}, {name: primary for name, _, primary in seen}


def lost(api: Api, samples: Iterable[Sample]) -> list[tuple[Sample, str]]:
    """Samples that no longer open, or whose signature no longer holds."""

    def check(sample: Sample) -> tuple[Sample, str] | None:
        if ":" in sample.made and api.get(f"transit/keys/{sample.key}").json.get("data", {}).get(
            "supports_encryption"
        ):
            answer = patiently(api, f"transit/decrypt/{sample.key}", {"ciphertext": sample.made})
            good = answer.status == 200 and answer.data["plaintext"] == sample.message
        else:
            answer = api.post(
                f"transit/verify/{sample.key}", {"input": sample.message, "signature": sample.made}
            )
            good = answer.status == 200 and answer.data["valid"] is True
        return None if good else (sample, f"{answer.status} {answer.content[:120]!r}")

    with ThreadPoolExecutor(4) as pool:
        return [found for found in pool.map(check, samples) if found is not None]


def certificates(api: Api, ours: set[str]) -> tuple[list[str], list[str]]:
    """Serials of stored leaf certificates, and serials on the CRL, as the log spells them."""
    listed = api.list(f"{MOUNT_CERTIFICATES}/certs")
    stored = [plain(serial) for serial in listed.data["keys"]] if listed.status == 200 else []
    crl = x509.load_der_x509_crl(api.get(f"{MOUNT_CERTIFICATES}/crl").content)
    return [serial for serial in stored if serial not in ours], [f"{entry.serial_number:x}" for entry in crl]


def plain(serial: str) -> str:
    """A serial without separators."""
    return serial.replace(":", "").replace("-", "").lower()


def verify(server: DevServer, *, whole: bool) -> tuple[bool, str]:
    """The offline verifier on the folder: nothing of it may be missing or changed.

    As a command of its own when `whole`; as a call otherwise, which saves the start of a process.
    """
    if not whole:
        report = verify_folder(server.audit, None, [])
        return report.exit_code in {0, 3}, "\n".join(report.lines())
    done = subprocess.run(
        [KEYSTEAD, "audit", "verify", str(server.audit)],
        capture_output=True,
        text=True,
        env=clean_environment(server.folder),
        check=False,
    )
    return done.returncode in {0, 3}, done.stdout + done.stderr


def leaks(server: DevServer, secrets: Iterable[str]) -> list[str]:
    """Files and processes of the server in which a secret of the run appears."""
    needles = [secret.encode() for secret in secrets]
    found = []
    places: dict[str, bytes] = {}
    for folder in (server.data / "audit", server.data / "storage"):
        places |= {
            str(path.relative_to(server.data)): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
    places["stderr"] = server.errors.read_bytes()
    for process in server.tree():
        for name in ("cmdline", "environ"):
            places[f"/proc/{process.command[-20:]}/{name}"] = proc_file(process.pid, name)
    for name, data in places.items():
        found += [f"{name}: {needle[:12]!r}..." for needle in needles if needle in data]
    return found


def proc_file(pid: int, name: str) -> bytes:
    """A file of the process table; empty when the process is gone."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def doctor(server: DevServer) -> list[dict[str, str]]:
    """What `keystead doctor` finds."""
    done = subprocess.run(
        [KEYSTEAD, "doctor", "--data-dir", str(server.data), "--format", "json"],
        capture_output=True,
        text=True,
        env=clean_environment(server.folder),
        check=False,
    )
    findings: list[dict[str, str]] = json.loads(done.stdout)
    return findings


@dataclass
class Observer:
    """Observes one server again and again.

    Between two whole looks only keys that a request named since the last look are asked for again, and
    files are not searched for secrets: an untouched key that changed is found by the next whole look.
    """

    server: DevServer
    ledger: Ledger
    authorities: set[str]  # serials of the authorities' own certificates
    _versions: dict[str, list[int]] = field(default_factory=dict)
    _primary: dict[str, int] = field(default_factory=dict)
    _attempts: int = 0

    def look(self, api: Api, samples: list[Sample], *, whole: bool) -> Observed:
        """Everything that the invariants look at, but the log, the token and the checkpoints."""
        listed = api.list("transit/keys")
        names = set(listed.data["keys"] if listed.status == 200 else [])
        touched = {attempt.subject for attempt in self.ledger.attempts[self._attempts :]}
        self._attempts = len(self.ledger.attempts)
        for gone in set(self._versions) - names:
            del self._versions[gone], self._primary[gone]
        versions, primary = versions_of(
            api, names if whole else names - set(self._versions) | names & touched
        )
        self._versions |= versions
        self._primary |= primary
        stored, revoked = certificates(api, self.authorities)
        root = api.ok("GET", "sys/hsm/root/rotate")
        return Observed(
            versions=dict(self._versions),
            primary=dict(self._primary),
            lost=lost(api, samples),
            certificates=stored,
            revoked=revoked,
            root_version=int(root["version"]),
            leaks=leaks(self.server, self.ledger.secrets) if whole else [],
        )
