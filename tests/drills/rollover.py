"""Replaces an offline root and its intermediate while certificates are issued, and verifies every one of them.

before     an old root on an offline token; an intermediate of it issues certificates at a steady rate
meanwhile  a second ceremony makes a new root, cross-signs both roots by each other, and certifies the next
           intermediate under the new root; the server takes that in, makes it the default, and lets the old
           intermediate sign only CRLs from then on
must hold  no request fails; what was asked for after the switch comes from the new intermediate; OpenSSL verifies
           every certificate of the run (-x509_strict) for a client that has only the old root and for one that has
           only the new root, from one bundle; the old intermediate issues nothing more, and its CRL is renewed
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509

from tests.harness.api import Api
from tests.harness.dev import DevServer
from tests.harness.offline import Offline

CLIENTS: Final = 4
DOMAIN: Final = "svc.example.test"
BATCH: Final = 200


@dataclass(frozen=True)
class Issued:
    """One certificate, and when it was asked for."""

    began: float
    name: str
    certificate: str
    key: str


@dataclass
class Online:
    """A mount whose intermediates an offline root certifies."""

    api: Api
    mount: str
    offline: Offline
    now: str = ""  # the issuer that is the default

    def csr(self, name: str) -> str:
        """A new key in the server's HSM; the file of its request, beside the scripts."""
        body = {"common_name": f"Issuing {name}", "key_type": "ec", "key_name": name}
        made = self.api.ok("POST", f"{self.mount}/intermediate/generate/internal", body)
        return self.offline.put(f"{name}.csr", made["csr"])

    def take_in(self, name: str, *files: Path) -> str:
        """Import certificates; the first one gets a name, and its id is returned."""
        text = "".join(path.read_text() for path in files)
        made = self.api.ok("POST", f"{self.mount}/intermediate/set-signed", {"certificate": text})
        first = next(id_ for id_, key in made["mapping"].items() if key)
        self.api.ok("POST", f"{self.mount}/issuer/{first}", {"issuer_name": name})
        return str(first)

    def switch(self, issuer: str) -> None:
        """Make an issuer the default."""
        self.api.ok("POST", f"{self.mount}/config/issuers", {"default": issuer})
        self.now = issuer

    def crl(self, issuer: str) -> x509.CertificateRevocationList:
        """The published CRL of one issuer."""
        return x509.load_der_x509_crl(self.api.get(f"{self.mount}/issuer/{issuer}/crl/der").content)


def begin(api: Api, mount: str, folder: Path) -> Online:
    """The old root and the first intermediate, ready to issue by the role `mesh`."""
    online = Online(api, mount, Offline(folder))
    csr = online.csr("first")
    record = online.offline.hold(
        {"action": "make-root", "name": "old", "common_name": f"Old Root of {mount}"},
        {"action": "sign-intermediate", "issuer": "old", "name": "first", "csr": csr},
        {"action": "sign-crl", "issuer": "old"},
        signer="old",
    )
    online.switch(online.take_in("first", record / "first.crt", record / "old.crt"))
    role = {"allowed_domains": [DOMAIN], "allow_subdomains": True, "key_type": "ec", "ttl": "1h"}
    api.ok("POST", f"{mount}/roles/mesh", role)
    return online


class Load(threading.Thread):
    """One client that issues at its share of the rate until it is told to stop."""

    def __init__(self, api: Api, mount: str, rate: float, label: str) -> None:
        super().__init__(daemon=True)
        self._api, self._path, self._pause, self._label = api, f"{mount}/issue/mesh", 1 / rate, label
        self.issued: list[Issued] = []
        self.failed: list[str] = []
        self.over = threading.Event()

    def run(self) -> None:
        due = time.monotonic()
        while not self.over.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._pause, time.monotonic() - 1)
            began = time.monotonic()
            name = f"{self._label}-{len(self.issued)}.{DOMAIN}"
            answer = self._api.post(self._path, {"common_name": name})
            if answer.status != 200:
                self.failed.append(f"{name}: {answer.status} {answer.content[:200]!r}")
                continue
            data = answer.data
            self.issued.append(Issued(began, name, data["certificate"], data["private_key"]))


@dataclass
class Rollover:
    """One run. `times` holds what each step took, in seconds."""

    online: Online
    folder: Path
    rate: float
    seconds: float
    times: dict[str, float] = field(default_factory=dict)
    issued: list[Issued] = field(default_factory=list)

    def run(self) -> list[str]:
        """Replace root and intermediate under load; what did not hold."""
        api, mount = self.online.api, self.online.mount
        old = self.online.now
        before = self.online.crl(old)
        clients = [Load(api, mount, self.rate / CLIENTS, f"c{number}") for number in range(CLIENTS)]
        for client in clients:
            client.start()
        time.sleep(self.seconds / 3)
        new = self._replace()
        switched = time.monotonic()
        time.sleep(self.seconds / 3)
        with self._timed("retire the old"):
            body = {"usage": ["read-only", "crl-signing"]}
            api.ok("POST", f"{mount}/issuer/{old}", body)
        time.sleep(self.seconds / 3)
        for client in clients:
            client.over.set()
        for client in clients:
            client.join()
        self.issued = [one for client in clients for one in client.issued]
        found = [text for client in clients for text in client.failed]
        found += self._wrong_issuers(old, new, switched)
        with self._timed("verify"):
            found += self._unverified("old") + self._unverified("new")
        refused = api.post(f"{mount}/issuer/{old}/issue/mesh", {"common_name": f"late.{DOMAIN}"})
        if refused.status != 400:
            found.append(f"the retired issuer still issues: {refused.status}")
        api.ok("GET", f"{mount}/crl/rotate")
        after = self.online.crl(old)
        if after.next_update_utc is None or before.next_update_utc is None:
            return [*found, "a CRL has no nextUpdate"]
        if _number(after) <= _number(before) or after.next_update_utc < before.next_update_utc:
            found.append("the CRL of the retired issuer is not kept fresh")
        return found

    def _replace(self) -> str:
        offline = self.online.offline
        with self._timed("request"):
            csr = self.online.csr("second")
        with self._timed("ceremony"):
            record = offline.hold(
                {"action": "make-root", "name": "new", "common_name": f"New Root of {self.online.mount}"},
                {"action": "cross-sign", "issuer": "old", "name": "new-by-old", "root": "new"},
                {"action": "cross-sign", "issuer": "new", "name": "old-by-new", "root": "old"},
                {"action": "sign-intermediate", "issuer": "new", "name": "second", "csr": csr},
                {"action": "sign-crl", "issuer": "old"},
                {"action": "sign-crl", "issuer": "new"},
                signer="new",
            )
        with self._timed("import and switch"):
            new = self.online.take_in("second", record / "second.crt", record / "new-by-old.crt")
            self.online.switch(new)
        return new

    def _wrong_issuers(self, old: str, new: str, switched: float) -> list[str]:
        names = {id_: self._subject(id_) for id_ in (old, new)}
        found = []
        for one in self.issued:
            issuer = x509.load_pem_x509_certificate(one.certificate.encode()).issuer
            if issuer not in names.values() or (one.began > switched and issuer != names[new]):
                found.append(f"{one.name} comes from {issuer.rfc4514_string()}")
        return found

    def _subject(self, issuer: str) -> x509.Name:
        pem = self.online.api.get(f"{self.online.mount}/issuer/{issuer}/pem").content
        return x509.load_pem_x509_certificate(pem).subject

    def _unverified(self, root: str) -> list[str]:
        """What a client that knows only one root does not accept, with the bundle that servers send."""
        first, second = self.online.offline.ceremonies
        bundle = self.folder / "bundle.pem"
        names = (
            first / "first.crt",
            second / "second.crt",
            second / "new-by-old.crt",
            second / "old-by-new.crt",
        )
        bundle.write_text("".join(path.read_text() for path in names))
        store = (first if root == "old" else second) / f"{root}.crt"
        found = []
        for files in self._files():
            command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", str(store)]
            done = subprocess.run(
                [*command, "-no-CAstore", "-no-CApath", "-untrusted", str(bundle), *map(str, files)],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode or done.stdout.count(": OK") != len(files):
                found.append(f"with only the {root} root: {done.stderr.strip()[-400:]}")
        return found

    def _files(self) -> Iterator[list[Path]]:
        folder = self.folder / "leaves"
        folder.mkdir(exist_ok=True)
        paths = []
        for number, one in enumerate(self.issued):
            paths.append(folder / f"{number}.pem")
            paths[-1].write_text(one.certificate)
        for start in range(0, len(paths), BATCH):
            yield paths[start : start + BATCH]

    def _timed(self, name: str) -> Timed:
        return Timed(self.times, name)

    def summary(self) -> str:
        """Figures of the run."""
        steps = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in self.times.items())
        return f"{len(self.issued)} certificates issued, each verified under each root; {steps}"


@dataclass
class Timed:
    """Adds the seconds of a block to a table."""

    times: dict[str, float]
    name: str
    began: float = 0.0

    def __enter__(self) -> None:
        self.began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.times[self.name] = time.monotonic() - self.began


def _number(crl: x509.CertificateRevocationList) -> int:
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def main(arguments: list[str] | None = None) -> int:
    """Command line of scripts/ca-rollover."""
    parser = argparse.ArgumentParser(
        prog="scripts/ca-rollover", description=(__doc__ or "").split("\n\n", maxsplit=1)[0]
    )
    parser.add_argument("--rate", type=float, default=50, help="certificates a second")
    parser.add_argument("--seconds", type=float, default=30)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="keystead-rollover-") as name:
        server = DevServer(Path(name) / "server")
        server.start()
        try:
            with server.api() as api:
                api.ok("POST", "sys/mounts/pki", {"type": "pki", "config": {"max_lease_ttl": "43800h"}})
                online = begin(api, "pki", Path(name) / "offline")
                drill = Rollover(online, Path(name), given.rate, given.seconds)
                found = drill.run()
        finally:
            server.stop()
    print(drill.summary())
    print(
        "\n".join(found[:50]) if found else "no request failed, every certificate verified, the CRL is fresh"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
