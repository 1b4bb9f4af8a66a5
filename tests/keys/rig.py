"""The parts that tests of keys and operations run on: a real database, a real SoftHSM token.

`Rig.run` is the pipeline without identity, policy and log: it fills in an operation's defaults, and
runs what the handler returns the way kms.pipeline does.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kms.clock import SystemClock
from kms.errors import KmsError
from kms.hsm import Hsm, HsmConfig, KeySpec, Purpose
from kms.ids import CkaId, new_cka_id
from kms.keys import KeyService
from kms.operation import Call, Capability, Change, External, MountRef, Operation, Result
from kms.operations import operations
from kms.storage import RowSealer, SqliteStore
from tests.support import make_sealer, make_store

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
MOUNT = MountRef("mount-1", "transit/", "transit", "transit_00000000")


class StepClock:
    """A clock that moves only when told."""

    def __init__(self) -> None:
        self.seconds = 1_700_000_000.0

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


@contextmanager
def soft_hsm(folder: Path) -> Iterator[Hsm]:
    """A new SoftHSM token, opened and logged in to."""
    tokens = folder / "tokens"
    tokens.mkdir(mode=0o700)
    conf = folder / "softhsm2.conf"
    conf.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n")
    pin = folder / "pin"
    pin.touch(mode=0o600)
    pin.write_text(secrets.token_hex(8))
    subprocess.run(
        [
            "softhsm2-util",
            "--init-token",
            "--free",
            "--label",
            "keys",
            "--pin",
            pin.read_text(),
            "--so-pin",
            "so-pin-1",
        ],
        env={**os.environ, "SOFTHSM2_CONF": str(conf)},
        check=True,
        capture_output=True,
    )
    hsm = Hsm.open(HsmConfig(MODULE, "keys", pin, conf), SystemClock())
    try:
        yield hsm
    finally:
        hsm.close()


class FixedRoots:
    """Wrapping keys made once per token."""

    def __init__(self, hsm: Hsm) -> None:
        purposes = (Purpose.ROOT_WRAP_ENC, Purpose.ROOT_WRAP_MAC, Purpose.ROOT_WRAP_SIGN)
        self._ids = {purpose: new_cka_id() for purpose in purposes}
        for purpose, cka_id in self._ids.items():
            hsm.generate(purpose, KeySpec.AES_256, cka_id, f"keystead {purpose.value} v1")

    def current(self, purpose: Purpose) -> CkaId:
        return self._ids[purpose]

    def candidates(self, purpose: Purpose) -> list[CkaId]:
        return [self.current(purpose)]


class NoHsm:
    """For tests of software keys: any use of the HSM is a failure of the test."""

    def __call__(self) -> Hsm:
        raise AssertionError("a software key used the HSM")

    def candidates(self, _purpose: Purpose) -> list[CkaId]:
        raise AssertionError("a software key used a root")


@dataclass
class Rig:
    """One key service on one database."""

    folder: Path
    hsm: Callable[[], Hsm]
    roots: Any
    sealer: RowSealer = field(default_factory=make_sealer)
    clock: StepClock = field(default_factory=StepClock)

    def __post_init__(self) -> None:
        self.store: SqliteStore = make_store(self.folder, self.sealer)
        self.service = KeyService(self.store, self.hsm, self.roots, "instance-1", self.clock)
        self.table: dict[str, Operation] = {o.name: o for o in operations(self.service)}
        self.steps: list[str] = []

    def call(self, operation: str, mount: MountRef = MOUNT, **args: Any) -> Call:
        """A call with the operation's defaults filled in, as a door makes it."""
        found = self.table[f"transit.{operation}"]
        values = {f.name: f.default for f in found.fields} | args
        call = Call(found, "transit/x", mount, values, "id", "peer", "test", given=frozenset(args))
        call.capability = found.capability
        if found.exists is not None and not found.exists(call):
            call.capability = Capability.CREATE
        return call

    def result(self, operation: str, mount: MountRef = MOUNT, **args: Any) -> Result:
        """Run one operation as the pipeline does, but for identity, policy and the log."""
        self.store.refresh()
        call = self.call(operation, mount, **args)
        outcome = call.operation.act(call)
        if isinstance(outcome, Result):
            self.steps = ["result"]
            return outcome
        if isinstance(outcome, Change):
            self.steps = ["change"]
            with self.store.transaction() as tx:
                return outcome.write(tx)
        return self.external(outcome)

    def external(self, outcome: External[Any]) -> Result:
        """Intent, act, outcome."""
        self.steps = ["intent"]
        assert outcome.begin is not None
        with self.store.transaction() as tx:
            outcome.begin(tx)
        try:
            done = outcome.perform()
            self.steps.append("perform")
            with self.store.transaction() as tx:
                return outcome.conclude(tx, done)
        except KmsError as error:
            self.steps.append("abandon")
            with self.store.transaction() as tx:
                outcome.abandon(tx, error)
            raise

    def run(self, operation: str, **args: Any) -> dict[str, Any]:
        """The data of the answer."""
        return dict(self.result(operation, **args).data or {})

    def create(self, name: str, type_: str = "aes256-gcm96", **args: Any) -> dict[str, Any]:
        """Make a key; its object."""
        return self.run("keys.create", name=name, type=type_, **args)

    def another(self) -> Rig:
        """A second process's view of the same database."""
        return Rig(self.folder, self.hsm, self.roots, self.sealer, self.clock)
