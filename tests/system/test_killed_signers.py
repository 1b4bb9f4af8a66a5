"""kill -9 of a live server while SSH certificates are signed and devices enrol (EST).

What was answered is on record and holds; what was not answered is on record and revoked, or never was; the log closes
every intent and verifies.
"""

from __future__ import annotations

import base64
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, pkcs7

from tests.drills import observe
from tests.harness import log, processes
from tests.harness.api import Api
from tests.harness.dev import DevServer

KILLS = 8
WORKERS = 2
EST = {"Content-Type": "application/pkcs10", "Content-Transfer-Encoding": "base64"}
Ask = Callable[[Api], str]


def enrol(api: Api) -> str:
    """The serial of a certificate that a device got."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "device.example.test")])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, SHA256())
    body = base64.b64encode(csr.public_bytes(Encoding.DER))
    answer = api.call("POST", "pki/roles/device/est/simpleenroll", raw=body, headers=EST)
    if answer.status != 200:
        return ""
    (made,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer.content))
    return f"{made.serial_number:x}"


def sign(api: Api) -> str:
    """The serial of an SSH certificate."""
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    text = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    answer = api.post("ssh/sign/user", {"public_key": text, "valid_principals": "deploy"})
    return answer.data["serial_number"] if answer.status == 200 else ""


class Asker(threading.Thread):
    """Asks again and again; keeps the serials that it was answered."""

    def __init__(self, server: DevServer, ask: Ask) -> None:
        super().__init__(daemon=True)
        self._server, self._ask = server, ask
        self.over = threading.Event()
        self.answered: list[str] = []
        self.cut = 0

    def run(self) -> None:
        with self._server.api() as api:
            while not self.over.is_set():
                try:
                    serial = self._ask(api)
                except httpx.HTTPError:
                    self.cut += 1
                    self.over.wait(0.02)
                    continue
                if serial:
                    self.answered.append(serial)


def prepare(api: Api) -> None:
    """One mount of each kind."""
    api.ok("POST", "sys/mounts/pki", {"type": "pki"})
    api.ok("POST", "pki/root/generate/internal", {"common_name": "EST Root", "key_type": "ec"})
    api.ok("POST", "pki/roles/device", {"allow_any_name": True, "key_type": "ec", "ttl": "1h"})
    config = {"enabled": True, "default_path_policy": "role:device", "authenticators": ["token"]}
    api.ok("POST", "pki/config/est", config)
    api.ok("POST", "sys/mounts/ssh", {"type": "ssh"})
    api.ok("POST", "ssh/config/ca", {"generate_signing_key": True, "key_type": "ed25519"})
    role = {"key_type": "ca", "allow_user_certificates": True, "allowed_users": "deploy", "ttl": "1h"}
    api.ok("POST", "ssh/roles/user", role)


def kill(server: DevServer, chance: random.Random) -> None:
    """One worker, or everything."""
    table = server.tree()
    children = [process.pid for process in table if process.parent == server.pid]
    workers = [process.pid for process in table if process.parent in children]
    targets = [chance.choice(workers)] if chance.random() < 0.6 else [process.pid for process in table]
    for pid in targets:
        processes.kill(pid, signal.SIGKILL)
    if server.pid in targets:
        server.after_kill()
        server.start()
    processes.wait_for(lambda: len(server.tree()) >= WORKERS + 3 and server.answers(), 60, server.tail)


@pytest.mark.timeout(300)
def test_what_was_answered_stays_and_what_was_not_is_revoked(
    fresh_server: Callable[..., DevServer], tmp_path: Path
) -> None:
    server, chance = fresh_server(workers=WORKERS), random.Random(20261130)
    with server.api() as api:
        prepare(api)
    askers = [Asker(server, ask) for ask in (enrol, enrol, sign, sign)]
    for asker in askers:
        asker.start()
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.1, 0.6))
        kill(server, chance)
    for asker in askers:
        asker.over.set()
    for asker in askers:
        asker.join(60)
    devices, users = (
        {serial for asker in pair for serial in asker.answered} for pair in (askers[:2], askers[2:])
    )
    print(f"{len(devices)} devices, {len(users)} users, {sum(asker.cut for asker in askers)} cut off")
    assert devices
    assert users

    def closed() -> bool:
        entries = log.entries(server.audit)
        ends = {entry.id for entry in entries if entry.phase == "outcome"}
        return {entry.id for entry in entries if entry.phase == "intent"} <= ends

    processes.wait_for(closed, 60, "recovery closes what dead processes left open")
    lost = {
        kind: {
            str(entry.subject["serial"])
            for entry in log.entries(server.audit)
            if entry.phase == "outcome"
            and entry.subject.get("state") == "unknown"
            and kind in entry.operation
        }
        for kind in ("pki.", "ssh.")
    }
    print(f"signed perhaps, and revoked: {len(lost['pki.'])} and {len(lost['ssh.'])}")
    with server.api() as api:
        stored = {observe.plain(serial) for serial in api.list("pki/certs").data["keys"]}
        crl = x509.load_der_x509_crl(api.get("pki/crl").content)
        assert {f"{entry.serial_number:x}" for entry in crl} == lost["pki."]
        assert devices | lost["pki."] <= stored
        assert not devices & lost["pki."]
        assert users <= set(api.list("ssh/certs").data["keys"])
        (tmp_path / "krl").write_bytes(api.get("ssh/krl").content)
    shown = subprocess.run(
        [processes.program("ssh-keygen"), "-Q", "-l", "-f", str(tmp_path / "krl")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert set(re.findall(r"^serial: (\d+)$", shown, re.MULTILINE)) == {
        str(int(one, 16)) for one in lost["ssh."]
    }
    assert not {int(one, 16) for one in users} & {int(one, 16) for one in lost["ssh."]}
    sound, said = observe.verify(server, whole=True)
    assert sound, said
