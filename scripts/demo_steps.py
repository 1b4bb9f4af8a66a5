"""The demo, step by step. Every line that starts with $ is a command you can type yourself.

Each step raises when something is not as it must be, so the last line is printed only if all held.
"""

from __future__ import annotations

import base64
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import hvac
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from rich.console import Console

from tests.harness.bao import Bao
from tests.harness.dev import KEYSTEAD, DevServer
from tests.harness.nginx import GREETING, Nginx

console = Console(highlight=False, soft_wrap=True)
SHOWN_LINES = 9
SHOWN_COLUMNS = 110


class DemoError(Exception):
    """Something was not as the demo promises."""


def must(condition: object, what: str) -> None:
    """Stop the demo when a promise does not hold; say so when it does."""
    if not condition:
        raise DemoError(what)
    console.print(f"  [green]ok[/] {what}")


def shown(text: str) -> None:
    """Real output, cut to what fits."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    for line in lines[:SHOWN_LINES]:
        cut = line if len(line) <= SHOWN_COLUMNS else line[: SHOWN_COLUMNS - 3] + "..."
        console.print(f"  {cut}", style="dim", markup=False)
    if len(lines) > SHOWN_LINES:
        console.print(f"  ... {len(lines) - SHOWN_LINES} more lines", style="dim", markup=False)


class Demo:
    """One server, one folder, and the clients that work with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = DevServer(folder / "server")
        self.nginx = Nginx(folder / "nginx")
        self.bao = Bao(self.server.address, self.server.token, folder)
        self.hvac = hvac.Client(url=self.server.address, token=self.server.token)

    def command(self, *words: str, quiet: bool = False, fails: bool = False) -> str:
        """Show a command, run it, show what it printed."""
        console.print(f"  [bold]$ {shlex.join(words)[:SHOWN_COLUMNS]}[/]")
        name = {"bao": str(KEYSTEAD.parent / "bao"), "keystead": str(KEYSTEAD)}.get(words[0], words[0])
        done = subprocess.run(  # noqa: S603  (the commands of the demo)
            [name, *words[1:]],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self.bao.environment,
            check=False,
            timeout=60,
        )
        output = done.stdout + done.stderr
        if not quiet:
            shown(output)
        if (done.returncode != 0) != fails:
            raise DemoError(f"{words[0]} ended with {done.returncode}: {output}")
        return done.stdout if not fails else output

    def field(self, name: str, *words: str) -> str:
        """One field of what bao answers."""
        verb = 3 if words[1] == "token" else 2
        return self.command(*words[:verb], f"-field={name}", *words[verb:], quiet=True).strip()

    def start(self) -> None:
        """A server with a SoftHSM token of its own."""
        console.print("  [bold]$ keystead dev --listen 127.0.0.1:PORT --data-dir DIR[/]")
        self.server.start()
        shown(self.server.output.read_text().replace(self.server.token, "<root token>"))
        (self.folder / "trusted.pub").write_text((self.server.audit / "log.pub").read_text())
        self.command("bao", "status")
        must(self.hvac.sys.read_seal_status()["sealed"] is False, "initialised, and unsealed by its HSM")

    def encrypt_a_file(self) -> None:
        """A data key encrypts the file here; Keystead only ever sees the key."""
        self.command("bao", "secrets", "enable", "transit")
        self.command("bao", "write", "transit/keys/files", "type=aes256-gcm96", "protection=hsm")
        (self.folder / "report.txt").write_bytes(os.urandom(1 << 20))
        made = self.hvac.secrets.transit.generate_data_key("files", key_type="plaintext")["data"]
        self.data_key = made["ciphertext"]
        key = AESGCM(base64.b64decode(made["plaintext"]))
        (self.folder / "report.sealed").write_bytes(
            key.encrypt(bytes(12), (self.folder / "report.txt").read_bytes(), None)
        )
        console.print(f"  data key, wrapped: {self.data_key[:60]}...", markup=False)
        self.open_the_file("a 1 MiB file went through a data key of an HSM key, and came back")

    def open_the_file(self, what: str) -> None:
        """Unwrap the stored data key and decrypt the file."""
        key = self.field("plaintext", "bao", "write", "transit/decrypt/files", f"ciphertext={self.data_key}")
        opened = AESGCM(base64.b64decode(key)).decrypt(
            bytes(12), (self.folder / "report.sealed").read_bytes(), None
        )
        must(opened == (self.folder / "report.txt").read_bytes(), what)

    def rotate(self) -> None:
        """New key version, new root in the HSM; not one stored byte changes."""
        self.command("bao", "write", "-f", "transit/keys/files/rotate", quiet=True)
        self.command("keystead", "rotate-root")
        self.open_the_file("the old ciphertext opens after rotating the key and the root of the HSM")

    def sign(self) -> None:
        """OpenSSL checks a signature that an HSM key made."""
        (self.folder / "contract.txt").write_text("I owe you nothing.\n")
        self.command("bao", "write", "transit/keys/notary", "type=ecdsa-p256", quiet=True)
        key = self.hvac.secrets.transit.read_key("notary")["data"]["keys"]["1"]["public_key"]
        (self.folder / "notary.pem").write_text(key)
        text = base64.b64encode((self.folder / "contract.txt").read_bytes()).decode()
        signature = self.field("signature", "bao", "write", "transit/sign/notary", f"input={text}")
        (self.folder / "signature").write_bytes(base64.b64decode(signature.removeprefix("vault:v1:")))
        check = [
            "openssl",
            "dgst",
            "-sha256",
            "-verify",
            "notary.pem",
            "-signature",
            "signature",
            "contract.txt",
        ]
        must("Verified OK" in self.command(*check), "OpenSSL accepts the signature")
        (self.folder / "contract.txt").write_text("I owe you everything.\n")
        self.command(*check, fails=True)
        must(True, "and refuses it for another text")

    def build_authority(self) -> None:
        """Root and intermediate, both keys born in the HSM; a role; certificates."""
        for mount, ttl in (("root", "87600h"), ("mesh", "43800h")):
            self.command(
                "bao", "secrets", "enable", f"-path={mount}", f"-max-lease-ttl={ttl}", "pki", quiet=True
            )
        self.command(
            "bao",
            "write",
            "root/root/generate/internal",
            "common_name=Demo Root",
            "key_type=ec",
            "ttl=87600h",
            quiet=True,
        )
        csr = self.field(
            "csr",
            "bao",
            "write",
            "mesh/intermediate/generate/internal",
            "common_name=Demo Mesh",
            "key_type=ec",
        )
        (self.folder / "mesh.csr").write_text(csr)
        signed = self.field(
            "certificate", "bao", "write", "root/root/sign-intermediate", "csr=@mesh.csr", "ttl=43800h"
        )
        (self.folder / "roots.pem").write_text(self.pem("root/ca/pem"))
        (self.folder / "mesh.pem").write_text(signed + "\n" + (self.folder / "roots.pem").read_text())
        self.command("bao", "write", "mesh/intermediate/set-signed", "certificate=@mesh.pem", quiet=True)
        self.command(
            "bao",
            "write",
            "mesh/roles/service",
            "allowed_domains=svc.demo.test",
            "allow_subdomains=true",
            "key_type=ec",
        )
        self.issue("billing", "billing.svc.demo.test")
        self.command("openssl", "x509", "-in", "billing.pem", "-noout", "-subject", "-issuer", "-dates")
        self.command(
            "openssl",
            "verify",
            "-x509_strict",
            "-CAfile",
            "roots.pem",
            "-untrusted",
            "mesh.pem",
            "billing.pem",
        )
        must(True, "OpenSSL accepts the chain under strict rules")

    def pem(self, path: str) -> str:
        """A document that the authority publishes."""
        return str(self.hvac.adapter.get(f"/v1/{path}").text).rstrip() + "\n"

    def issue(self, file: str, name: str) -> str:
        """A certificate with its chain and key, in files."""
        issued = self.hvac.secrets.pki.generate_certificate("service", name, mount_point="mesh")["data"]
        (self.folder / f"{file}.pem").write_text(f"{issued['certificate']}\n{issued['issuing_ca']}\n")
        (self.folder / f"{file}.key").write_text(issued["private_key"])
        console.print(f"  issued {name}, serial {issued['serial_number']}", markup=False)
        serial: str = issued["serial_number"]
        return serial

    def connect(self) -> None:
        """A real mutual TLS connection, and its end when the certificate is revoked."""
        self.issue("server", "www.svc.demo.test")
        serial = self.issue("billing", "billing.svc.demo.test")
        self.publish_crls()
        self.nginx.put(
            server_pem=(self.folder / "server.pem").read_text(),
            server_key=(self.folder / "server.key").read_text(),
            clients_pem=(self.folder / "roots.pem").read_text(),
        )
        self.nginx.start()
        visit = self.visit()
        must(GREETING in visit, "nginx knows the client by its certificate")
        self.command("bao", "write", "mesh/revoke", f"serial_number={serial}")
        self.publish_crls()
        self.nginx.reload()
        must(GREETING not in self.visit(), "after the revocation nginx refuses the client by the CRL")

    def publish_crls(self) -> None:
        """The CRLs of both authorities, where nginx reads them."""
        self.nginx.put(crl_pem=self.pem("root/crl/pem") + self.pem("mesh/crl/pem"))

    def visit(self) -> str:
        """Curl with the client certificate."""
        host = f"https://www.svc.demo.test:{self.nginx.port}/"
        resolve = f"www.svc.demo.test:{self.nginx.port}:127.0.0.1"
        words = ["curl", "-s", "--noproxy", "*", "--resolve", resolve, "--cacert", "roots.pem"]
        return self.command(*words, "--cert", "billing.pem", "--key", "billing.key", host)

    def be_denied(self) -> None:
        """A token may do what its policy says, and nothing else."""
        (self.folder / "clerk.hcl").write_text(
            'path "transit/encrypt/files" {\n  capabilities = ["update"]\n}\n'
        )
        self.command("bao", "policy", "write", "clerk", "clerk.hcl")
        token = self.field("token", "bao", "token", "create", "-policy=clerk", "-ttl=10m")
        root = self.bao.environment["BAO_TOKEN"]
        self.bao.environment["BAO_TOKEN"] = token
        self.command("bao", "write", "transit/encrypt/files", "plaintext=aGVsbG8=")
        denied = self.command(
            "bao", "write", "transit/decrypt/files", f"ciphertext={self.data_key}", fails=True
        )
        self.bao.environment["BAO_TOKEN"] = root
        must("permission denied" in denied, "the clerk may encrypt, and may not decrypt")

    def verify_the_log(self) -> None:
        """Offline, from public keys only, after the server stopped."""
        self.server.stop()
        check = ["keystead", "audit", "verify", "--trust", "trusted.pub", str(self.server.audit)]
        self.command(*check)
        must(True, "the audit log is complete and in order")
        segment = max((self.server.audit / "segments").iterdir(), key=lambda path: path.stat().st_size)
        data = bytearray(segment.read_bytes())
        data[len(data) // 2] ^= 1
        segment.write_bytes(data)
        console.print(f"  one bit of byte {len(data) // 2} of {segment.name} flipped", markup=False)
        self.command(*check, fails=True)
        must(True, "and the flipped byte is found")

    def clean_up(self) -> None:
        """Stop what runs."""
        self.nginx.stop()
        self.server.stop()
        self.hvac.adapter.close()


STEPS: list[tuple[str, Callable[[Demo], None]]] = [
    ("Start: a token, a root key in the HSM, a server", Demo.start),
    ("Encrypt a file through a data key", Demo.encrypt_a_file),
    ("Rotate the key and the root; the data stays as it is", Demo.rotate),
    ("Sign with a key that never leaves the HSM", Demo.sign),
    ("Build a certificate authority and issue a certificate", Demo.build_authority),
    ("Mutual TLS through nginx, and revocation", Demo.connect),
    ("Be denied by policy", Demo.be_denied),
    ("Prove what happened", Demo.verify_the_log),
]


def main() -> int:
    """Run all steps in a folder that is removed afterwards."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="keystead-demo-") as name:
        demo = Demo(Path(name))
        try:
            for number, (title, step) in enumerate(STEPS, 1):
                console.print(f"\n[bold cyan]{number}. {title}[/]")
                step(demo)
        except (DemoError, AssertionError, hvac.exceptions.VaultError) as error:
            console.print("\n[bold red]The demo failed:[/]", str(error), markup=True)
            console.print(demo.server.tail(), markup=False)
            return 1
        finally:
            demo.clean_up()
    console.print(f"\n[bold green]Success:[/] {len(STEPS)} steps in {time.monotonic() - began:.0f} seconds.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
