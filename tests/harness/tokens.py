"""A server on two SoftHSM tokens of one module, either of which can be taken away."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from kms.audit.note import read_checkpoint
from kms.hsm import HsmConfig, find_softhsm_module
from tests.harness.dev import ConfiguredServer
from tests.harness.processes import wait_for
from tests.harness.workers import Line, one_to_each
from tests.hsm.parts import Pulled, further_token

FIRST, SECOND = "keystead", "second"


class CopiedToken(ConfiguredServer):
    """A token and a place for a copy of it, which is another module's: SoftHSM cannot hold two tokens of one serial."""

    copy: Path
    first: HsmConfig

    def prepare(self, change: Callable[[str], str] = lambda text: text) -> None:
        """Make the first token and the configuration of both."""
        super().prepare(change)
        folder = next(self.data.rglob("softhsm2.conf")).parent
        self.first = HsmConfig(find_softhsm_module(), FIRST, folder / "pin", folder / "softhsm2.conf")
        self.copy = self.folder / "copy"
        (self.copy / "tokens").mkdir(parents=True)
        module, conf = self.copy / "copied-softhsm.so", self.copy / "softhsm2.conf"
        shutil.copy(find_softhsm_module(), module)
        conf.write_text(f"directories.tokendir = {self.copy}/tokens\n")
        with self.configuration.open("a") as file:
            file.write(
                f'\n[[hsm.others]]\nname = "copy"\nmodule = "{module}"\ntoken_label = "{FIRST}"\n'
                f'pin_file = "{self.first.pin_file}"\nsofthsm2_conf = "{conf}"\nrelation = "same-keys"\n'
            )

    def vendor_copies(self) -> None:
        """What a vendor's cloning does: every object of the first token is in the copy."""
        source = self.first.pin_file.parent / "tokens"
        shutil.copytree(source, self.copy / "tokens", dirs_exist_ok=True)


class TwoTokens(ConfiguredServer):
    """The second token is initialised and in the configuration, not enrolled."""

    configs: dict[str, HsmConfig]

    def prepare(self, change: Callable[[str], str] = lambda text: text) -> None:
        """Make both tokens and the configuration."""
        super().prepare(change)
        folder = next(self.data.rglob("softhsm2.conf")).parent
        module = find_softhsm_module()
        first = HsmConfig(module, FIRST, folder / "pin", folder / "softhsm2.conf")
        second = further_token(first, SECOND)
        self.configs = {FIRST: first, SECOND: second}
        with self.configuration.open("a") as file:
            file.write(
                f'\n[[hsm.others]]\nmodule = "{module}"\ntoken_label = "{SECOND}"\npin_file = "{second.pin_file}"\n'
                f'softhsm2_conf = "{second.softhsm2_conf}"\nrelation = "own-keys"\n'
            )

    def pulled(self, name: str) -> Pulled:
        """Takes this token away and puts it back."""
        return Pulled(self.configs[name])

    def enrol(self) -> None:
        """Enrol the second token."""
        with self.api() as api:
            api.ok("POST", f"sys/hsm/tokens/{SECOND}")

    def wait_vouched(self) -> None:
        """Until the first token's signature vouches for the second's log key."""
        wait_for(self._vouched, 30, "the second log key")

    def _vouched(self) -> bool:
        leaves, checkpoint = self.audit / "log" / "leaves.jsonl", self.audit / "checkpoint"
        if not (leaves.exists() and checkpoint.exists()):
            return False  # the jobs process has not come to it yet
        lines = leaves.read_bytes().splitlines()
        named = [number for number, line in enumerate(lines, 1) if line.startswith(b'{"control":"signer"')]
        size = read_checkpoint(checkpoint.read_bytes()).size
        return bool(named) and named[0] <= size

    def wait_back(self) -> None:
        """Until no worker misses a token."""
        lines = one_to_each(self, self.workers)

        def answers(line: Line) -> bool:
            status, said = line.ask("GET", "/v1/sys/hsm/tokens", known=True)
            assert status == 200, said
            return all(token["answers"] is not False for token in json.loads(said)["data"]["tokens"].values())

        wait_for(lambda: all(answers(line) for line in lines), 60, "both tokens")
        for line in lines:
            line.close()
