"""The key of an issuing CA is declared compromised: revoked by its offline root, everything below it replaced.

before     an intermediate of an offline root has certified clients of an nginx, some of them without keeping a copy
then       it may sign nothing but CRLs; a ceremony revokes it, certifies a successor and signs the root's next CRL;
           nginx gets that CRL; every certificate of the old issuer is found and made again by the successor
must hold  nginx refuses every old certificate, also those that no list names, and accepts every new one; the old
           issuer issues nothing; each live certificate of it was found; the record of the ceremony is sound
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography import x509

from tests.drills.rollover import DOMAIN, Online, Timed, begin
from tests.harness.api import Api
from tests.harness.dev import DevServer
from tests.harness.nginx import GREETING, Nginx

VISITS: Final = 3  # of the old and of the new certificates, so many are tried at nginx


@dataclass
class Compromise:
    """One run. `times` holds the seconds of each step; the whole includes looking at nginx."""

    online: Online
    folder: Path
    leaves: int
    times: dict[str, float] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)

    def run(self, nginx: Nginx) -> list[str]:
        """Declare the compromise and mend it; what did not hold."""
        api, mount, old = self.online.api, self.online.mount, self.online.now
        api.ok(
            "POST", f"{mount}/roles/unlisted", {"allow_any_name": True, "key_type": "ec", "no_store": True}
        )
        known = [self._issue("mesh", f"leaf-{number}") for number in range(self.leaves)]
        unlisted = self._issue("unlisted", "unlisted")
        self._serve(nginx, old)
        self._expect(nginx, [*known[:VISITS], unlisted], welcome=True)

        declared = Timed(self.times, "everything replaced")
        with declared:
            with Timed(self.times, "issuing stopped"):
                api.ok("POST", f"{mount}/issuer/{old}", {"usage": ["read-only", "crl-signing"]})
                if api.post(f"{mount}/issuer/{old}/issue/mesh", {"common_name": f"x.{DOMAIN}"}).status != 400:
                    self.found.append("the compromised issuer still issues")
            with Timed(self.times, "ceremony: revoked, successor certified, CRL signed"):
                new = self._ceremony()
            with Timed(self.times, "CRL at nginx"):
                self._crls(nginx, old, new)
            self._expect(nginx, [*known[:VISITS], unlisted], welcome=False)
            with Timed(self.times, "certificates listed"):
                live = self._live(old)
            with Timed(self.times, "certificates made again"):
                again = [self._issue("mesh", name.partition(".")[0]) for name in live]
                self._serve(nginx, new)
        if sorted(live) != sorted(f"leaf-{number}.{DOMAIN}" for number in range(self.leaves)):
            self.found.append(f"{len(live)} of {self.leaves} certificates of the old issuer were found")
        self._expect(nginx, again[:VISITS], welcome=True)
        self._expect(nginx, [*known[:VISITS], unlisted], welcome=False)
        return self.found

    def _issue(self, role: str, name: str) -> dict[str, Any]:
        return self.online.api.ok(
            "POST", f"{self.online.mount}/issue/{role}", {"common_name": f"{name}.{DOMAIN}"}
        )

    def _ceremony(self) -> str:
        csr = self.online.csr("second")
        record = self.online.offline.hold(
            {"action": "revoke", "issuer": "old", "certificate": "first", "reason": "cACompromise"},
            {"action": "sign-intermediate", "issuer": "old", "name": "second", "csr": csr},
            {"action": "sign-crl", "issuer": "old"},
            signer="old",
        )
        new = self.online.take_in("second", record / "second.crt")
        self.online.switch(new)
        return new

    def _live(self, issuer: str) -> list[str]:
        """The names of all certificates of an issuer that are neither expired nor revoked."""
        api, mount = self.online.api, self.online.mount
        pem = api.get(f"{mount}/issuer/{issuer}/pem").content
        subject = x509.load_pem_x509_certificate(pem).subject
        names = []
        for serial in api.ok("LIST", f"{mount}/certs")["keys"]:
            row = api.ok("GET", f"{mount}/cert/{serial}")
            certificate = x509.load_pem_x509_certificate(row["certificate"].encode())
            if certificate.issuer == subject and not row["revocation_time"]:
                san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
                names += san.value.get_values_for_type(x509.DNSName)
        # The certificate of nginx itself is replaced by whoever serves it.
        return [name for name in names if name != "localhost"]

    def _serve(self, nginx: Nginx, issuer: str) -> None:
        api, mount = self.online.api, self.online.mount
        body = {"common_name": "localhost", "ip_sans": "127.0.0.1"}
        api.ok("POST", f"{mount}/roles/server", {"allow_localhost": True, "key_type": "ec"})
        made = api.ok("POST", f"{mount}/issue/server", body)
        nginx.put(
            server_pem="\n".join([made["certificate"], *made["ca_chain"]]) + "\n",
            server_key=made["private_key"] + "\n",
            clients_pem=self._root().read_text(),
        )
        self._crls(nginx, issuer, start=True)

    def _crls(self, nginx: Nginx, *issuers: str, start: bool = False) -> None:
        """Give nginx the newest CRL of the root, and those of the issuers."""
        api, mount = self.online.api, self.online.mount
        roots = sorted(self.online.offline.ceremonies[-1].glob("old-*.crl"))
        texts = [roots[-1].read_text()]
        ids = {str(id_) for id_ in api.ok("LIST", f"{mount}/issuers")["keys"]} | set(issuers)
        for id_ in sorted(ids):
            answer = api.get(f"{mount}/issuer/{id_}/crl/pem")
            if answer.status == 200 and answer.content:
                texts.append(answer.content.decode().strip() + "\n")
        nginx.put(crl_pem="".join(texts))
        if start and not nginx.running:
            nginx.start()
        else:
            nginx.reload()

    def _root(self) -> Path:
        return self.online.offline.ceremonies[0] / "old.crt"

    def _expect(self, nginx: Nginx, leaves: list[dict[str, Any]], *, welcome: bool) -> None:
        for number, leaf in enumerate(leaves):
            certificate, key = self.folder / f"visitor-{number}.pem", self.folder / f"visitor-{number}.key"
            certificate.write_text("\n".join([leaf["certificate"], *leaf["ca_chain"]]) + "\n")
            key.write_text(leaf["private_key"])
            key.chmod(0o600)
            visit = nginx.visit(self._root(), certificate, key)
            told = GREETING if welcome else "400 The SSL certificate error"
            if told not in visit.stdout:
                wanted = "accepted" if welcome else "refused"
                self.found.append(f"{leaf['serial_number']} is not {wanted}: {visit.stdout} {visit.stderr}")

    def summary(self) -> str:
        """Figures of the run."""
        steps = [f"  {seconds:7.2f} s  {name}" for name, seconds in self.times.items()]
        return "\n".join([f"{self.leaves} certificates below the compromised issuer", *steps])


def mounted(api: Api, folder: Path) -> Online:
    """A mount `pki` below an offline root."""
    api.ok("POST", "sys/mounts/pki", {"type": "pki", "config": {"max_lease_ttl": "43800h"}})
    return begin(api, "pki", folder)


def main(arguments: list[str] | None = None) -> int:
    """Command line of scripts/ca-compromise."""
    parser = argparse.ArgumentParser(
        prog="scripts/ca-compromise", description=(__doc__ or "").split("\n\n", maxsplit=1)[0]
    )
    parser.add_argument("--leaves", type=int, default=500, help="certificates below the issuer")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="keystead-compromise-") as name:
        folder = Path(name)
        server, nginx = DevServer(folder / "server"), Nginx(folder / "nginx")
        server.start()
        try:
            with server.api() as api:
                drill = Compromise(mounted(api, folder / "offline"), folder, given.leaves)
                found = drill.run(nginx)
        finally:
            nginx.stop()
            server.stop()
    print(drill.summary())
    print("\n".join(found[:50]) if found else "every old certificate is refused, every new one accepted")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
