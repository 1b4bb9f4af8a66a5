"""Guessing tokens, passwords, secret IDs and codes, in every spelling (T-43): is anything let in, told apart, or unlocked?

    (1) wrong tokens: random ones, and a good one truncated, lengthened, in other case, with blanks, in other letters
    (2) wrong passwords under one name in every case, with blanks and lookalike letters
    (3) wrong secret IDs of one role
    (4) wrong codes of one person's second factor, the good one in other spellings among them

Each guess goes over a connection that may land on any worker. The answers to wrong tokens must be one answer, byte by
byte; of the names' guesses no more than the threshold may be looked at; and the right secret must be refused after.
"""

from __future__ import annotations

import argparse
import random
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pyotp

from tests.harness.api import Api
from tests.harness.dev import DevServer

THRESHOLD = 5
PER_CONNECTION = 25
LOOKALIKES = {"a": "\u0430", "k": "\u212a", "s": "\u017f", "o": "\uff4f"}


def spellings(text: str, chooser: random.Random) -> str:
    """Another way to write something, in one of many."""
    flipped = "".join(char.swapcase() if chooser.random() < 0.5 else char for char in text)
    at = chooser.randrange(len(text))
    ways = (
        flipped,
        text.upper(),
        f" {text}",
        f"{text} ",
        f"{text[:at]} {text[at:]}",
        "".join(LOOKALIKES.get(char, char) for char in text),
        f"{text}\u200b",
        text[:at] + text[at + 1 :],
        text + text[at],
    )
    return chooser.choice(ways)


def wrong_tokens(good: str, count: int, chooser: random.Random) -> Iterator[str]:
    """So many strings that are not the good token."""
    for number in range(count):
        if number % 3 == 0:
            yield "hvs." + secrets.token_urlsafe(18)[:24]
        elif number % 3 == 1:
            yield "hvb." + secrets.token_urlsafe(chooser.randrange(20, 200))
        else:
            other = spellings(good, chooser).strip()
            # A header is Latin-1; blanks at its ends belong to the line and not to the token.
            yield other if other != good else other[:-1]


def guess_tokens(server: DevServer, good: str, count: int, chooser: random.Random) -> list[str]:
    """Part 1; what is wrong."""
    said: Counter[tuple[int, bytes]] = Counter()
    for offset in range(0, count, PER_CONNECTION):
        with server.api("") as api:
            for token in wrong_tokens(good, min(PER_CONNECTION, count - offset), chooser):
                header = {"X-Vault-Token": token.encode("utf-8")}
                answer = api.call("GET", "auth/token/lookup-self", headers=header)
                said[answer.status, answer.content] += 1
    print(f"{count:,} wrong tokens: {len(said)} different answer(s), {sum(said.values()):,} in all")
    wrong = [] if set(said) == {(403, b'{"errors":["permission denied"]}\n')} else [f"wrong tokens: {said}"]
    with server.api(good) as api:
        if api.get("auth/token/lookup-self").status != 200:
            wrong.append("the good token is refused")
    return wrong


def guess(server: DevServer, what: str, requests: Iterator[tuple[str, dict[str, str]]]) -> Counter[int]:
    """Statuses of many logins, a few over each connection."""
    said: Counter[int] = Counter()
    api: Api | None = None
    for number, (path, body) in enumerate(requests):
        if api is None or number % PER_CONNECTION == 0:
            if api is not None:
                api.close()
            api = server.api("")
        said[api.post(path, body).status] += 1
    if api is not None:
        api.close()
    print(f"{sum(said.values()):,} wrong {what}: {dict(said)}")
    return said


def guess_passwords(server: DevServer, count: int, chooser: random.Random) -> list[str]:
    """Part 2; what is wrong."""
    path, name, password = f"guess-{secrets.token_hex(3)}", "kasko", secrets.token_hex(8)
    with server.api() as api:
        api.ok("POST", f"sys/auth/{path}", {"type": "userpass"})
        api.ok("POST", f"auth/{path}/users/{name}", {"password": password})

    def all_guesses() -> Iterator[tuple[str, dict[str, str]]]:
        for _ in range(count):
            asked = quote(name if chooser.random() < 0.3 else spellings(name, chooser))
            yield (
                f"auth/{path}/login/{asked}",
                {"password": chooser.choice((password.upper(), f" {password}", "x"))},
            )

    guess(server, "passwords under one name in many spellings", all_guesses())
    with server.api("") as api:
        if api.post(f"auth/{path}/login/{name}", {"password": password}).status != 403:
            return ["a name that was guessed at is open"]
    with server.api() as api:
        api.ok("POST", f"sys/locked-users/{api.get(f'sys/auth/{path}').data['accessor']}/unlock/{name}")

    def plain() -> Iterator[tuple[str, dict[str, str]]]:
        for _ in range(max(THRESHOLD * 3, count // 10)):
            case = "".join(char.swapcase() if chooser.random() < 0.5 else char for char in name)
            yield f"auth/{path}/login/{case}", {"password": "x"}

    said = guess(server, "passwords under one name in upper and lower case", plain())
    return [] if said[400] == THRESHOLD and set(said) == {400, 403} else [f"passwords: {said}"]


def guess_secrets(server: DevServer, count: int, chooser: random.Random) -> list[str]:
    """Part 3; what is wrong."""
    path = f"guess-{secrets.token_hex(3)}"
    with server.api() as api:
        api.ok("POST", f"sys/auth/{path}", {"type": "approle"})
        api.ok("POST", f"auth/{path}/role/ci", {"token_policies": "default"})
        role_id = api.get(f"auth/{path}/role/ci/role-id").data["role_id"]
        good = api.post(f"auth/{path}/role/ci/secret-id").data["secret_id"]

    def all_guesses() -> Iterator[tuple[str, dict[str, str]]]:
        for _ in range(count):
            secret = spellings(good, chooser)
            yield f"auth/{path}/login", {"role_id": role_id, "secret_id": secret if secret != good else "x"}

    said = guess(server, "secret IDs", all_guesses())
    return [] if said[400] == THRESHOLD and set(said) == {400, 403} else [f"secret IDs: {said}"]


def guess_codes(server: DevServer, count: int, chooser: random.Random) -> list[str]:
    """Part 4; what is wrong."""
    path, methods = f"guess-{secrets.token_hex(3)}", "identity/mfa/method/totp"
    rule = f"identity/mfa/login-enforcement/{path}"
    with server.api() as api:
        api.ok("POST", f"sys/auth/{path}", {"type": "userpass"})
        api.ok("POST", f"auth/{path}/users/ann", {"password": "p"})
        entity = api.post(f"auth/{path}/login/ann", {"password": "p"}).json["auth"]["entity_id"]
        method = api.ok("POST", methods, {"issuer": "Acme"})["method_id"]
        made = api.ok("POST", f"{methods}/admin-generate", {"method_id": method, "entity_id": entity})
        accessor = api.get(f"sys/auth/{path}").data["accessor"]
        api.ok("POST", rule, {"mfa_method_ids": [method], "auth_method_accessors": [accessor]})
    totp = pyotp.parse_uri(made["url"])
    assert isinstance(totp, pyotp.TOTP)
    said: Counter[int] = Counter()
    for number in range(count):
        now = time.time()
        good = {totp.at(int(now) + 30 * shift) for shift in range(-3, 4)}
        other = spellings(totp.at(int(now)), chooser)
        if number % 2 or other in good:
            other = "".join(chr(0xFF10 + int(digit)) for digit in totp.at(int(now)))
        if number % 3 == 0:
            other = next(
                code for code in (f"{chooser.randrange(10**6):06}" for _ in range(99)) if code not in good
            )
        # Each guess is a login of its own over a connection of its own, so that no request is used up.
        with server.api("") as api:
            asked = api.post(f"auth/{path}/login/ann", {"password": "p"}).json["auth"]["mfa_requirement"]
            body = {"mfa_request_id": asked["mfa_request_id"], "mfa_payload": {method: [other]}}
            said[api.post("sys/mfa/validate", body).status] += 1
    with server.api("") as api:
        asked = api.post(f"auth/{path}/login/ann", {"password": "p"}).json["auth"]["mfa_requirement"]
        body = {"mfa_request_id": asked["mfa_request_id"], "mfa_payload": {method: [totp.now()]}}
        after = api.post("sys/mfa/validate", body)
    print(f"{sum(said.values()):,} wrong codes: {dict(said)}; then the good one: {after.status}")
    wrong = [] if set(said) == {403} else [f"codes: {said}"]
    if after.status != 403 or "maximum TOTP validation attempts" not in after.errors[0]:
        wrong.append(f"a second factor that was guessed at is open: {after.status} {after.errors}")
    with server.api() as api:
        api.ok("DELETE", rule)
    return wrong


def drill(server: DevServer, tokens: int, passwords: int) -> list[str]:
    """All of it; prints as it goes, returns what is wrong."""
    chooser = random.Random(43)  # spellings, no secret
    with server.api() as api:
        good = str(api.post("auth/token/create", {"policies": ["default"]}).json["auth"]["client_token"])
    began = time.monotonic()
    wrong = guess_tokens(server, good, tokens, chooser)
    wrong += guess_passwords(server, passwords, chooser)
    wrong += guess_secrets(server, passwords, chooser)
    wrong += guess_codes(server, passwords, chooser)
    print(f"in {time.monotonic() - began:.0f} s", flush=True)
    return wrong


def main() -> int:
    """Command line of scripts/guessing."""
    parser = argparse.ArgumentParser(
        prog="scripts/guessing", description=(__doc__ or "").split("\n\n", maxsplit=1)[0]
    )
    parser.add_argument("tokens", type=int, nargs="?", default=100_000, help="wrong tokens")
    parser.add_argument(
        "passwords", type=int, nargs="?", default=10_000, help="wrong passwords, secret IDs, and codes"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="keystead-guessing-") as name:
        server = DevServer(Path(name))
        server.start()
        try:
            wrong = drill(server, given.tokens, given.passwords)
        finally:
            server.stop()
    for line in wrong:
        sys.stderr.write(line + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
