"""Threads on one token: `python -m tests.hsm.hammer FOLDER SECONDS MODE THREADS`, run by test_threads.py.

MODE `guarded` is the shipped code; `naked` leaves out the initialisation with OS locking, so that SoftHSM believes that it has
one thread; `refused` lets the module refuse OS locking, so that the pool of one must do. Prints the number of calls; any
error ends the process.
"""

from __future__ import annotations

import os
import secrets
import sys
import threading
from pathlib import Path
from typing import Any

from kms.clock import SystemClock
from kms.hsm import Hsm, KeySpec, Purpose, Resident, Scheme, Wrapped, softhsm_token
from kms.hsm.module import Module
from kms.hsm.public import verify_proof
from kms.ids import new_cka_id
from tests.hsm.parts import make_roots

CKR_CANT_LOCK = 0xA


def without_protection() -> None:
    """What python-pkcs11 does by itself: C_Initialize(NULL) and no lock."""

    def restart(module: Module) -> None:
        module.os_locking = True  # a lie

    setattr(Module, "restart", restart)  # noqa: B010  # a plain assignment does not type-check


def without_os_locking() -> None:
    """A module that cannot lock."""
    honest = Module.restart

    def restart(module: Module) -> None:
        initialize = module._initialize
        refusing: Any = lambda arguments: CKR_CANT_LOCK if arguments else initialize(None)  # noqa: E731  # takes a function's place
        module._initialize = refusing
        honest(module)
        module._initialize = initialize

    setattr(Module, "restart", restart)  # noqa: B010  # a plain assignment does not type-check


def work(hsm: Hsm, keys: list[Wrapped], pair: Resident, spki: bytes, until: float, done: list[int]) -> None:
    """Every kind of call, until the time is over; a wrong answer ends the process."""
    clock, count = SystemClock(), 0
    aes, mac, ec = keys
    while clock.monotonic() < until:
        plain, nonce = secrets.token_bytes(64), secrets.token_bytes(12)
        good = hsm.decrypt(aes, nonce, hsm.encrypt(aes, nonce, plain, b"a"), b"a") == plain
        good = good and hsm.mac(mac, "sha256", plain) == hsm.mac(mac, "sha256", plain)
        good = good and verify_proof(ec.public, ec.spec, plain[:32], hsm.sign(ec, Scheme.ECDSA, plain[:32]))
        good = good and verify_proof(spki, pair.spec, plain, hsm.sign(pair, Scheme.EDDSA, plain))
        if not good:
            sys.stderr.write("wrong answer\n")
            os._exit(3)
        count += 6
        if count % 240 == 0:
            hsm.retire_unused(keep=1)
            hsm.check()
    done.append(count)


def main(folder: Path, seconds: float, mode: str, count: int) -> int:
    """Hammer; the exit code is 0 only if every thread came to its end."""
    config = softhsm_token(folder)
    if mode == "naked":
        without_protection()
    elif mode == "refused":
        without_os_locking()
    hsm = Hsm.open(config, SystemClock())
    roots = make_roots(hsm)
    keys = [
        hsm.generate_wrapped(Purpose.KEY_ENC, KeySpec.AES_256, roots[Purpose.ROOT_WRAP_ENC], b"c"),
        hsm.generate_wrapped(Purpose.KEY_MAC, KeySpec.HMAC, roots[Purpose.ROOT_WRAP_MAC], b"c"),
        hsm.generate_wrapped(Purpose.KEY_SIGN, KeySpec.EC_P256, roots[Purpose.ROOT_WRAP_SIGN], b"c"),
    ]
    pair = Resident(new_cka_id(), Purpose.KEY_SIGN, KeySpec.ED25519)
    spki = hsm.generate(pair.purpose, pair.spec, pair.cka_id, "hammer")
    done: list[int] = []
    until = SystemClock().monotonic() + seconds
    arguments = (hsm, keys, pair, spki, until, done)
    threads = [threading.Thread(target=work, args=arguments) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.stdout.write(f"{hsm.info.os_locking} {len(done)} {sum(done)}\n")
    hsm.close()
    return 0 if len(done) == count else 4


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
