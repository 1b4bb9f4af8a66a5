"""Logins with signed tokens at our server and at the real one: roles against tokens, and the twins of T-49."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.auth.shapes import form
from tests.auth.sides import both
from tests.differential.rules import Comparison, load
from tests.differential.sides import Request
from tests.harness.dev import DevServer

ALLOWED = Path(__file__).parent / "jwt_allowed.toml"
US = "https://us.test"
ISSUER = "https://ci.test"
BASE = {"role_type": "jwt", "user_claim": "sub"}
ROLES: dict[str, dict[str, Any]] = {
    "aud": {**BASE, "bound_audiences": US},
    "two": {**BASE, "bound_audiences": [US, "other"]},
    "subject": {**BASE, "bound_subject": "job", "bound_audiences": US},
    "claims": {
        **BASE,
        "bound_audiences": US,
        "bound_claims": {"env": ["prod", "test"], "level": 3, "flag": True},
    },
    "glob": {
        **BASE,
        "bound_audiences": US,
        "bound_claims_type": "glob",
        "bound_claims": {"ref": "refs/*/v*"},
    },
    "nested": {
        **BASE,
        "bound_audiences": US,
        "bound_claims": {"/deep/env": "prod"},
        "claim_mappings": {"/deep/env": "env"},
    },
    "unbound": {**BASE, "bound_subject": "job"},
    "pointer": {**BASE, "user_claim": "/deep/name", "user_claim_json_pointer": True, "bound_audiences": US},
    "groups": {**BASE, "groups_claim": "groups", "bound_audiences": US},
    "leeway": {**BASE, "bound_audiences": US, "clock_skew_leeway": -1, "expiration_leeway": -1},
    "far": {**BASE, "bound_audiences": US, "token_bound_cidrs": "10.0.0.0/8"},
}


class Keys:
    """A key that is trusted, and two that are not."""

    def __init__(self) -> None:
        self.good = rsa.generate_private_key(65537, 2048)
        self.other = rsa.generate_private_key(65537, 2048)
        self.curve = ec.generate_private_key(ec.SECP256R1())

    @property
    def pem(self) -> bytes:
        return self.good.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _part(text: str | bytes) -> str:
    raw = text.encode() if isinstance(text, str) else text
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _claims() -> Iterator[tuple[str, dict[str, Any]]]:
    now = int(time.time())
    base = {"sub": "job", "iss": ISSUER, "iat": now, "exp": now + 300}
    full = {
        **base,
        "aud": US,
        "env": "prod",
        "level": 3,
        "flag": True,
        "ref": "refs/tags/v1",
        "groups": ["a", "b"],
    }
    full["deep"] = {"env": "prod", "name": "deep-job"}
    yield "full", full
    for name, value in (
        ("aud", None), ("aud", [US]), ("aud", ["x", US]), ("aud", ["x"]), ("aud", []), ("aud", "x"),
        ("sub", None), ("sub", ""), ("sub", 7), ("sub", "other"), ("iss", "x"), ("iss", None),
        ("exp", None), ("exp", now - 30), ("exp", now - 100), ("exp", now - 1000),
        ("nbf", now + 30), ("nbf", now + 1000), ("iat", now + 30), ("iat", now + 1000), ("iat", None),
        ("env", "test"), ("env", "dev"), ("env", ["dev", "test"]), ("env", None), ("level", "3"), ("level", 4),
        ("flag", "true"), ("flag", False), ("ref", "refs/tags/x"), ("ref", "refs/heads/main/v2"), ("ref", ["refs/a/v"]),
        ("groups", "a"), ("groups", [1]), ("groups", None), ("groups", {"a": 1}), ("deep", {}), ("deep", "prod"),
    ):  # fmt: skip
        changed = {**full, name: value}
        if value is None:
            del changed[name]
        yield f"{name}={value if not isinstance(value, int) or value < 1000 else value - now}", changed
    yield "no times", {name: value for name, value in full.items() if name not in {"iat", "exp"}}


def _twins(keys: Keys) -> Iterator[tuple[str, str]]:
    """Tokens that say the right things and are not signed by whom they should be."""
    claims = dict(next(_claims())[1])
    text = json.dumps(claims)
    good = jwt.encode(claims, keys.good, "RS256", {"kid": "k"})
    head, body, signature = good.split(".")
    moved = _part(json.dumps({**claims, "env": "test"}))
    forged = f"{_part(json.dumps({'alg': 'HS256', 'kid': 'k'}))}.{body}"
    yield "good", good
    yield "another key", jwt.encode(claims, keys.other, "RS256")
    yield "a curve", jwt.encode(claims, keys.curve, "ES256")
    yield "another algorithm of the key", jwt.encode(claims, keys.good, "PS256")
    yield "none", f"{_part(json.dumps({'alg': 'none'}))}.{body}."
    yield "HS256 by the public key", f"{forged}.{_part(hmac.digest(keys.pem, forged.encode(), 'sha256'))}"
    yield "moved claims", f"{head}.{moved}.{signature}"
    yield "no signature", f"{head}.{body}."
    yield "two parts", f"{head}.{body}"
    yield "kid traversal", jwt.encode(claims, keys.good, "RS256", {"kid": "../../etc/passwd"})
    yield "crit", jwt.encode(claims, keys.good, "RS256", {"crit": ["x"], "x": 1})
    twice = text[:-1] + ', "sub": "root"}'
    yield "a claim twice", jwt.api_jws.PyJWS().encode(twice.encode(), keys.good, "RS256")
    yield "no object", jwt.api_jws.PyJWS().encode(b'["job"]', keys.good, "RS256")
    yield "nothing", "x"


@pytest.mark.slow
def test_requests_get_the_real_servers_answers(server: DevServer) -> None:
    keys, compared = Keys(), Comparison(load(ALLOWED))
    with both(server, "jwt") as (theirs, ours):

        def ask(verb: str, path: str, body: Any = None, what: str = "minimal") -> None:
            request = Request(verb, path, body, what=what)
            answers = [(status, form(found)) for status, found in (theirs.ask(request), ours.ask(request))]
            shown = Request(
                verb, path, {"role": (body or {}).get("role")} if "jwt" in (body or {}) else body, what
            )
            compared.add(shown, *answers)

        config = {"jwt_validation_pubkeys": [keys.pem.decode()], "bound_issuer": ISSUER}
        config["jwt_supported_algs"] = ["RS256"]
        ask("POST", "config", config)
        ask("POST", "login", {})
        ask("POST", "login", {"role": "none", "jwt": "x"})
        ask("POST", "login", {"role": "none"})
        for name, role in ROLES.items():
            ask("POST", f"role/{name}", role)
            ask("GET", f"role/{name}")
            ask("POST", "login", {"role": name})
            for what, claims in _claims():
                ask("POST", "login", {"role": name, "jwt": jwt.encode(claims, keys.good, "RS256")}, what)
        for what, token in _twins(keys):
            ask("POST", "login", {"role": "aud", "jwt": token}, what)
        ask("LIST", "role")
    print(compared.report())
    assert not compared.different, "\n".join(compared.different[:80])
    assert not compared.unused, compared.unused
    assert compared.requests >= 400
