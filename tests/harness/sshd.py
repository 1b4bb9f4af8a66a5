"""A private sshd on loopback that trusts one CA, and the ssh client with files of its own."""

from __future__ import annotations

import getpass
import os
import subprocess
from pathlib import Path

from tests.harness import processes

CONFIGURATION = """
Port {port}
ListenAddress 127.0.0.1
AddressFamily inet
HostKey {folder}/host
{host_certificate}
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
AuthorizedKeysFile none
AuthorizedPrincipalsFile {folder}/principals
TrustedUserCAKeys {folder}/user-ca.pub
RevokedKeys {folder}/krl
PermitRootLogin yes
LogLevel VERBOSE
"""


class Sshd:
    """The current user may log in with a certificate whose principal is one of those given.

    Args:
        folder: private.
        user_ca: the CA's public key line.
        principals: names that stand for the user.
    """

    def __init__(self, folder: Path, user_ca: str, principals: list[str]) -> None:
        self.folder = folder
        self.port = processes.free_port()
        self.user = getpass.getuser()
        self.log = folder / "sshd.log"
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "user-ca.pub").write_text(user_ca)
        (folder / "principals").write_text("".join(f"{name}\n" for name in principals))
        self.revoke_none()
        keygen(folder / "host")

    def revoke_none(self) -> None:
        """An empty KRL: sshd refuses everybody when the file is missing."""
        subprocess.run(["ssh-keygen", "-q", "-k", "-f", self.folder / "krl"], check=True)

    def start(self, host_certificate: str = "") -> None:
        """Start and wait until it accepts connections."""
        line = ""
        if host_certificate:
            (self.folder / "host-cert.pub").write_text(host_certificate)
            line = f"HostCertificate {self.folder}/host-cert.pub"
        configuration = self.folder / "sshd_config"
        configuration.write_text(
            CONFIGURATION.format(port=self.port, folder=self.folder, host_certificate=line)
        )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's own; elsewhere its service makes it
        command = [processes.program("sshd"), "-D", "-e", "-f", str(configuration)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        processes.wait_for(self._up, 15, lambda: f"sshd\n{self.log.read_text()}")

    def _up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        return b"Server listening" in self.log.read_bytes()

    def login(
        self, key: Path, known_hosts: Path, *, host: str = "127.0.0.1", verbose: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """One command over ssh. `key` stands beside `key`-cert.pub."""
        options = {
            "UserKnownHostsFile": str(known_hosts),
            "GlobalKnownHostsFile": "none",
            "StrictHostKeyChecking": "yes",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "BatchMode": "yes",
            "HostKeyAlias": host,
            "ConnectTimeout": "20",
        }
        flags = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        command = [
            "ssh",
            "-F",
            "none",
            *(["-v"] if verbose else []),
            "-p",
            str(self.port),
            "-i",
            str(key),
            *flags,
        ]
        return subprocess.run(
            [*command, f"{self.user}@127.0.0.1", "echo hello from sshd"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def stop(self) -> None:
        """Stop at once."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(15)
            self._process = None


def keygen(path: Path, kind: str = "ed25519", *more: str) -> str:
    """A new key without a passphrase; its public line."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, *more, "-N", "", "-C", "test", "-f", str(path)], check=True
    )
    return path.with_name(f"{path.name}.pub").read_text()


def shown(certificate: str, folder: Path) -> str:
    """What `ssh-keygen -L` prints of a certificate."""
    path = folder / "shown-cert.pub"
    path.write_text(certificate)
    done = subprocess.run(["ssh-keygen", "-L", "-f", str(path)], capture_output=True, text=True, check=True)
    return done.stdout
