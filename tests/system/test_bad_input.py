"""Bad input of every kind: a clear 4xx in Vault's form, nothing changed, nothing leaked."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.harness.api import Api
from tests.harness.dev import DevServer
from tests.system import authority as ca

CANARY = "canary-" + secrets.token_hex(16)
B64 = "aGVsbG8="


@dataclass(frozen=True)
class World:
    """Two engines with something in them, and every answer that describes their state."""

    api: Api
    transit: str
    authority: ca.Authority

    def state(self) -> dict[str, Any]:
        """What a client can read of it all."""
        reads = [f"{self.transit}/keys/aes", f"{self.transit}/keys/ec", f"{self.transit}/keys/rsa"]
        reads += [f"{self.authority.issuing}/roles/mesh", "sys/mounts", "sys/policies/acl/default"]
        lists = [f"{self.transit}/keys", f"{self.authority.issuing}/certs", f"{self.authority.issuing}/roles"]
        lists += ["sys/policies/acl", f"{self.authority.issuing}/certs/revoked"]
        found = {path: self.api.get(path).json.get("data") for path in reads}
        return found | {"list " + path: self.api.list(path).json.get("data") for path in lists}


@pytest.fixture(scope="module")
def world(server: DevServer) -> Iterator[World]:
    with server.api() as api:
        transit = f"transit-{secrets.token_hex(4)}"
        api.ok("POST", f"sys/mounts/{transit}", {"type": "transit"})
        for name, kind in (("aes", "aes256-gcm96"), ("ec", "ecdsa-p256"), ("rsa", "rsa-2048")):
            api.ok("POST", f"{transit}/keys/{name}", {"type": kind})
        yield World(api, transit, ca.build(api))


@dataclass(frozen=True)
class Bad:
    """One refused request. T, P stand for the mounts; `says` is part of the error."""

    path: str
    body: object
    status: int = 400
    says: str = ""
    verb: str = "POST"
    raw: bytes | None = None


_MIXED = [{"plaintext": B64}, {"plaintext": "!"}]

CASES = {
    # what a caller may put into the status line
    "a status that is none": Bad(
        "T/encrypt/aes",
        {"batch_input": _MIXED, "partial_failure_response_code": -1},
        400,
        "a status with content",
    ),
    "a status without content": Bad(
        "T/encrypt/aes",
        {"batch_input": _MIXED, "partial_failure_response_code": 204},
        400,
        "a status with content",
    ),
    # the HTTP and JSON layer
    "broken JSON": Bad("T/encrypt/aes", None, raw=b'{"plaintext": b'),
    "JSON that is no object": Bad("T/encrypt/aes", None, raw=b'["plaintext"]'),
    "binary body": Bad("T/encrypt/aes", None, raw=bytes(range(256))),
    "truncated UTF-8": Bad("T/encrypt/aes", None, raw=b'{"plaintext":"\xc3'),
    "no such mount": Bad("nosuch/encrypt/aes", {"plaintext": B64}, 404, "no handler for route"),
    "no such path": Bad("T/nosuch/aes", {"plaintext": B64}, 404, "unsupported path"),
    "wrong verb": Bad("T/encrypt/aes", None, 405, "unsupported operation", verb="DELETE"),
    "path ends in a slash": Bad("T/keys/", {"type": "aes256-gcm96"}, 400, "'/'"),
    # transit
    "plaintext is not base64": Bad("T/encrypt/aes", {"plaintext": CANARY + "!"}, says="base64"),
    "plaintext is an object": Bad("T/encrypt/aes", {"plaintext": {"a": CANARY}}),
    "plaintext is missing": Bad("T/encrypt/aes", {}, says="plaintext"),
    "key version of the future": Bad("T/encrypt/aes", {"plaintext": B64, "key_version": 99}),
    "negative key version": Bad("T/encrypt/aes", {"plaintext": B64, "key_version": -1}),
    "key version is a word": Bad("T/encrypt/aes", {"plaintext": B64, "key_version": "latest"}),
    "ciphertext without a prefix": Bad("T/decrypt/aes", {"ciphertext": B64}, says="no prefix"),
    "ciphertext of another version": Bad(
        "T/decrypt/aes", {"ciphertext": "vault:v7:" + B64 * 8}, says="version"
    ),
    "ciphertext too short": Bad("T/decrypt/aes", {"ciphertext": "vault:v1:" + B64}),
    "ciphertext of nobody": Bad("T/decrypt/aes", {"ciphertext": "vault:v1:" + "A" * 80}),
    "ciphertext with a strange version": Bad("T/decrypt/aes", {"ciphertext": "vault:vx:" + B64 * 8}),
    "decrypt with no such key": Bad(
        "T/decrypt/nosuch", {"ciphertext": "vault:v1:" + B64 * 8}, says="key not found"
    ),
    "decrypt without ciphertext": Bad("T/decrypt/aes", {}, says="ciphertext"),
    "encrypt with a signing key": Bad("T/encrypt/ec", {"plaintext": B64}),
    "sign with an encryption key": Bad("T/sign/aes", {"input": B64}),
    "input is not base64": Bad("T/sign/ec", {"input": CANARY + "!"}, says="base64"),
    "unknown hash": Bad("T/sign/ec", {"input": B64, "hash_algorithm": "md5"}),
    "unknown signature algorithm": Bad("T/sign/rsa", {"input": B64, "signature_algorithm": "pkcs7"}),
    "verify without a signature": Bad("T/verify/ec", {"input": B64}, says="signature"),
    "signature without a prefix": Bad("T/verify/ec", {"input": B64, "signature": B64}, says="prefix"),
    "unknown key type": Bad("T/keys/fresh", {"type": "des-cbc"}, says="key type"),
    "data key of 100 bits": Bad("T/datakey/plaintext/aes", {"bits": 100}),
    "data key of an unknown kind": Bad("T/datakey/naked/aes", {}),
    "rotate no such key": Bad("T/keys/nosuch/rotate", {}, says="not found"),
    "delete a protected key": Bad("T/keys/aes", None, says="deletion is not allowed", verb="DELETE"),
    "minimum above the newest": Bad("T/keys/aes/config", {"min_decryption_version": 9}),
    "negative minimum": Bad("T/keys/aes/config", {"min_decryption_version": -1}),
    "a billion random bytes": Bad("T/random/1000000000", {}),
    "batch is a string": Bad("T/encrypt/aes", {"batch_input": CANARY}),
    "batch is empty": Bad("T/encrypt/aes", {"batch_input": []}),
    "one bad item in a batch": Bad(
        "T/encrypt/aes", {"batch_input": [{"plaintext": B64}, {"plaintext": "!"}]}
    ),
    # pki
    "foreign domain": Bad("P/issue/mesh", {"common_name": "www.bad.test"}, says="not allowed by this role"),
    "no such role": Bad("P/issue/nosuch", {"common_name": f"a.{ca.DOMAIN}"}, says="role"),
    "no common name": Bad("P/issue/mesh", {}),
    "name with a line break": Bad("P/issue/mesh", {"common_name": f"a\n.{ca.DOMAIN}"}),
    "IP that is none": Bad("P/issue/mesh", {"common_name": f"a.{ca.DOMAIN}", "ip_sans": "999.1.1.1"}),
    "CSR that is none": Bad("P/sign/mesh", {"csr": CANARY, "common_name": f"a.{ca.DOMAIN}"}),
    "CSR with broken PEM": Bad(
        "P/sign/mesh",
        {"csr": "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"},
    ),
    "ttl that is none": Bad("P/issue/mesh", {"common_name": f"a.{ca.DOMAIN}", "ttl": "soon"}),
    "revoke nothing": Bad("P/revoke", {}),
    "revoke an unknown serial": Bad("P/revoke", {"serial_number": "11:22:33"}, says="not found"),
    "revoke a serial that is none": Bad("P/revoke", {"serial_number": "zz"}),
    "unknown certificate": Bad("P/cert/11:22:33", None, 404, verb="GET"),
    "intermediate that is none": Bad("P/intermediate/set-signed", {"certificate": CANARY}),
    # sys and tokens
    "policy that does not parse": Bad("sys/policies/acl/broken", {"policy": 'path "x" { capabilities = ['}),
    "policy with an unknown right": Bad(
        "sys/policies/acl/broken", {"policy": 'path "x" { capabilities = ["fly"] }'}
    ),
    "change of the root policy": Bad("sys/policies/acl/root", {"policy": ""}),
    "deleting the default policy": Bad("sys/policies/acl/default", None, verb="DELETE"),
    "mount of an unknown engine": Bad("sys/mounts/fresh", {"type": "nosuch"}, says="nosuch"),
    "mount over a mount": Bad("sys/mounts/T", {"type": "transit"}, says="in use"),
    "mount over sys": Bad("sys/mounts/sys", {"type": "transit"}),
    "a second init": Bad("sys/init", {"secret_shares": 1, "secret_threshold": 1}, says="already initialized"),
    "token with a bad ttl": Bad("auth/token/create", {"ttl": "soon"}),
    "token with negative uses": Bad("auth/token/create", {"num_uses": -1}),
    "lookup of an unknown token": Bad("auth/token/lookup", {"token": "hvs." + "A" * 24}, 403, "bad token"),
    "unknown accessor": Bad("auth/token/lookup-accessor", {"accessor": "A" * 24}, 0),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_refused_and_changes_nothing(name: str, world: World) -> None:
    case = CASES[name]
    mounts = {"T": world.transit, "P": world.authority.issuing}
    path = "/".join(mounts.get(part, part) for part in case.path.split("/"))
    before = world.state()
    answer = world.api.call(case.verb, path, case.body, raw=case.raw)
    if case.status:
        assert answer.status == case.status, answer.content
    assert 400 <= answer.status < 500
    if "one bad item" not in name:
        text = " ".join(answer.errors)
        assert case.says in text
    else:
        results = answer.json["data"]["batch_results"]
        assert [set(item) & {"ciphertext", "error"} for item in results] == [{"ciphertext"}, {"error"}]
    assert CANARY not in answer.content.decode()
    assert "Traceback" not in answer.content.decode()
    assert world.state() == before


def test_body_over_the_limit_is_refused(world: World) -> None:
    body = b'{"plaintext":"' + b"A" * (33 << 20) + b'"}'
    answer = world.api.call("POST", f"{world.transit}/encrypt/aes", raw=body)
    assert answer.status == 413
    assert answer.errors


@pytest.mark.parametrize("token", ["", "nosuch", "hvs." + "A" * 24, "x" * 5000, "caf\u00e9", "a b", "a\tb"])
def test_unknown_callers_all_hear_the_same(token: str, server: DevServer, world: World) -> None:
    with server.api("") as anonymous:
        headers = {"X-Vault-Token": token} if token else {}
        for path in (
            f"{world.transit}/keys/aes",
            f"{world.transit}/keys/nosuch",
            "nosuch/thing",
            "sys/mounts",
        ):
            answer = anonymous.call("GET", path, headers=headers)
            assert answer.status == 403
            assert json.loads(answer.content) == {"errors": ["permission denied"]}
