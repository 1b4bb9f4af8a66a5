"""Private tokens for tests.

SoftHSM keeps its state per shared object, so a copy of the module in a folder of its own is a module of its own: tests
can open, break and lose a token without touching the one that other tests of the process use.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from kms.clock import Clock, SystemClock
from kms.errors import ErrorKind, KmsError
from kms.hsm import Hsm, HsmConfig, KeySpec, Purpose, find_softhsm_module, softhsm_token
from kms.hsm.templates import WRAPS
from kms.ids import CkaId, new_cka_id

SPY_CALL = re.compile(r"^\d+: (C_\w+)$", re.MULTILINE)
SPY_PLACES = ("/usr/lib/x86_64-linux-gnu/pkcs11-spy.so", "/usr/lib/x86_64-linux-gnu/pkcs11/pkcs11-spy.so")


def private_token(folder: Path) -> HsmConfig:
    """A new token in `folder`, with a module that nobody else in this process uses."""
    config = softhsm_token(folder / "token")
    module = folder / "private-softhsm.so"
    shutil.copy(find_softhsm_module(), module)
    return replace(config, module=module)


def further_token(config: HsmConfig, label: str, pin: Path | None = None) -> HsmConfig:
    """One more token in the same module and folder, under a PIN of its own unless the file of one is given."""
    if pin is None:
        pin = config.pin_file.parent / f"{label}.pin"
        pin.touch(0o600)
        pin.write_text(f"{label} 1234\n", "utf-8")
    command = [sys.executable, "-m", "kms.hsm.newtoken", str(config.module), label, str(pin)]
    environment = {**os.environ, "SOFTHSM2_CONF": str(config.softhsm2_conf)}
    subprocess.run(command, check=True, env=environment, timeout=60)
    return replace(config, token_label=label, pin_file=pin)


def token_folder(config: HsmConfig) -> Path:
    """Where SoftHSM keeps this token among others. A process that logs in writes that file anew, not in one step."""
    patience = time.monotonic() + 10
    while True:
        found = [
            path.parent
            for path in (config.pin_file.parent / "tokens").glob("*/token.object")
            if config.token_label.encode().ljust(32) in path.read_bytes()
        ]
        if len(found) == 1:
            return found[0]
        assert time.monotonic() < patience, f"tokens with this label: {found}"
        time.sleep(0.02)


def eventually(call: Callable[[], object]) -> None:
    """Until the HSM answers."""
    end = time.monotonic() + 60
    while True:
        try:
            call()
        except KmsError as error:
            if error.kind is not ErrorKind.HSM_UNAVAILABLE or time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


class Pulled:
    """Takes one of several tokens of a folder away and puts it back."""

    def __init__(self, config: HsmConfig) -> None:
        self.here = token_folder(config)
        self.away = self.here.parent.parent / f"away-{config.token_label}"

    def vanish(self) -> None:
        self.here.rename(self.away)

    def come_back(self) -> None:
        self.away.rename(self.here)


@contextmanager
def opened(config: HsmConfig, clock: Clock | None = None) -> Iterator[Hsm]:
    """An Hsm that is closed at the end."""
    hsm = Hsm.open(config, clock or SystemClock())
    try:
        yield hsm
    finally:
        hsm.close()


def make_roots(hsm: Hsm) -> dict[Purpose, CkaId]:
    """One root key of each kind."""
    roots = {purpose: new_cka_id() for purpose in (Purpose.ROOT_SEAL, *WRAPS)}
    for purpose, cka_id in roots.items():
        hsm.generate(purpose, KeySpec.AES_256, cka_id, f"test {purpose}")
    return roots


class StepClock:
    """A clock that tests move by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class Vanishing:
    """Takes a token's files away and puts them back, as a pulled-out HSM would."""

    def __init__(self, config: HsmConfig) -> None:
        self.here = config.pin_file.parent / "tokens"
        self.away = config.pin_file.parent / "away"

    def vanish(self) -> None:
        self.here.rename(self.away)
        self.here.mkdir()

    def come_back(self) -> None:
        self.here.rmdir()
        self.away.rename(self.here)


def run_python(
    program: str, *arguments: object, environment: dict[str, str] | None = None, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run a program in an interpreter of its own; it finds `config` made from its first argument, a token folder."""
    head = """
        import sys
        from pathlib import Path
        from kms.clock import SystemClock
        from kms.hsm import Hsm, KeySpec, Purpose, Resident, Scheme, softhsm_token
        from kms.ids import new_cka_id
        config = softhsm_token(Path(sys.argv[1]))
    """
    text = textwrap.dedent(head) + textwrap.dedent(program)
    command = [sys.executable, "-c", text, *(str(each) for each in arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False, env=environment
    )


class Spy:
    """OpenSC's pkcs11-spy.so between Keystead and SoftHSM, for a program in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "spy.log"
        self.module = next(place for place in SPY_PLACES if Path(place).exists())

    @property
    def environment(self) -> dict[str, str]:
        """For run_python: softhsm_token then names the spy as its module."""
        return {
            **os.environ,
            "KEYSTEAD_SOFTHSM_MODULE": self.module,
            "PKCS11SPY": str(find_softhsm_module()),
            "PKCS11SPY_OUTPUT": str(self.log),
        }

    @property
    def text(self) -> str:
        """The log so far."""
        return self.log.read_text("utf-8", "replace")

    def count(self, call: str) -> int:
        """How often a function was called."""
        return SPY_CALL.findall(self.text).count(call)
