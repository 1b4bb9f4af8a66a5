"""A server on two SoftHSM tokens of one module, either of which can be taken away."""

from __future__ import annotations

from collections.abc import Callable

from kms.audit.note import read_checkpoint
from kms.hsm import HsmConfig, find_softhsm_module
from tests.harness.dev import ConfiguredServer
from tests.harness.processes import wait_for
from tests.hsm.parts import Pulled, further_token

FIRST, SECOND = "keystead", "second"


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
        """Enrol the second token, and wait until the first one's signature vouches for its log key."""
        with self.api() as api:
            api.ok("POST", f"sys/hsm/tokens/{SECOND}")
        wait_for(self._vouched, 30, "the second log key")

    def _vouched(self) -> bool:
        lines = (self.audit / "log" / "leaves.jsonl").read_bytes().splitlines()
        named = [number for number, line in enumerate(lines, 1) if line.startswith(b'{"control":"signer"')]
        size = read_checkpoint((self.audit / "checkpoint").read_bytes()).size
        return bool(named) and named[0] <= size

    def wait_back(self) -> None:
        """Until no worker misses a token, as far as many looks can tell."""

        def answers() -> bool:
            with self.api() as api:  # a connection of its own: the next worker takes it
                shown = api.ok("GET", "sys/hsm/tokens")["tokens"].values()
            return all(token["answers"] is not False for token in shown)

        def back() -> bool:
            return all(answers() for _ in range(24))

        wait_for(back, 60, "both tokens")
