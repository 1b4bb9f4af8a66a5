"""Clients that people have: each obtains, renews and revokes a certificate."""

from __future__ import annotations

import base64
import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from tests.acme import answering
from tests.acme.client import b64
from tests.acme.conftest import ClientFactory
from tests.acme.site import Site
from tests.acme.tunnel import tunnel
from tests.harness.dev import clean_environment
from tests.harness.processes import kill, tree, wait_for

BIN = Path(sys.prefix) / "bin"
SECONDS = 90
REFUSED = "Error renewing"


def run(command: list[str], folder: Path, **environment: str) -> str:
    """A command that must succeed; what it printed."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=folder,
        env=clean_environment(folder, **environment),
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@contextmanager
def running(command: list[str], folder: Path) -> Iterator[Path]:
    """A server, until the block ends; yields the file with what it says."""
    output = folder / "output"
    with output.open("ab") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=folder,
            env=clean_environment(folder),
        )
    try:
        yield output
    finally:
        for child in tree(process.pid):
            kill(child.pid)
        process.wait(30)


@contextmanager
def webroot(site: Site, folder: Path) -> Iterator[Path]:
    """A web server on the port of http-01 that shows the challenges in a folder."""
    shown = folder / "well-known"
    shown.mkdir()

    def answer(path: str) -> tuple[int, dict[str, str], bytes]:
        file = shown / path.removeprefix(answering.WELL_KNOWN)
        return (200, {}, file.read_bytes()) if file.is_file() else (404, {}, b"")

    with answering.http(site.server.acme_http_port, answer):
        yield shown


def read(file: Path) -> x509.Certificate:
    """The first certificate of a file."""
    return x509.load_pem_x509_certificates(file.read_bytes())[0]


def names(certificate: x509.Certificate) -> list[Any]:
    """What it is for."""
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [one.value for one in found]


def is_revoked(site: Site, certificate: x509.Certificate) -> bool:
    """Whether the CRL lists it."""
    crl = x509.load_der_x509_crl(site.api.get(f"{site.mount}/crl").content)
    return crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None


def revoke_with_its_key(
    site: Site, client_of: ClientFactory, certificate: x509.Certificate, key: bytes
) -> None:
    """For clients that cannot revoke: anybody who has the key can."""
    private = load_pem_private_key(key, None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    client = client_of(site.directory, private)
    wish = {"certificate": b64(certificate.public_bytes(Encoding.DER))}
    client.post(client.directory["revokeCert"], wish).ok()


def certbot(site: Site, folder: Path, *arguments: str) -> str:
    """One command of certbot."""
    folders = [f"--{name}-dir={folder / name}" for name in ("config", "work", "logs")]
    return run([str(BIN / "certbot"), *arguments, *folders, "--server", site.directory, "-n"], folder)


def standalone(site: Site) -> list[str]:
    port = f"--http-01-port={site.server.acme_http_port}"
    return ["--standalone", "--http-01-address=127.0.0.1", port, "--agree-tos", "-m", "someone@example.test"]


def test_certbot(site: Site, tmp_path: Path) -> None:
    name = site.name()
    certbot(site, tmp_path, "certonly", *standalone(site), "-d", name)
    file = tmp_path / "config/live" / name / "cert.pem"
    first = read(file)
    assert names(first) == [name]
    certbot(site, tmp_path, "renew", "--force-renewal", "--no-random-sleep-on-renew")
    second = read(file)
    assert second.serial_number != first.serial_number
    certbot(
        site, tmp_path, "revoke", "--cert-name", name, "--reason", "superseded", "--no-delete-after-revoke"
    )
    assert is_revoked(site, second)
    assert not is_revoked(site, first)


def test_certbot_with_a_binding_for_an_address_and_a_wildcard(own_site: Site, tmp_path: Path) -> None:
    site = own_site
    site.configure(eab_policy="always-required")
    bound = site.api.ok("POST", f"{site.mount}/roles/web/acme/new-eab")
    # In one word: the key is base64url, and may begin with a dash.
    external = ["--eab-kid", bound["id"], f"--eab-hmac-key={bound['key']}"]
    certbot(
        site,
        tmp_path,
        "certonly",
        *standalone(site),
        *external,
        "--ip-address",
        "127.0.0.1",
        "--cert-name",
        "ip",
    )
    assert [str(one) for one in names(read(tmp_path / "config/live/ip/cert.pem"))] == ["127.0.0.1"]
    name, records = site.name(), tmp_path / "records"
    site.names.files[f"_acme-challenge.{name}"] = records
    hook = f"sh -c 'echo $CERTBOT_VALIDATION >> {records}'"
    manual = ["--manual", "--preferred-challenges", "dns", "--manual-auth-hook", hook, "--cert-name", "wild"]
    certbot(site, tmp_path, "certonly", *manual, "-d", name, "-d", f"*.{name}")
    assert sorted(names(read(tmp_path / "config/live/wild/cert.pem"))) == [f"*.{name}", name]


@pytest.mark.parametrize("way", ["http", "tls"])
def test_lego(site: Site, tmp_path: Path, way: str) -> None:
    name = site.name()
    port = site.server.acme_http_port if way == "http" else site.server.acme_tls_port
    command = ["lego", "--server", site.directory, "--accept-tos", "--email", "someone@example.test"]
    command += ["--domains", name, f"--{way}", f"--{way}.port", f"127.0.0.1:{port}", "--path", str(tmp_path)]
    run([*command, "run"], tmp_path)
    file = tmp_path / "certificates" / f"{name}.crt"
    first = read(file)
    assert names(first) == [name]
    run([*command, "renew", "--days", "90", "--no-random-sleep"], tmp_path)
    second = read(file)
    assert second.serial_number != first.serial_number
    run([*command, "revoke", "--keep"], tmp_path)
    assert is_revoked(site, second)


def test_dehydrated(site: Site, tmp_path: Path) -> None:
    name = site.name()
    with webroot(site, tmp_path) as shown:
        config = tmp_path / "config"
        config.write_text(
            f"CA={site.directory}\nBASEDIR={tmp_path}\nWELLKNOWN={shown}\nKEY_ALGO=prime256v1\nRENEW_DAYS=0\n"
        )
        command = ["dehydrated", "--config", str(config)]
        run([*command, "--register", "--accept-terms"], tmp_path)
        run([*command, "--cron", "--domain", name], tmp_path)
        file = tmp_path / "certs" / name / "cert.pem"
        first = read(file)
        assert names(first) == [name]
        run([*command, "--cron", "--domain", name, "--force"], tmp_path)
        second = read(file)
        assert second.serial_number != first.serial_number
        run([*command, "--revoke", str(file)], tmp_path)
    assert is_revoked(site, second)


def test_uacme(site: Site, tmp_path: Path) -> None:
    name = site.name()
    with webroot(site, tmp_path) as shown:
        hook = tmp_path / "hook"
        hook.write_text(
            f'#!/bin/sh\n[ "$2" = http-01 ] || exit 1\n[ "$1" != begin ] || printf %s "$5" > {shown}/"$4"\n'
        )
        hook.chmod(0o700)
        command = ["uacme", "-a", site.directory, "-c", str(tmp_path / "uacme"), "-y"]
        run([*command, "new"], tmp_path)
        issue = [*command, "-h", str(hook), "-t", "EC", "issue"]
        run([*issue, name], tmp_path)
        file = tmp_path / "uacme" / name / "cert.pem"
        first = read(file)
        assert names(first) == [name]
        run([*issue[:-1], "-f", "issue", name], tmp_path)
        second = read(file)
        assert second.serial_number != first.serial_number
        run([*command, "revoke", str(file)], tmp_path)
    assert is_revoked(site, second)


def short_lived(site: Site) -> None:
    site.api.ok("POST", f"{site.mount}/roles/web", {"allow_any_name": True, "key_type": "any", "ttl": "30s"})


def test_caddy(own_site: Site, tmp_path: Path, client_of: ClientFactory) -> None:
    site, name = own_site, own_site.name()
    short_lived(site)
    (tmp_path / "Caddyfile").write_text(
        f"""{{
            admin off
            storage file_system {tmp_path}/storage
            http_port {site.server.acme_http_port}
            https_port {site.server.acme_tls_port}
            acme_ca {site.directory}
            renew_interval 1s
            default_bind 127.0.0.1
        }}
        {name} {{
            respond "here"
        }}
        """
    )
    caddy = [str(BIN / "caddy"), "run", "--config", str(tmp_path / "Caddyfile"), "--adapter", "caddyfile"]
    with running(caddy, tmp_path) as output:

        def kept() -> Path | None:
            return next(iter((tmp_path / "storage").rglob(f"{name}.crt")), None)

        wait_for(lambda: kept() is not None, SECONDS, output.read_text)
        file = kept()
        assert file is not None
        first = read(file)
        assert names(first) == [name]
        wait_for(lambda: read(file).serial_number != first.serial_number, SECONDS, output.read_text)
        second = read(file)
        revoke_with_its_key(site, client_of, second, file.with_suffix(".key").read_bytes())
    assert is_revoked(site, second)


def test_traefik(own_site: Site, tmp_path: Path, client_of: ClientFactory) -> None:
    """Traefik speaks to nobody without TLS."""
    plain, name = own_site, own_site.name()
    short_lived(plain)
    own = plain.api.ok(
        "POST",
        f"{plain.mount}/issue/web",
        {"common_name": "front.test", "ip_sans": "127.0.0.1", "key_type": "ec", "ttl": "1h"},
    )
    (tmp_path / "front.pem").write_text(f"{own['private_key']}\n{own['certificate']}\n")
    (tmp_path / "ca.pem").write_text(own["issuing_ca"] + "\n")
    with tunnel(tmp_path / "front.pem", plain.server.port) as port:
        site = dataclasses.replace(plain, front=f"https://127.0.0.1:{port}")
        plain.api.ok("POST", f"{plain.mount}/config/cluster", {"path": site.base})
        _traefik(site, name, tmp_path)
        found = _stored(tmp_path)
        assert found is not None
        assert names(found[0]) == [name]
        plain.api.ok("POST", f"{plain.mount}/config/cluster", {"path": plain.base})
        revoke_with_its_key(plain, client_of, *found)
        assert is_revoked(plain, found[0])


def _traefik(site: Site, name: str, tmp_path: Path) -> None:
    (tmp_path / "routes.yml").write_text(
        f"""
http:
  routers:
    r:
      rule: Host(`{name}`)
      service: s
      tls: {{certResolver: ours}}
  services:
    s:
      loadBalancer: {{servers: [{{url: "http://127.0.0.1:1"}}]}}
"""
    )
    (tmp_path / "traefik.yml").write_text(
        f"""
entryPoints:
  web: {{address: "127.0.0.1:{site.server.acme_http_port}"}}
  secure: {{address: "127.0.0.1:{site.server.acme_tls_port}"}}
providers: {{file: {{filename: {tmp_path}/routes.yml}}}}
global: {{checkNewVersion: false, sendAnonymousUsage: false}}
certificatesResolvers:
  ours:
    acme:
      caServer: {site.directory}
      caCertificates: ["{tmp_path}/ca.pem"]
      email: someone@example.test
      storage: {tmp_path}/acme.json
      certificatesDuration: 1
      keyType: EC256
      httpChallenge: {{entryPoint: web}}
"""
    )
    traefik = [str(BIN / "traefik"), f"--configFile={tmp_path}/traefik.yml"]

    def serial() -> int:
        found = _stored(tmp_path)
        return found[0].serial_number if found is not None else 0

    with running(traefik, tmp_path) as output:
        wait_for(lambda: serial() != 0, SECONDS, output.read_text)
    first = serial()
    # It renews at its start what ends soon, at times before it answers challenges: then the next start does.
    for _ in range(6):
        with running(traefik, tmp_path) as output:
            before = output.read_text().count(REFUSED)
            wait_for(
                lambda seen=before, file=output: serial() != first or file.read_text().count(REFUSED) > seen,  # type: ignore[misc]  # bound now
                SECONDS,
                output.read_text,
            )
        if serial() != first:
            return
    raise AssertionError(output.read_text())


def _stored(folder: Path) -> tuple[x509.Certificate, bytes] | None:
    """What Traefik keeps: the certificate and its key."""
    file = folder / "acme.json"
    text = file.read_text() if file.exists() else ""
    held = (json.loads(text)["ours"]["Certificates"] or []) if text else []
    if not held:
        return None
    pem, key = (base64.b64decode(held[0][part]) for part in ("certificate", "key"))
    return x509.load_pem_x509_certificates(pem)[0], key


@pytest.mark.nightly
def test_npm_acme_client(site: Site, tmp_path: Path) -> None:
    """Nightly, because npm fetches it."""
    run(["npm", "install", "--no-audit", "--no-fund", "acme-client@5.4.0"], tmp_path)
    name = site.name()
    with webroot(site, tmp_path) as shown:
        (tmp_path / "go.js").write_text(
            """
const acme = require('acme-client'), fs = require('fs');
const [directoryUrl, name, shown] = process.argv.slice(2);
(async () => {
  const client = new acme.Client({directoryUrl, accountKey: await acme.crypto.createPrivateKey()});
  const once = async (file) => {
    const [key, csr] = await acme.crypto.createCsr({altNames: [name]});
    const cert = await client.auto({
      csr, termsOfServiceAgreed: true, challengePriority: ['http-01'], skipChallengeVerification: true,
      challengeCreateFn: async (a, c, text) => fs.writeFileSync(`${shown}/${c.token}`, text),
      challengeRemoveFn: async (a, c) => fs.unlinkSync(`${shown}/${c.token}`),
    });
    fs.writeFileSync(file, cert);
    return cert;
  };
  await once('first.pem');
  await client.revokeCertificate(await once('second.pem'), {reason: 4});
})();
"""
        )
        run(["node", "go.js", site.directory, name, str(shown)], tmp_path)
    first, second = read(tmp_path / "first.pem"), read(tmp_path / "second.pem")
    assert names(second) == [name]
    assert is_revoked(site, second)
    assert not is_revoked(site, first)
