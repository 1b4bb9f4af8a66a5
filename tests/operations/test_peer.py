"""The same requests to the real server and to ours: status, texts and shapes must be the same.

Ours goes through the real routes, coercion and rendering, without the pipeline. Each deliberate
difference stands in ALLOWED with its reason; one that no request shows any more fails the test.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from kms.errors import KmsError
from kms.http.vault.errors import render_error
from kms.http.vault.render import render
from kms.http.vault.router import Router
from kms.http.vault.transit import ROUTES
from tests.keys.rig import Rig

P = "aGVsbG8="
BAO = Path(sys.executable).parent / "bao"

# Where the peer answers 500 with a Go multierror for what the client did wrong, we answer 400 with a
# plain sentence: clients retry on 500, and a batch that cannot be parsed never gets better.
CLIENT_FAULT = "the peer blames itself for a fault of the client"
OWN_TEXT = "the peer's text shows its inside"
STRICTER = "we refuse what would be signed or made by mistake"
SUPERSET = "we accept or say more"


@dataclass(frozen=True)
class Case:
    """One request; `allowed` is the reason for a known difference."""

    verb: str
    path: str
    body: dict[str, Any] | None = None
    allowed: str = ""


def post(path: str, body: dict[str, Any] | None = None, allowed: str = "", **fields: Any) -> Case:
    return Case("POST", path, {**(body or {}), **fields}, allowed)


SETUP = [
    post("keys/a"),
    post("keys/a/rotate"),
    post("keys/chacha", type="chacha20-poly1305"),
    post("keys/ed", type="ed25519"),
    post("keys/p256", type="ecdsa-p256"),
    post("keys/p384", type="ecdsa-p384"),
    post("keys/rsa", type="rsa-2048"),
    post("keys/mac", type="hmac", key_size=32),
]
MANAGEMENT = [
    Case("LIST", "keys"),
    Case("GET", "keys/none"),
    *(Case("GET", f"keys/{name}") for name in ("a", "chacha", "ed", "p256", "p384", "rsa", "mac")),
    post("keys/a", type="ed25519"),
    post("keys/x", type="bogus"),
    post("keys/x", type=5),
    post("keys/x", convergent_encryption=True),
    post("keys/x", derived=True, type="rsa-2048", allowed=CLIENT_FAULT),
    post("keys/x", derived=True, allowed="derived keys come later"),
    post("keys/x", auto_rotate_period="10"),
    post("keys/x", auto_rotate_period="-10"),
    post("keys/x", key_size=33),
    post("keys/x", key_size=31, type="hmac"),
    post("keys/x", key_size=513, type="hmac"),
    post("keys/nosize", type="hmac", allowed=SUPERSET),
    post("keys/rotating", auto_rotate_period="24h", exportable="true"),
    post("keys/none/rotate"),
    post("keys/none/config"),
    post("keys/a/config"),
    post("keys/a/config", min_decryption_version=3),
    post("keys/a/config", min_decryption_version=0),
    post("keys/a/config", min_decryption_version=-1),
    post("keys/a/config", min_encryption_version=3),
    post("keys/a/config", min_encryption_version=-1),
    post("keys/a/config", min_encryption_version=1, min_decryption_version=2),
    post("keys/a/config", min_encryption_version=2, min_decryption_version=2),
    post("keys/a/config", min_encryption_version="0", min_decryption_version="1"),
    post("keys/a/config", exportable=True),
    post("keys/a/config", exportable=False),
    post("keys/a/config", allow_plaintext_backup="true"),
    post("keys/a/config", auto_rotate_period="30m"),
    post("keys/a/config", auto_rotate_period="2h"),
    post("keys/a/config", auto_rotate_period="0"),
    post("keys/a/config", deletion_allowed="maybe"),
    post("keys/a/config", min_decryption_version="x"),
    Case("DELETE", "keys/a"),
    Case("DELETE", "keys/none"),
    post("keys/gone"),
    post("keys/gone/config", deletion_allowed=True),
    Case("DELETE", "keys/gone"),
    Case("GET", "keys/gone"),
    Case("GET", "config/keys"),
    post("config/keys", disable_upsert=True),
    post("encrypt/none", plaintext=P),
    post("config/keys", disable_upsert="false"),
]
ENCRYPTION = [
    post("encrypt/a", plaintext=P),
    post("encrypt/a"),
    post("encrypt/a", plaintext=""),
    post("encrypt/a", plaintext=None),
    post("encrypt/a", plaintext="!!!"),
    post("encrypt/a", plaintext="aGVsbG8"),
    post("encrypt/a", plaintext=5),
    post("encrypt/a", plaintext=P, associated_data="!!", allowed=CLIENT_FAULT),
    post("encrypt/a", plaintext=P, associated_data=P),
    post("encrypt/a", plaintext=P, context="!!"),
    post("encrypt/a", plaintext=P, context=P),
    post("encrypt/a", plaintext=P, key_version=5),
    post("encrypt/a", plaintext=P, key_version=-1),
    post("encrypt/a", plaintext=P, key_version="1"),
    post("encrypt/a", plaintext=P, key_version="x", allowed=OWN_TEXT),
    post("encrypt/ed", plaintext=P),
    post("encrypt/mac", plaintext=P),
    post("encrypt/rsa", plaintext=P),
    post("encrypt/rsa", plaintext=P, associated_data=P, allowed=OWN_TEXT),
    post("encrypt/made", plaintext=P),
    post("encrypt/made2", plaintext=P, type="ed25519"),
    post("encrypt/made2", plaintext=P, type="bogus"),
    post("encrypt/made3", plaintext=P, type="chacha20-poly1305"),
    Case("GET", "keys/made3"),
    post("encrypt/a", batch_input=[]),
    post("encrypt/a", batch_input=None),
    post("encrypt/a", batch_input="x", allowed=CLIENT_FAULT),
    post("encrypt/a", batch_input=["x"], allowed=CLIENT_FAULT),
    post("encrypt/a", batch_input=[{"plaintext": 5}], allowed=CLIENT_FAULT),
    post("encrypt/a", batch_input=[{"plaintext": P}, {}], allowed=CLIENT_FAULT),
    post("encrypt/a", batch_input=[{"plaintext": P, "key_version": "1"}], allowed=CLIENT_FAULT),
    post("encrypt/a", batch_input=[{"plaintext": P, "reference": "r"}, {"plaintext": P, "key_version": 1}]),
    post("encrypt/a", batch_input=[{"plaintext": P, "reference": "r"}, {"plaintext": P, "key_version": 9}]),
    post("encrypt/a", batch_input=[{"plaintext": "!!"}, {"plaintext": P, "context": "!!"}]),
    post("encrypt/a", batch_input=[{"plaintext": P, "context": P}, {"plaintext": P, "context": "!!"}]),
    post("encrypt/new9", batch_input=[{"plaintext": P}, {"plaintext": P, "context": P}]),
    post("encrypt/a", batch_input=[{"plaintext": "!!"}], partial_failure_response_code=207),
    post("encrypt/a", batch_input=[{"plaintext": P, "bogus": 1}]),
    post("decrypt/a"),
    *(
        post("decrypt/a", ciphertext=text)
        for text in (
            "",
            "x",
            "vault:",
            "vault:v",
            "vault:v1",
            "vault:v1:",
            "vault:v1:!!",
            "vault:v1:aGVsbG8=",
            "vault:v1:aGVsbG8=:x",
            "vault:vx:aGVsbG8=",
            "vault:v0:aGVsbG8=",
            "vault:v-1:aGVsbG8=",
            "vault:v9:aGVsbG8=",
            "vault:v01:aGVsbG8=",
            "vault:v1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        )
    ),
    post("decrypt/a", ciphertext=5),
    post("decrypt/none", ciphertext="vault:v1:aGVsbG8="),
    post("decrypt/ed", ciphertext="vault:v1:aGVsbG8="),
    post("decrypt/mac", ciphertext="vault:v1:aGVsbG8="),
    post("decrypt/rsa", ciphertext="vault:v1:aGVsbG8=", allowed=CLIENT_FAULT),
    post("decrypt/a", batch_input=[]),
    post("decrypt/a", batch_input=[{"ciphertext": "x", "reference": "q"}, {"ciphertext": "vault:v9:YQ=="}]),
    post("decrypt/a", batch_input=[{}], allowed=CLIENT_FAULT),
    post(
        "decrypt/a", batch_input=[{"ciphertext": "x", "context": "!!"}, {"ciphertext": "x", "context": "!!"}]
    ),
    post("decrypt/a", batch_input=[{"ciphertext": "x"}, {"ciphertext": "x", "context": "YQ=="}]),
    post("rewrap/a"),
    post("rewrap/none", ciphertext="vault:v1:aGVsbG8="),
    post("rewrap/a", ciphertext="x"),
    post("rewrap/a", batch_input=[]),
    post("rewrap/a", batch_input=[{"ciphertext": "x", "reference": "z"}, {}, {"ciphertext": 5}]),
    post("datakey/plaintext/a"),
    post("datakey/wrapped/a", bits=512),
    post("datakey/wrapped/a", bits=1),
    post("datakey/wrapped/a", bits="x"),
    post("datakey/bogus/a"),
    post("datakey/plaintext/none"),
    post("datakey/plaintext/ed"),
    post("datakey/plaintext/mac"),
    post("datakey/plaintext/rsa", bits=128),
    post("datakey/plaintext/a", key_version=1),
    post("datakey/plaintext/a", key_version=9),
    post("datakey/plaintext/a", associated_data=P),
    post("datakey/plaintext/a", context="!!"),
]
SIGNING = [
    *(post(f"sign/{name}", input=P) for name in ("ed", "p256", "p384", "rsa", "a", "mac", "none")),
    post("sign/p256", input=""),
    post("sign/p256"),
    post("sign/p256", input="!!"),
    post("sign/p256", input=5),
    *(post(f"sign/p256/{name}", input=P) for name in ("sha1", "sha2-512", "sha3-384", "bogus", "none")),
    *(post(f"sign/rsa/{name}", input=P) for name in ("sha1", "sha2-224", "sha3-512")),
    post("sign/p256", input=P, hash_algorithm="bogus"),
    post("sign/p256", input=P, hash_algorithm="none", prehashed=True),
    post("sign/p256", input=P, prehashed=True, allowed=STRICTER),
    post("sign/p256", input=P, marshaling_algorithm="jws"),
    post("sign/p256", input=P, marshaling_algorithm="bogus"),
    post("sign/p256", input=P, signature_algorithm="bogus"),
    post("sign/p256", input=P, key_version=9, allowed=CLIENT_FAULT),
    post("sign/p256", input=P, key_version=-1, allowed=CLIENT_FAULT),
    post("sign/rsa", input=P, signature_algorithm="bogus", allowed=CLIENT_FAULT),
    post("sign/rsa", input=P, signature_algorithm="pkcs1v15"),
    post("sign/rsa", input=P, signature_algorithm="pkcs1v15", hash_algorithm="none"),
    post("sign/rsa", input=P, signature_algorithm="pkcs1v15", hash_algorithm="none", prehashed=True),
    post("sign/rsa", input=P, hash_algorithm="none", prehashed=True),
    post("sign/rsa", input=P, prehashed=True, allowed=CLIENT_FAULT),
    *(post("sign/rsa", input=P, salt_length=salt) for salt in ("hash", "20", 20, "bogus", "-1", "-2", "0")),
    post("sign/rsa", input=P, salt_length="999", allowed=CLIENT_FAULT),
    post("sign/ed", input=P, prehashed=True, hash_algorithm="sha2-512"),
    post("sign/ed", input=P, salt_length="bogus"),
    post("sign/ed/bogus", input=P),
    post("sign/p256", batch_input=[]),
    post("sign/p256", batch_input=["x"], allowed=CLIENT_FAULT),
    post("sign/p256", batch_input=[{"input": P, "reference": "x"}, {"input": "!!"}, {}, {"input": 5}]),
    post("verify/p256", input=P),
    *(
        post("verify/p256", input=P, signature=text)
        for text in (
            "",
            "x",
            "vault:v1",
            "vault:v1:",
            "vault:v1:!!",
            "vault:v1:aGVsbG8=",
            "vault:v9:aGVsbG8=",
            "vault:v0:aGVsbG8=",
            "vault:vx:aGVsbG8=",
            "vault:v1:MAYCAQECAQE=",
        )
    ),
    post("verify/p256", input=P, signature="vault:v1:MAYCAQECAQEB", allowed=OWN_TEXT),
    post("verify/p256", input=P, signature="vault:v1:aGVsbG8=", marshaling_algorithm="jws"),
    post("verify/p256", input=P, signature="vault:v1:aGVsbG8", marshaling_algorithm="jws"),
    post("verify/p256", input="!!", signature="vault:v1:MAYCAQECAQE="),
    post("verify/p256", input=P, signature="vault:v1:aGVs", hash_algorithm="bogus"),
    *(
        post(f"verify/{name}", input=P, signature="vault:v1:aGVs")
        for name in ("ed", "rsa", "a", "mac", "none")
    ),
    post("verify/rsa", input=P, signature="vault:v1:aGVs", salt_length="999"),
    post("verify/rsa", input=P, signature="vault:v1:aGVs", prehashed=True, allowed=STRICTER),
    *(
        post("verify/a", input=P, hmac=text)
        for text in (
            "x",
            "vault:v1",
            "vault:v1:!!",
            "vault:v9:aGVs",
            "vault:v0:aGVs",
            "vault:vx:aGVs",
            "vault:v1:aGVs",
        )
    ),
    post("verify/a", input=P, hmac="vault:v1:aGVs", hash_algorithm="none"),
    post("verify/a", input=P, hmac="vault:v1:aGVs", algorithm="bogus"),
    post("verify/p256", batch_input=[{"input": P, "signature": "x"}, {"input": P, "hmac": "x"}, {}]),
    post("verify/p256", batch_input=[{"input": P}]),
    post("verify/p256", batch_input=[{"input": "!!", "signature": "vault:v1:YQ==", "reference": "y"}]),
    post("verify/a", batch_input=[{"input": P, "hmac": "vault:v1:YQ=="}], allowed=SUPERSET),
    post(
        "verify/a",
        batch_input=[{"input": P, "hmac": "x", "reference": "r"}, {"input": P, "hmac": "vault:v1"}],
    ),
]
KEYLESS = [
    *(post(f"hmac/a{path}", input=P) for path in ("", "/sha1", "/sha2-224", "/sha3-512", "/none")),
    post("hmac/a/bogus", input=P, allowed=OWN_TEXT),
    post("hmac/a"),
    post("hmac/a", input="!!"),
    post("hmac/a", input=""),
    post("hmac/none", input=""),
    post("hmac/a", input=P, key_version=1),
    post("hmac/a", input=P, key_version=9),
    post("hmac/a", batch_input=[{"input": P, "reference": "x"}, {"input": "!!"}, {}]),
    post("hmac/a", batch_input=[]),
    *(
        post(f"random{path}")
        for path in ("", "/16", "/all/16", "/bogus", "/bogus/4", "/all/bogus", "/platform/0")
    ),
    post("random/platform/16", format="hex"),
    *(post("random", bytes=count) for count in (0, -1, 131_072, 131_073, "x")),
    post("random", format="bogus"),
    *(post(f"hash{path}", input=P) for path in ("", "/sha2-224", "/sha3-256", "/sha1", "/none", "/bogus")),
    post("hash", input=P, format="base64"),
    post("hash", input=P, format="x"),
    post("hash", input="!!"),
    post("hash"),
    Case("GET", "random"),
]
CASES = [*MANAGEMENT, *ENCRYPTION, *SIGNING, *KEYLESS]


# What no two servers can have in common: masked by length, so that the layout still counts.
_VARYING = re.compile(
    r'"(ciphertext|signature|hmac|random_bytes|plaintext|public_key)":"([^"]*)"|"creation_time":"[^"]*"'
)


def _mask(match: re.Match[str]) -> str:
    name, value = match[1], match[2]
    if name is None:
        return '"creation_time":"T"'
    if value == "":
        return match[0]
    length = 0 if name == "signature" and len(value) < 160 else len(value)  # DER integers vary in length
    version = re.match(r"vault:v\d+:", value)
    return f'"{name}":"{version[0] if version else ""}#{length}"'


def _comparable(status: int, text: str) -> tuple[int, Any]:
    if not text.strip():
        return status, None
    document = json.loads(_VARYING.sub(_mask, json.dumps(json.loads(text), separators=(",", ":"))))
    document.pop("request_id", None)
    data = document.get("data")
    if isinstance(data, dict):
        data.pop("protection", None)
        if isinstance(data.get("keys"), dict):
            data["keys"] = {
                name: 0 if isinstance(value, int) else value for name, value in data["keys"].items()
            }
    return status, document


class Ours:
    """Routes, coercion, operation and rendering; no pipeline."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._router = Router(ROUTES, rig.table)

    def ask(self, case: Case) -> tuple[int, Any]:
        try:
            return self._answer(case)
        except KmsError as error:
            rendered = render_error(error)
            return _comparable(rendered.status, rendered.body.decode())

    def _answer(self, case: Case) -> tuple[int, Any]:
        path = f"{case.path}/" if case.verb == "LIST" else case.path
        match = self._router.match(case.verb, path)
        if isinstance(match, str):
            return 405, {"errors": ["1 error occurred:\n\t* unsupported operation\n\n"]}
        args, given, warnings = match.compiled.plan.arguments(case.body or {}, match.arguments())
        operation = match.compiled.operation
        named = {name: value for name, value in args.items() if name in given}
        result = self._rig.result(operation.name.removeprefix("transit."), **named)
        rendered = render(match.compiled.route, result, "id", warnings)
        return _comparable(rendered.status, rendered.body.decode())


@pytest.fixture(scope="module")
def peer() -> Iterator[httpx.Client]:
    """A real server with an empty transit mount."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with (
        subprocess.Popen(
            [BAO, "server", "-dev", "-dev-root-token-id=root", f"-dev-listen-address={address}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process,
        httpx.Client(
            base_url=f"http://{address}/v1/", headers={"X-Vault-Token": "root"}, trust_env=False
        ) as client,
    ):
        try:
            _mount(client)
            yield client
        finally:
            process.terminate()


def _mount(client: httpx.Client) -> None:
    for _ in range(200):
        try:
            answer = client.post("sys/mounts/transit", json={"type": "transit"})
        except httpx.TransportError:
            time.sleep(0.05)
            continue
        if answer.status_code == httpx.codes.NO_CONTENT:
            return
        time.sleep(0.05)
    raise AssertionError("the real server did not start")


def _ask(client: httpx.Client, case: Case) -> tuple[int, Any]:
    body = None if case.body is None else json.dumps(case.body)
    answer = client.request(case.verb, f"transit/{case.path}", content=body)
    return _comparable(answer.status_code, answer.text)


def test_every_request_gets_the_real_servers_answer(peer: httpx.Client, hsm_rig: Rig) -> None:
    ours = Ours(hsm_rig)
    for case in SETUP:
        assert ours.ask(case) == _ask(peer, case), case
    different, stale = [], []
    for case in CASES:
        theirs, mine = _ask(peer, case), ours.ask(case)
        if theirs != mine and not case.allowed:
            different.append(f"{case.verb} {case.path} {case.body}\n  theirs {theirs}\n  ours   {mine}")
        if theirs == mine and case.allowed:
            stale.append(f"{case.verb} {case.path} {case.body}: {case.allowed}")
        if case.allowed and case.allowed != SUPERSET:
            assert mine[0] == 400, case
    assert not different, "\n".join(different)
    assert not stale, "\n".join(stale)
