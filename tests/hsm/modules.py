"""Tokens behind other modules than SoftHSM: a process boundary (p11-kit), and NSS softoken.

Each gives an HsmConfig. A module is loaded once per process and by its path, so these are opened in processes of their
own (`tests/hsm/survey_of.py`, `keystead`), or through a copy where the library allows one.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from kms.hsm import HsmConfig, Seal, find_softhsm_module, softhsm_token

P11_KIT_CLIENT = Path("/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so")
NSS_SOFTOKEN = Path("/usr/lib/x86_64-linux-gnu/libsoftokn3.so")
NSS_LABEL = "NSS Certificate DB"
START_SECONDS = 10.0


class FarSide:
    """`p11-kit server`: a SoftHSM token in another process, reached over a socket, as a network HSM is."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.token = softhsm_token(folder / "token")
        self.socket = folder / "socket"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def config(self) -> HsmConfig:
        """How this process reaches it."""
        address = ("P11_KIT_SERVER_ADDRESS", f"unix:path={self.socket}")
        variables = (address, ("XDG_RUNTIME_DIR", str(self._folder)))
        return replace(
            self.token,
            module=P11_KIT_CLIENT,
            softhsm2_conf=None,
            seal=Seal.RSA_OAEP,
            environment=variables,
        )

    def start(self) -> None:
        """Begin to serve; the token is as it was."""
        self.socket.unlink(missing_ok=True)
        environment = {
            **os.environ,
            "SOFTHSM2_CONF": str(self.token.softhsm2_conf),
            "XDG_RUNTIME_DIR": str(self._folder),
        }
        command = ["p11-kit", "server", "-f", "-n", str(self.socket)]
        command += ["--provider", str(find_softhsm_module()), "pkcs11:"]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.socket.exists():
            assert time.monotonic() < deadline, (self._folder / "server.log").read_text()
            time.sleep(0.02)

    def freeze(self) -> None:
        """It hangs: connections stay, nothing answers."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on where it hung."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """The device is gone at once, with every connection to it: kill -9 of it and of its children."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@contextmanager
def far_side(folder: Path) -> Iterator[FarSide]:
    """A far side that runs, and is gone at the end."""
    far = FarSide(folder)
    far.start()
    try:
        yield far
    finally:
        far.kill()


def nss_token(folder: Path) -> HsmConfig:
    """NSS softoken with a new database. It refuses C_Initialize(NULL) and wants its parameters."""
    database = folder / "nss"
    database.mkdir(parents=True, mode=0o700)
    pin = folder / "nss-pin"
    pin.touch(mode=0o600)
    pin.write_text(secrets.token_hex(12) + "\n")
    arguments = f"configdir='sql:{database}' certPrefix='' keyPrefix='' secmod='' flags="
    config = HsmConfig(
        NSS_SOFTOKEN, NSS_LABEL, pin, seal=Seal.RSA_OAEP, init_args=arguments, omit=("copyable", "local")
    )
    # In a process of its own: it sets the PIN once, and the module stays out of this process.
    program = "import sys; from tests.hsm.modules import set_nss_pin; set_nss_pin(sys.argv[1], sys.argv[2])"
    subprocess.run([sys.executable, "-c", program, arguments, str(pin)], check=True, timeout=60)
    return config


def set_nss_pin(arguments: str, pin_file: str) -> None:
    """C_InitPIN of a fresh NSS database: the officer's PIN is empty there."""
    from kms.hsm.module import Module  # noqa: PLC0415  (only in the process that does this)

    module = Module(NSS_SOFTOKEN, {}, arguments)
    token = next(each for each in module.library.get_tokens() if str(each.label) == NSS_LABEL)
    session = token.open(rw=True, so_pin="")
    session.init_pin(Path(pin_file).read_text().strip())
    session.close()
    module.close()


def available() -> dict[str, bool]:
    """Which of them are installed here."""
    return {
        "softhsm": True,
        "p11-kit": P11_KIT_CLIENT.exists() and shutil.which("p11-kit") is not None,
        "nss": NSS_SOFTOKEN.exists(),
    }
