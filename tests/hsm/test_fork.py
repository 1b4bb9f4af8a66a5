"""H2 and T-09b: a forked child never uses its parent's sessions, and opens its own."""

from __future__ import annotations

from pathlib import Path

from kms.hsm import softhsm_token
from tests.hsm.parts import run_python

FORK = """
import os, sys
from kms.errors import KmsError

hsm = Hsm.open(config, SystemClock())
pair = Resident(new_cka_id(), Purpose.KEY_SIGN, KeySpec.ED25519)
hsm.generate(pair.purpose, pair.spec, pair.cka_id, "pair")

def child():
    for call in (hsm.check, lambda: hsm.sign(pair, Scheme.EDDSA, b"m"), lambda: hsm.exists(pair.cka_id)):
        try:
            call()
            return "the child used its parent's session"
        except KmsError as error:
            if error.kind != "hsm_unavailable" or "fork" not in error.detail:
                return f"{error.kind} {error.detail}"
    hsm.close()
    for _ in range(3):
        own = Hsm.open(config, SystemClock())
        own.check()
        if len(own.sign(pair, Scheme.EDDSA, b"m")) != 64:
            return "no signature"
        own.close()
    return "good"

children = []
for _ in range(4):
    pid = os.fork()
    if pid == 0:
        answer = child()
        if answer != "good":
            print(answer, flush=True)
        os._exit(0 if answer == "good" else 1)
    children.append(pid)
codes = [os.waitpid(pid, 0)[1] for pid in children]
hsm.check()
assert len(hsm.sign(pair, Scheme.EDDSA, b"m")) == 64
print(codes)
"""

MASTER = """
import os, sys
from kms.hsm.module import Module

# What a server does: the master opens nothing, each worker opens after its fork and works with threads of its own.
def worker():
    hsm = Hsm.open(config, SystemClock())
    pair = Resident(new_cka_id(), Purpose.KEY_SIGN, KeySpec.ED25519)
    hsm.generate(pair.purpose, pair.spec, pair.cka_id, "pair")
    for _ in range(20):
        assert len(hsm.sign(pair, Scheme.EDDSA, b"m")) == 64
    hsm.close()

pids = []
for _ in range(4):
    pid = os.fork()
    if pid == 0:
        worker()
        os._exit(0)
    pids.append(pid)
codes = [os.waitpid(pid, 0)[1] for pid in pids]
hsm = Hsm.open(config, SystemClock())
print(codes, len(hsm.objects("pair")), len(hsm.objects("keystead sentinel")) >= 1)
hsm.check()
hsm.close()
"""


def test_the_configuration_asks_for_reset_on_fork(tmp_path: Path) -> None:
    config = softhsm_token(tmp_path / "token")
    assert config.softhsm2_conf is not None
    assert "library.reset_on_fork = true" in config.softhsm2_conf.read_text().splitlines()


def test_children_open_their_own(tmp_path: Path) -> None:
    done = run_python(FORK, tmp_path / "token")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "[0, 0, 0, 0]", done.stdout + done.stderr


def test_four_workers_on_a_fresh_token(tmp_path: Path) -> None:
    """All may make a sentinel at once; whichever remains serves all."""
    done = run_python(MASTER, tmp_path / "token")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[0, 0, 0, 0] 4 True"
