"""Five hundred secrets in every place where a request can hold one; afterwards none of them is anywhere."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest

from tests.conftest import ServerFactory
from tests.drills.observe import proc_file
from tests.harness.api import Answer, Api
from tests.harness.dev import DevServer

CANARIES = 500
Place = Callable[[Api, str], Answer]


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def with_header(name: str) -> Place:
    return lambda api, canary: api.call("GET", "transit/keys/aes", headers={name: canary})


def field(path: str, make: Callable[[str], object]) -> Place:
    return lambda api, canary: api.post(path, make(canary))


def multipart(api: Api, canary: str) -> Answer:
    body = f'--x\r\nContent-Disposition: form-data; name="plaintext"\r\n\r\n{canary}\r\n--x--\r\n'.encode()
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    return api.call("POST", "transit/encrypt/aes", raw=body, headers=headers)


def form(api: Api, canary: str) -> Answer:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return api.call("POST", "transit/encrypt/aes", raw=f"plaintext={canary}!".encode(), headers=headers)


# Integers are made from the canary, so that each is unique too.
PLACES: dict[str, Place] = {
    "plaintext": field("transit/encrypt/aes", lambda c: {"plaintext": b64(c)}),
    "associated data": field(
        "transit/encrypt/aes", lambda c: {"plaintext": "AAAA", "associated_data": b64(c)}
    ),
    "input to sign": field("transit/sign/ec", lambda c: {"input": b64(c)}),
    "input to HMAC": field("transit/hmac/aes", lambda c: {"input": b64(c)}),
    "input to hash": field("sys/tools/hash", lambda c: {"input": b64(c)}),
    "batch": field(
        "transit/encrypt/aes", lambda c: {"batch_input": [{"plaintext": b64(c)}, {"plaintext": c + "!"}]}
    ),
    "bad base64": field("transit/encrypt/aes", lambda c: {"plaintext": c + "!"}),
    "integer": field("transit/encrypt/aes", lambda c: {"plaintext": int(c, 16)}),
    "list": field("transit/encrypt/aes", lambda c: {"plaintext": [c, [c]]}),
    "object": field("transit/encrypt/aes", lambda c: {"plaintext": {c: c}}),
    "name of an unknown field": field("transit/encrypt/aes", lambda c: {"plaintext": "AAAA", c: 1}),
    "unknown field": field("transit/encrypt/aes", lambda c: {"plaintext": "AAAA", "zzz": c}),
    "number field": field("transit/encrypt/aes", lambda c: {"plaintext": "AAAA", "key_version": c}),
    "ciphertext": field("transit/decrypt/aes", lambda c: {"ciphertext": "vault:v1:" + b64(c * 3)}),
    "signature": field("transit/verify/ec", lambda c: {"input": "AAAA", "signature": "vault:v1:" + b64(c)}),
    "broken JSON": lambda api, c: api.call(
        "POST", "transit/encrypt/aes", raw=b'{"plaintext": "' + c.encode()
    ),
    "raw body": lambda api, c: api.call("POST", "transit/encrypt/aes", raw=c.encode()),
    "multipart": multipart,
    "form": form,
    "query": lambda api, c: api.get(f"transit/keys/aes?token={c}"),
    "list flag": lambda api, c: api.get(f"transit/keys?list={c}"),
    "token": lambda api, c: api.call("GET", "transit/keys/aes", headers={"X-Vault-Token": c}),
    "cookie": with_header("Cookie"),
    "user agent": with_header("User-Agent"),
    "strange header": with_header("X-Secret"),
    "namespace": with_header("X-Vault-Namespace"),
    "wrap ttl": with_header("X-Vault-Wrap-TTL"),
    "token to look up": field("auth/token/lookup", lambda c: {"token": c}),
    "token to revoke": field("auth/token/revoke", lambda c: {"token": c}),
    "chosen token": field("auth/token/create", lambda c: {"id": c, "ttl": "1h"}),
    "unseal share": field("sys/unseal", lambda c: {"key": c}),
    "CSR": field("pki/sign/any", lambda c: {"csr": c, "common_name": "a.test"}),
    "private key": field("pki/revoke-with-key", lambda c: {"serial_number": "11:22", "private_key": c}),
}


def forms(secret: str) -> Iterator[bytes]:
    raw = secret.encode()
    yield raw
    yield raw[::-1]
    yield base64.b64encode(raw).rstrip(b"=")[:-1]
    yield base64.urlsafe_b64encode(raw).rstrip(b"=")[:-1]
    yield raw.hex().encode()
    yield quote(secret, safe="").encode()


def everything_left(server: DevServer) -> dict[str, bytes]:
    places = {
        str(path.relative_to(server.folder)): path.read_bytes()
        for path in server.data.rglob("*")
        if path.is_file() and "token" not in path.relative_to(server.data).parts
    }
    places["stderr"] = server.errors.read_bytes()
    places["stdout"] = server.output.read_bytes().replace(server.token.encode(), b"")
    for process in server.tree():
        for name in ("cmdline", "environ"):
            places[f"{process.pid}/{name}"] = proc_file(process.pid, name)
    return places


@pytest.mark.slow
def test_no_secret_of_a_request_or_an_answer_is_left_anywhere(fresh_server: ServerFactory) -> None:
    server = fresh_server()
    kept: list[str] = []
    with server.api() as api:
        for engine in ("transit", "pki"):
            api.ok("POST", f"sys/mounts/{engine}", {"type": engine})
        for name, kind in (("aes", "aes256-gcm96"), ("ec", "ecdsa-p256")):
            api.ok("POST", f"transit/keys/{name}", {"type": kind})
        api.ok("POST", "pki/root/generate/internal", {"common_name": "Canary Root", "key_type": "ec"})
        api.ok(
            "POST", "pki/roles/any", {"allow_any_name": True, "enforce_hostnames": False, "key_type": "ec"}
        )
        names = list(PLACES)
        for number in range(CANARIES):
            canary = secrets.token_hex(12)
            name = names[number % len(names)]
            answer = PLACES[name](api, canary)
            assert answer.status < 500, (name, answer)
            if answer.status >= 400:
                assert not [f for f in forms(canary) if f in answer.content], (name, answer.content)
            kept += [canary, str(int(canary, 16))] if name == "integer" else [canary]
        # What the server itself gave away, once.
        kept.append(api.ok("POST", "transit/datakey/plaintext/aes", {})["plaintext"])
        issued = api.ok("POST", "pki/issue/any", {"common_name": "a.test"})["private_key"].splitlines()
        kept += issued[1:3]
        kept.append(api.post("auth/token/create", {"ttl": "1h"}).json["auth"]["client_token"])
        kept.append(server.token)
        before_stop = everything_left(server)
    server.stop()
    left = everything_left(server)
    found = [
        (where, secret)
        for secret in kept
        for where, data in [*before_stop.items(), *left.items()]
        if any(shape in data for shape in forms(secret))
    ]
    assert not found
    assert sum(map(len, left.values())) > 100_000


def test_the_search_finds_what_it_looks_for() -> None:
    secret = secrets.token_hex(12)
    for text in (secret, secret[::-1], b64("x" * 3 + secret)[4:], secret.encode().hex()):
        assert any(shape in f"noise {text} noise".encode() for shape in forms(secret))
