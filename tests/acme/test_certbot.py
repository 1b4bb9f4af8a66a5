"""certbot, end to end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from cryptography import x509

from tests.acme.site import Site
from tests.harness.dev import clean_environment

CERTBOT = Path(sys.prefix) / "bin" / "certbot"


class Certbot:
    """certbot with folders of its own."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.folder = folder

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """One command."""
        folders = [f"--{name}-dir={self.folder / name}" for name in ("config", "work", "logs")]
        done = subprocess.run(
            [str(CERTBOT), *arguments, *folders, "--server", self.site.directory, "-n"],
            capture_output=True,
            text=True,
            env=clean_environment(self.folder),
            timeout=120,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def certificate(self, name: str) -> x509.Certificate:
        """The newest of a lineage."""
        return x509.load_pem_x509_certificate((self.folder / "config/live" / name / "cert.pem").read_bytes())


def test_certbot_obtains_renews_and_revokes_with_http_01(site: Site, tmp_path: Path) -> None:
    certbot, name = Certbot(site, tmp_path), site.name()
    port = f"--http-01-port={site.server.acme_http_port}"
    standalone = ["--standalone", "--http-01-address=127.0.0.1", port, "-d", name, "--agree-tos"]
    certbot.run("certonly", *standalone, "-m", "someone@example.test")
    first = certbot.certificate(name)
    assert [name] == first.extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    ).value.get_values_for_type(x509.DNSName)
    certbot.run("renew", "--force-renewal", "--no-random-sleep-on-renew")
    assert certbot.certificate(name).serial_number != first.serial_number
    certbot.run("revoke", "--cert-name", name, "--reason", "superseded", "--no-delete-after-revoke")
    crl = x509.load_der_x509_crl(site.api.get(f"{site.mount}/crl").content)
    revoked = crl.get_revoked_certificate_by_serial_number(certbot.certificate(name).serial_number)
    assert revoked is not None
    assert (
        revoked.extensions.get_extension_for_class(x509.CRLReason).value.reason is x509.ReasonFlags.superseded
    )
