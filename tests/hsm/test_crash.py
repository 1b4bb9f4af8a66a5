"""H4: what a killed process acknowledged is in the token; what it did not is an orphan that can be found."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kms.clock import SystemClock
from kms.errors import ErrorKind, KmsError
from kms.hsm import HsmConfig, KeySpec, Purpose, softhsm_token
from kms.hsm.connection import SENTINEL_ID
from kms.hsm.durable import TokenFolder
from kms.ids import new_cka_id
from tests.hsm.parts import StepClock, make_roots, opened

TRIALS = 6
PROGRAM = """
import sys
from pathlib import Path
from kms.clock import SystemClock
from kms.hsm import Hsm, KeySpec, Purpose, softhsm_token
from kms.ids import new_cka_id
hsm = Hsm.open(softhsm_token(Path(sys.argv[1])), SystemClock())
print("open", flush=True)
while True:
    cka_id = new_cka_id()
    hsm.generate(Purpose.LOG_SIGN, KeySpec.ED25519, cka_id, "crash")
    print(cka_id.hex(), flush=True)
"""


def test_killed_while_generating(tmp_path: Path) -> None:
    config = softhsm_token(tmp_path / "token")
    chance = random.Random(4)  # instants of kills, not secrets
    acknowledged: set[str] = set()
    for _ in range(TRIALS):
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / "token")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            for _ in range(chance.randrange(1, 6)):
                acknowledged.add(process.stdout.readline().strip())
            try:
                process.wait(chance.random() * 0.02)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
            acknowledged |= {line.strip() for line in process.stdout if line.endswith("\n")}
    with opened(config) as hsm:
        hsm.check()
        present = {cka_id.hex() for cka_id, _ in hsm.objects("")} - {SENTINEL_ID.hex()}
        lost, orphans = acknowledged - present, present - acknowledged
        print(f"{len(acknowledged)} acknowledged, {len(lost)} lost, {len(orphans)} orphans")
        assert not lost
        assert len(orphans) <= TRIALS
        for cka_id, _ in hsm.objects("crash"):
            hsm.destroy(cka_id)
        assert hsm.objects("crash") == []


LOGIN = """
import sys
from pathlib import Path
from kms.clock import SystemClock
from kms.hsm import Hsm, softhsm_token
config = softhsm_token(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    Hsm.open(config, SystemClock()).close()
"""


def test_killed_while_logging_in(tmp_path: Path) -> None:
    """SoftHSM rewrites token.object in place at each login; three processes at it, all killed, many times."""
    config = softhsm_token(tmp_path / "token")
    with opened(config) as hsm:
        hsm.generate(Purpose.LOG_SIGN, KeySpec.ED25519, new_cka_id(), "survivor")
    chance = random.Random(5)  # instants of kills, not secrets
    for _ in range(TRIALS):
        command = [sys.executable, "-c", LOGIN, str(tmp_path / "token")]
        crowd = [
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(3)
        ]
        for process in crowd:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        SystemClock().sleep(0.1 + chance.random() * 0.1)
        for process in crowd:
            assert process.poll() is None, process.communicate()[1]
            process.kill()
        for process in crowd:
            process.communicate()
    with opened(config) as hsm:
        hsm.check()
        assert len(hsm.objects("survivor")) == 1


@pytest.mark.parametrize("damage", ["emptied", "gone"])
def test_a_token_emptied_by_a_killed_login_is_put_back(config: HsmConfig, damage: str) -> None:
    with opened(config) as hsm:
        roots = make_roots(hsm)
    (original,) = (config.pin_file.parent / "tokens").glob("*/token.object")
    whole = original.read_bytes()
    if damage == "emptied":
        original.write_bytes(b"")
    else:
        original.unlink()
    with opened(config) as hsm:
        assert all(hsm.exists(cka_id) for cka_id in roots.values())
    assert len(original.read_bytes()) == len(whole)


def test_a_token_that_was_never_opened_cannot_be_put_back(config: HsmConfig) -> None:
    (original,) = (config.pin_file.parent / "tokens").glob("*/token.object")
    for backup in original.parent.glob("token.backup"):
        backup.unlink()
    original.write_bytes(b"")
    with pytest.raises(KmsError, match="0 tokens have the label"), opened(config):
        pass


def test_logins_take_turns(config: HsmConfig) -> None:
    folder = TokenFolder(config.softhsm2_conf)
    with (
        folder.exclusive(StepClock()),
        pytest.raises(KmsError, match="too long") as caught,
        opened(config, StepClock()),
    ):
        pass
    assert caught.value.kind is ErrorKind.HSM_UNAVAILABLE
    with opened(config) as hsm:
        hsm.check()
