"""T-05 and T-06: does an answer, or the time until it, tell what was wrong with a secret?

T-05 asks to decrypt ciphertexts that are wrong in twenty ways, each of the right form, so that only the key can tell.
Status and body must be the same to the byte; the median times of all kinds must lie within 5 % of each other. Kinds
take turns in random order, so that whoever else uses the machine slows all of them.

T-06 is the test of dudect (Reparaz, Balasch, Verbauwhede: "Dude, is my code constant time?", 2016) on the lookup of
tokens: two classes of tokens that nobody has, one differing from a real token in its last four characters only, the
other random; Welch's t of the two classes must stay below 4.5. It calls the function that the road calls, since a network
in between would only hide a difference. And on logins with a wrong password, from outside: names that somebody has
against names that nobody has, which must cost the same Argon2 and the same record of the failure.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import statistics
import sys
import tempfile
import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kms.clock import SystemClock
from kms.errors import KmsError
from kms.identity import TokenService
from kms.identity.keys import new_token
from kms.sensitive import Sensitive
from tests.drills.wire import Wire
from tests.harness.api import Api
from tests.harness.dev import DevServer
from tests.support import make_store

PLAIN = b64encode(bytes(64)).decode()
AAD, OTHER_AAD = (b64encode(text).decode() for text in (b"invoice 4711", b"invoice 4712"))
NONCE, TAG = 12, 16
WITHIN = 0.05
MOST_T = 4.5
KEPT = 0.9  # of each class: the slowest tenth are interruptions, not the code (dudect crops likewise)
WARM_UP = 50
NAMES = 10
CHANGED = 4  # characters of base62: enough for tokens that are all different

Body = dict[str, str]
Damage = Callable[[bytes], bytes]


def _flip(at: int, mask: int = 1) -> Damage:
    return lambda sealed: (
        sealed[:at] + bytes([sealed[at] ^ mask]) + sealed[at + 1 :] if at else _first(sealed, mask)
    )


def _first(sealed: bytes, mask: int) -> bytes:
    return bytes([sealed[0] ^ mask]) + sealed[1:]


# Of an AEAD ciphertext: nonce, body, tag. All keep its length.
DAMAGES: dict[str, Damage] = {
    "first bit of the nonce": _flip(0, 0x80),
    "last bit of the nonce": _flip(NONCE - 1),
    "nonce of zeros": lambda s: bytes(NONCE) + s[NONCE:],
    "first bit of the body": _flip(NONCE, 0x80),
    "middle of the body": _flip(NONCE + 32, 0x10),
    "last bit of the body": lambda s: s[: -TAG - 1] + bytes([s[-TAG - 1] ^ 1]) + s[-TAG:],
    "body of zeros": lambda s: s[:NONCE] + bytes(len(s) - NONCE - TAG) + s[-TAG:],
    "last block as CBC padding": lambda s: s[: -TAG - 16] + bytes([16]) * 16 + s[-TAG:],
    "two blocks swapped": lambda s: (
        s[:NONCE] + s[NONCE + 16 : NONCE + 32] + s[NONCE : NONCE + 16] + s[NONCE + 32 :]
    ),
    "first bit of the tag": lambda s: s[:-TAG] + _first(s[-TAG:], 0x80),
    "middle of the tag": lambda s: s[:-8] + _first(s[-8:], 0x10),
    "last bit of the tag": lambda s: s[:-1] + bytes([s[-1] ^ 1]),
    "tag of zeros": lambda s: s[:-TAG] + bytes(TAG),
    "half a tag": lambda s: s[:-8] + bytes(8),
    "random": lambda s: os.urandom(len(s)),
    "one byte moved": lambda s: s[-1:] + s[:-1],
}


@dataclass(frozen=True)
class Case:
    """A kind of key and its wrong ciphertexts, by name."""

    key: str
    kinds: dict[str, Body]


def cases(api: Api, mount: str) -> list[Case]:
    """Keys on a mount, and what is asked of them; twenty kinds each of a software and an `hsm` key."""
    return [_aead(api, mount, "software"), _aead(api, mount, "hsm")]


def _aead(api: Api, mount: str, protection: str) -> Case:
    key, other = f"timed-{protection}", f"other-{protection}"
    for name in (key, other):
        api.ok("POST", f"{mount}/keys/{name}", {"type": "aes256-gcm96", "protection": protection})

    def sealed(name: str) -> tuple[str, bytes]:
        text = api.ok("POST", f"{mount}/encrypt/{name}", {"plaintext": PLAIN, "associated_data": AAD})[
            "ciphertext"
        ]
        return text, b64decode(text.split(":")[2])

    _, foreign = sealed(other)
    first, raw = sealed(key)
    api.ok("POST", f"{mount}/keys/{key}/rotate", {})

    def body(raw: bytes, version: int = 1, aad: str = AAD) -> Body:
        return {"ciphertext": f"vault:v{version}:{b64encode(raw).decode()}", "associated_data": aad}

    kinds = {name: body(damage(raw)) for name, damage in DAMAGES.items()}
    kinds |= {
        "another version": body(raw, version=2),
        "another key": body(foreign),
        "other associated data": body(raw, aad=OTHER_AAD),
        "associated data of zeros": body(raw, aad=b64encode(bytes(12)).decode()),
    }
    assert (
        api.ok("POST", f"{mount}/decrypt/{key}", {"ciphertext": first, "associated_data": AAD})["plaintext"]
        == PLAIN
    )
    return Case(key, kinds)


def oracle(server: DevServer, mount: str, case: Case, samples: int) -> tuple[set[str], dict[str, float]]:
    """(different answers, kind -> median microseconds) of `samples` requests of each kind, in random turns.

    Each time is taken as a share of its turn's median, for a busy machine changes its pace from turn to turn.
    """
    wire = Wire(server.port, server.token)
    answers: set[str] = set()
    took: dict[str, list[float]] = {kind: [] for kind in case.kinds}
    turns: list[float] = []
    order = list(case.kinds)
    try:
        for turn in range(-min(WARM_UP, samples), samples):
            random.shuffle(order)
            times: dict[str, int] = {}
            for kind in order:
                began = time.perf_counter_ns()
                status, body = wire.call("POST", f"{mount}/decrypt/{case.key}", case.kinds[kind])
                times[kind] = time.perf_counter_ns() - began
                answers.add(f"{status} {body}")
            if turn >= 0:
                turns.append(statistics.median(times.values()))
                for kind, spent in times.items():
                    took[kind].append(spent / turns[-1])
    finally:
        wire.close()
    usual = statistics.median(turns) / 1e3
    return answers, {kind: statistics.median(shares) * usual for kind, shares in took.items()}


def apart(medians: dict[str, float]) -> float:
    """How far the slowest kind lies above the quickest, as a share."""
    return max(medians.values()) / min(medians.values()) - 1


def welch(first: list[int], second: list[int]) -> float:
    """Welch's t of two samples, each without its slowest tenth."""
    a, b = (sorted(sample)[: int(len(sample) * KEPT)] for sample in (first, second))
    spread = statistics.variance(a) / len(a) + statistics.variance(b) / len(b)
    return (statistics.fmean(a) - statistics.fmean(b)) / math.sqrt(spread) if spread else 0.0


def race(act: Callable[[str], object], classes: tuple[list[str], list[str]]) -> float:
    """Welch's t of `act` on inputs of two classes of the same size, made beforehand, in an order drawn by lot."""
    order = [(which, given) for which in (0, 1) for given in classes[which]]
    random.shuffle(order)
    took: tuple[list[int], list[int]] = ([], [])
    for which, given in order:
        began = time.perf_counter_ns()
        with suppress(KmsError):
            act(given)
        took[which].append(time.perf_counter_ns() - began)
    return welch(*took)


def lookups(folder: Path, samples: int) -> dict[str, float]:
    """What is compared -> Welch's t, of the lookup of tokens over a real database; `samples` in all."""
    store = make_store(folder)
    key = Sensitive(os.urandom(32))
    tokens = TokenService(store, lambda: key, SystemClock(), lambda: key)
    with store.transaction() as tx:
        real = tokens.create_root(tx)

    def present(token: str) -> object:
        return tokens.authenticate(token, "127.0.0.1")

    present(real)
    count = samples // 2
    # No two alike, as no two of the others are.
    near = [real[:-CHANGED] + new_token()[-CHANGED:] for _ in range(count)]
    others = [[new_token() for _ in range(count)] for _ in range(3)]
    found = {
        f"a real token but for its last {CHANGED} characters, against random ones": race(
            present, (near, others[0])
        ),
        "random ones, against random ones (what the clock itself says)": race(
            present, (others[1], others[2])
        ),
    }
    store.close()
    return found


def logins(server: DevServer, samples: int) -> tuple[set[tuple[int, str]], float]:
    """(the answers, Welch's t) of wrong passwords for names that are there and names that are not; `samples` in all."""
    with server.api() as api:
        api.ok("POST", "sys/auth/timing", {"type": "userpass"})
        # Failures are counted, as they are by default, and lock nothing while this runs.
        api.ok("POST", "sys/auth/timing/tune", {"user_lockout_config": {"lockout_threshold": 2**30}})
        for number in range(NAMES):
            api.ok("POST", f"auth/timing/users/here-{number}", {"password": "right"})
    answers: set[tuple[int, str]] = set()
    with server.api("") as anybody:

        def attempt(name: str) -> None:
            answer = anybody.post(f"auth/timing/login/{name}", {"password": "wrong"})
            answers.add((answer.status, str(answer.errors)))

        for number in range(WARM_UP):
            attempt(f"away-{number % NAMES}")
        here, away = ([f"{word}-{n % NAMES}" for n in range(samples // 2)] for word in ("here", "away"))
        t = race(attempt, (here, away))
    with server.api() as api:
        api.ok("DELETE", "sys/auth/timing")
    return answers, t


def main(arguments: list[str]) -> int:
    """Entry point; 1 if something tells."""
    parser = argparse.ArgumentParser(prog="scripts/timing", description=__doc__)
    parser.add_argument(
        "--samples", type=int, default=2_000, help="of each kind of ciphertext (default: %(default)s)"
    )
    parser.add_argument("--lookups", type=int, default=100_000, help="of tokens (default: %(default)s)")
    parser.add_argument("--logins", type=int, default=2_000, help="that fail (default: %(default)s)")
    given = parser.parse_args(arguments)
    print(f"load of this machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    wrong = []
    with tempfile.TemporaryDirectory(prefix="keystead-timing-") as name:
        folder = Path(name)
        for what, t in lookups(folder / "tokens", given.lookups).items():
            print(f"t = {t:+5.2f} over {given.lookups:,} lookups: {what}", flush=True)
            if abs(t) >= MOST_T:
                wrong.append(f"|t| >= {MOST_T}: {what}")
        server = DevServer(folder / "server", workers=1)
        server.start()
        try:
            told, t = logins(server, given.logins)
            print(
                f"t = {t:+5.2f} over {given.logins:,} failed logins: known names, against unknown ones",
                flush=True,
            )
            if abs(t) >= MOST_T or len(told) != 1:
                wrong.append(f"logins tell who is there: t {t:+.2f}, {told}")
            with server.api() as api:
                api.ok("POST", "sys/mounts/timing", {"type": "transit"})
                asked = cases(api, "timing")
            for case in asked:
                answers, medians = oracle(server, "timing", case, given.samples)
                print(
                    f"{case.key}: {len(case.kinds)} kinds, {given.samples:,} samples each, {len(answers)} answer(s): {answers}"
                )
                for kind, median in sorted(medians.items(), key=lambda item: item[1]):
                    print(f"    {median:8.1f} us  {kind}")
                print(f"    slowest over quickest median: {apart(medians):.1%}", flush=True)
                if len(answers) != 1:
                    wrong.append(f"{case.key}: answers differ")
                if apart(medians) > WITHIN:
                    wrong.append(f"{case.key}: medians lie {apart(medians):.1%} apart")
        finally:
            server.stop()
    print("\n".join(wrong) or "nothing tells")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
