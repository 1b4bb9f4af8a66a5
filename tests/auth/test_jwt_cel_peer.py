"""Roles of jwt that are programs, at our server and at the real one: the same programs, tokens and answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.auth.celcases import IN, LOGINS, PATCHED, WRITTEN, auth, program
from tests.auth.shapes import form
from tests.auth.sides import both
from tests.differential.pkishape import pki_shape
from tests.differential.rules import Comparison, load
from tests.differential.sides import DENIED, Request, Side
from tests.harness.dev import DevServer

ALLOWED = Path(__file__).parent / "jwt_cel_allowed.toml"
ISSUER = "https://ci.test"


class Signer:
    """An issuer and its tokens."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(65537, 2048)
        self.other = rsa.generate_private_key(65537, 2048)
        public = self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.config = {"jwt_validation_pubkeys": [public.decode()], "bound_issuer": ISSUER}

    def claims(self, **more: Any) -> dict[str, Any]:
        now = int(time.time())
        base = {"sub": "job", "iss": ISSUER, "iat": now, "exp": now + 300, "n": 5, "groups": ["a", "b"]}
        return {**base, "deep": {"x": "y"}, "nul": None, **more}

    def token(self, **more: Any) -> str:
        said = {name: value for name, value in self.claims(**more).items() if value != "absent"}
        return jwt.encode(said, self.key, "RS256")


def _answer(side: Side, request: Request) -> tuple[int, Any]:
    status, document = side.ask(request)
    shaped = form(pki_shape(document))
    # A program's refusal is no fault of the server.
    return (400 if status == 500 else status), shaped


class Asking:
    """The same requests to both, and what they answered."""

    def __init__(self, sides: tuple[Side, Side]) -> None:
        self.sides = sides
        self.compared = Comparison(load(ALLOWED))

    def ask(self, verb: str, path: str, body: Any = None, what: str = "minimal", token: str = "") -> None:
        request = Request(verb, path, body, what, token)
        answers = [_answer(side, request) for side in self.sides]
        self.compared.add(Request(verb, path, None, what, token), *answers)

    def login(self, made: dict[str, Any], presented: str, what: str) -> None:
        for side in self.sides:
            side.ask(Request("POST", "cel/role/r", made))
        self.ask("POST", "cel/login", {"role": "r", "jwt": presented}, what)


def _write(both_sides: Asking) -> None:
    ask = both_sides.ask
    ask("LIST", "cel/role")
    for body in WRITTEN:
        ask("POST", "cel/role/r", body, "write")
    for verb, path in (("GET", "cel/role/r"), ("GET", "cel/role/none"), ("LIST", "cel/role")):
        ask(verb, path)
        ask(verb, path, token=DENIED)
    ask("PATCH", "cel/role/none", program("true"))
    for body in PATCHED:
        ask("PATCH", "cel/role/r", body, "patch")
    for _ in range(2):
        ask("DELETE", "cel/role/r")


def _wrong(signer: Signer) -> Iterator[tuple[str, str]]:
    now = int(time.time())
    yield "another key", jwt.encode(signer.claims(), signer.other, "RS256")
    yield "HS256", jwt.encode(signer.claims(), "k" * 32, "HS256")
    yield "none", jwt.encode(signer.claims(), "", "none")
    yield "no token", "x"
    changed: dict[str, dict[str, Any]] = {
        "aud": {"aud": "x"},
        "sub": {"sub": 7},
        "iss": {"iss": "https://other.test"},
        "no iss": {"iss": "absent"},
        "expired": {"exp": now - 1000},
        "early": {"nbf": now + 1000},
        "no exp": {"exp": "absent"},
        "no sub": {"sub": "absent"},
    }
    for what, more in changed.items():
        yield what, signer.token(**more)


@pytest.mark.slow
def test_programs_let_in_whom_the_real_server_lets_in(server: DevServer) -> None:
    signer = Signer()
    with both(server, "jwt") as sides:
        asking = Asking(sides)
        asking.ask("POST", "cel/login", {"role": "r", "jwt": "x"})
        asking.ask("POST", "config", signer.config)
        _write(asking)
        asking.ask("POST", "cel/login", {})
        asking.ask("POST", "cel/login", {"role": "none", "jwt": "x"})
        for expression in LOGINS:
            asking.login(program(expression), signer.token(), expression)
        asking.ask("POST", "cel/login", {"role": "r"})
        asking.ask("POST", "cel/login", {"role": "R", "jwt": signer.token()}, "upper case")
        for what, presented in _wrong(signer):
            asking.login(program(IN), presented, f"{IN} {what}")
            asking.login({**program(IN), "bound_audiences": "x"}, presented, f"{IN} {what} bound")
        named = program("ok ? who : 'no'", ok="'a' in claims.groups", who=IN)
        for presented in (signer.token(), signer.token(groups=["z"])):
            asking.login(named, presented, "variables")
    compared = asking.compared
    print(compared.report())
    assert not compared.different, "\n".join(compared.different[:80])
    assert not compared.unused, compared.unused
    assert compared.requests >= 110


def test_a_renewal_keeps_the_terms_and_wants_the_role(server: DevServer) -> None:
    """T-48, T-49: an ordinary role of the same name is another one, and texts are seen whole."""
    signer = Signer()
    with server.api() as api:
        api.post("sys/auth/jwt-cel", {"type": "jwt"})
        try:
            mount = "auth/jwt-cel"
            assert api.post(f"{mount}/config", signer.config).status == 204
            lease = "lease_options: pb.LeaseOptions{TTL: 600000000000, renewable: true}"
            made = program(auth(f"policies: ['reader'], period: 900000000000, {lease}"))
            assert api.post(f"{mount}/cel/role/r", made).status == 200
            ordinary = {
                "role_type": "jwt",
                "user_claim": "sub",
                "bound_subject": "job",
                "token_policies": ["w"],
            }
            assert api.post(f"{mount}/role/r", ordinary).status in {200, 204}
            answer = api.post(f"{mount}/cel/login", {"role": "r", "jwt": signer.token()}).json["auth"]
            assert answer["renewable"] is True
            assert answer["lease_duration"] == 900
            with server.api(answer["client_token"]) as mine:
                renewed = mine.post("auth/token/renew-self").json["auth"]
                assert set(renewed["policies"]) == {"default", "reader"}
                assert renewed["lease_duration"] == 900
                assert api.delete(f"{mount}/cel/role/r").status == 204
                assert mine.post("auth/token/renew-self").status == 400
            # A claim that a cut-off text would make another person's.
            assert api.post(f"{mount}/cel/role/r", program(IN)).status == 200
            cut = api.post(f"{mount}/cel/login", {"role": "r", "jwt": signer.token(sub="admin\0x")})
            assert cut.status == 400
            assert "U+0000" in cut.errors[0]
        finally:
            api.delete("sys/auth/jwt-cel")
