"""Requests from the declared paths and parameters: one thing wrong at a time, and each key type once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from tests.differential.sides import DENIED, Request

DECLARED = Path(__file__).parent / "transit.txt"
P, C = "aGVsbG8=", "Y29udGV4dA=="
VERBS = ("GET", "LIST", "POST", "DELETE", "PATCH")
# A value of another type than the declared one, with names that say so.
WRONG: dict[str, dict[str, Any]] = {
    "string": {"number": 5, "flag": True, "map": {"a": 1}, "list": ["a"], "null": None, "empty": "", "junk": "!!"},
    "integer": {
        "text": "x", "numeral": "1", "flag": True, "fraction": 1.5, "negative": -1, "huge": 10**20, "map": {},
        "list": [1], "null": None, "empty": "", "large": 9999,
    },
    "boolean": {
        "text": "maybe", "spelled": "true", "number": 2, "map": {}, "list": [True], "null": None, "empty": "",
    },
    "[object]": {
        "text": "x", "map": {}, "empty": [], "texts": ["x"], "numbers": [5], "bare": [{}], "null": None,
        "unknown": [{"bogus": 1}],
    },
    "integer:seconds": {
        "text": "x", "hours": "2h", "day": "1d", "numeral": "7200", "short": 30, "negative": -1, "map": {},
        "null": None, "empty": "", "zero": 0,
    },
}  # fmt: skip
TYPES = (
    "aes128-gcm96", "aes256-gcm96", "chacha20-poly1305", "xchacha20-poly1305", "ed25519", "ecdsa-p256",
    "ecdsa-p384", "ecdsa-p521", "rsa-2048", "hmac", "mldsa-44",
)  # fmt: skip
# Keys that stay as they are: name -> how it is made.
STANDING: dict[str, dict[str, Any]] = {
    **{name: {"type": name, "exportable": True} for name in TYPES if name != "hmac"},
    "hmac": {"type": "hmac", "key_size": 32, "exportable": True},
    "derived": {"type": "aes256-gcm96", "derived": True},
    "convergent": {"type": "aes256-gcm96", "derived": True, "convergent_encryption": True},
    "derived-ed": {"type": "ed25519", "derived": True},
    "backed": {"exportable": True, "allow_plaintext_backup": True},
    "source": {"exportable": True},
    "rsa-dest": {"type": "rsa-2048"},
}


@dataclass(frozen=True)
class Declared:
    """One path of the list."""

    verbs: tuple[str, ...]
    path: str  # with {name}s
    fields: tuple[tuple[str, str], ...]  # name, declared type


def declared(path: Path = DECLARED, engine: str = "transit") -> list[Declared]:
    """All paths of the list."""
    found: list[Declared] = []
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            continue
        if not line.startswith(" "):
            verbs, where = line.split()
            found.append(Declared(tuple(verbs.split(",")), where.removeprefix(f"/{engine}/"), ()))
        else:
            fields = (each.strip().split(":", 1) for each in re.split(r", (?=[a-z_]+:)", line.strip()))
            pairs = tuple((name, type_.split("=")[0].rstrip("*")) for name, type_ in fields)
            found[-1] = replace(found[-1], fields=pairs)
    return found


PEER_KEY = """-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEzgPFbhRRbLPFikv0PW5hzd4h94P2
qdtCTMBO+aEgMgPMZ29U8MQxLiyiTSLQLoW9Yq9voRlVsSJprkyprYLESQ==
-----END PUBLIC KEY-----
"""
# What the least good request of a path needs, by its first word.
MINIMAL: dict[str, dict[str, Any]] = {
    "encrypt": {"plaintext": P},
    "decrypt": {"ciphertext": "{sealed}"},
    "rewrap": {"ciphertext": "{sealed}"},
    "sign": {"input": P},
    "verify": {"input": P, "signature": "{signed}"},
    "hmac": {"input": P},
    "hash": {"input": P},
    "restore": {"backup": "{backup}"},
    "derive-key": {"base_key_name": "p256-soft", "peer_public_key": PEER_KEY},
    "keys/{name}/trim": {"min_available_version": 1},
    "keys/{name}/import": {"ciphertext": "x"},
    "keys/{name}/import_version": {"ciphertext": "x"},
    "keys/{name}/set-certificate": {"certificate_chain": "x"},
    "keys/{name}/csr": {},
}
# The key that the least good request of a path names.
KEYS = {"sign": "ecdsa-p256", "verify": "ecdsa-p256", "hmac": "hmac", "backup": "backed", "export": "source"}
# Paths that change their key get a new one each time.
CHANGES = ("rotate", "config", "trim", "soft-delete", "soft-delete-restore", "csr", "set-certificate")
PARAMETERS: dict[str, tuple[str, ...]] = {
    "plaintext": ("plaintext", "wrapped", "bogus"),
    "type": (
        "encryption-key", "signing-key", "hmac-key", "public-key", "certificate-chain", "bogus",
    ),
    "version": ("1", "latest", "9", "0", "x"),
    "urlalgorithm": ("sha2-256", "sha1", "sha3-384", "none", "bogus"),
    "source": ("platform", "seal", "all", "bogus"),
    "urlbytes": ("1", "32", "0", "x", "-1", "200000"),
}  # fmt: skip
VALID: dict[str, tuple[Any, ...]] = {
    "key_version": (0, 1, 2),
    "context": (C,),
    "associated_data": (C,),
    "type": (*TYPES, "bogus", "rsa-3072"),
    "convergent_encryption": (True, False),
    "derived": (True,),
    "exportable": (True,),
    "allow_plaintext_backup": (True,),
    "auto_rotate_period": (3600, 0),
    "bits": (128, 256, 512, 1),
    "algorithm": ("sha1", "sha2-512", "sha3-256", "none", "bogus"),
    "hash_algorithm": ("sha1", "sha2-512", "sha3-256", "none", "bogus"),
    "marshaling_algorithm": ("asn1", "jws", "bogus"),
    "signature_algorithm": ("pss", "pkcs1v15", "bogus"),
    "salt_length": ("auto", "hash", "20", "0", "-1", "bogus"),
    "prehashed": (False,),
    "format": ("hex", "base64", "bogus"),
    "bytes": (1, 32, 0),
    "key_size": (32, 64),
    "min_decryption_version": (0, 1, 2, 3),
    "min_encryption_version": (0, 1, 2, 3),
    "min_available_version": (0, 1, 2),
    "deletion_allowed": (True, False),
    "size": (0, 5, 100),
    "disable_upsert": (False,),
    "partial_failure_response_code": (207, 200),
    "hmac": ("{maced}", "vault:v1:AAAA"),
    "version": (1, 2, 0),
    "hash_function": ("SHA1", "SHA256", "SHA512", "bogus"),
    "allow_rotation": (True,),
    "force": (True,),
    "name": ("restored-too",),
    "source": ("platform", "seal", "all", "bogus"),
    "derived_key_type": ("aes128-gcm96", "bogus"),
    "key_derivation_algorithm": ("ecdh", "bogus"),
    "base_key_version": (1, 2),
    "urlalgorithm": ("sha2-512",),
    "urlbytes": ("16",),
}  # fmt: skip


def setup() -> Iterator[Request]:
    """The standing keys, and what requests need from them: kept per side under a name."""
    for name, fields in STANDING.items():
        yield Request("POST", f"keys/{name}", fields)
    yield Request("POST", "keys/p256-soft", {"type": "ecdsa-p256", "exportable": True})
    for name in ("aes256-gcm96", "ecdsa-p256", "hmac"):
        yield Request("POST", f"keys/{name}/rotate")
    yield Request("POST", "encrypt/aes256-gcm96", {"plaintext": P}, keep=(("sealed", "ciphertext"),))
    for name in STANDING:
        yield from _products(name)
    yield Request("POST", "sign/ecdsa-p256", {"input": P}, keep=(("signed", "signature"),))
    yield Request("POST", "hmac/ecdsa-p256", {"input": P}, keep=(("maced", "hmac"),))
    yield Request("GET", "backup/backed", keep=(("backup", "backup"),))


def _products(name: str) -> Iterator[Request]:
    """A ciphertext and a signature for each standing key: its own, or another's where it makes none."""
    keyed = {"context": C} if "derived" in name or name == "convergent" else {}
    seals = name in (*TYPES[:4], "rsa-2048", "rsa-dest", "derived", "convergent", "backed", "source")
    key = name if seals else "aes128-gcm96"
    body = {"plaintext": P, **keyed} if seals else {"plaintext": P}
    yield Request("POST", f"encrypt/{key}", body, keep=((f"sealed {name}", "ciphertext"),))
    signs = name in (*TYPES[4:], "derived-ed", "rsa-dest") and name != "hmac"
    body = {"input": P, **keyed} if signs else {"input": P}
    key = name if signs else "ed25519"
    yield Request("POST", f"sign/{key}", body, keep=((f"signed {name}", "signature"),))


class Generator:
    """Makes the requests of all paths. Names of new keys are counted, so that both sides get the same."""

    def __init__(self) -> None:
        self._fresh = count(1)

    def all(self) -> Iterator[Request]:
        """Every request, with what it needs before it."""
        for path in declared():
            yield from self.of(path)

    def of(self, path: Declared) -> Iterator[Request]:
        """The requests of one path."""
        for verb in path.verbs:
            yield from self._verb(path, verb)
        yield from self._other_verbs(path)

    def _verb(self, path: Declared, verb: str) -> Iterator[Request]:
        body = self._minimal(path, verb)
        yield from self._one(path, verb, body, "minimal")
        yield from self._one(path, verb, body, "denied", token=DENIED)
        if "{name}" in path.path:
            yield Request(verb, self.fill(path.path, "nosuch"), body, "no such key")
        for name in re.findall(r"{(\w+)}", path.path):
            if path.path.startswith("byok-export") and name == "source":
                continue  # a key there
            for value in PARAMETERS.get(name, ()):
                yield from self._one(path, verb, body, f"{name} {value}", {name: value})
        if verb != "POST":
            return
        for name in body:
            without = {key: value for key, value in body.items() if key != name}
            yield from self._one(path, verb, without, f"without {name}")
        yield from self._one(path, verb, {**body, "bogus": 1}, "an unknown parameter")
        for name, type_ in path.fields:
            for value in VALID.get(name, ()):
                yield from self._one(path, verb, {**body, name: value}, f"{name} = {value}")
            for what, value in WRONG[type_].items():
                yield from self._one(path, verb, {**body, name: value}, f"{name} is {what}")
        yield from self._types(path, verb, body)

    def _types(self, path: Declared, verb: str, body: dict[str, Any]) -> Iterator[Request]:
        if path.path.partition("/")[0] not in (
            "encrypt",
            "decrypt",
            "rewrap",
            "sign",
            "verify",
            "hmac",
            "datakey",
        ):
            return
        for name in STANDING:
            own = {
                key: f"{{{value[1:-1]} {name}}}" if value in ("{sealed}", "{signed}") else value
                for key, value in body.items()
            }
            for extra in ({}, {"context": C}, {"context": "!!"}, {"associated_data": C}):
                yield Request(verb, self.fill(path.path, name), {**own, **extra}, f"key {name} {extra or ''}")
            items = [{**own, "reference": "r"}, {**own, "context": C}, {}]
            yield Request(verb, self.fill(path.path, name), {"batch_input": items[:1]}, f"batch, key {name}")
            yield Request(
                verb, self.fill(path.path, name), {"batch_input": items[:2]}, f"mixed batch, key {name}"
            )
            yield Request(
                verb, self.fill(path.path, name), {"batch_input": items}, f"broken batch, key {name}"
            )

    def _other_verbs(self, path: Declared) -> Iterator[Request]:
        for verb in VERBS:
            if verb not in path.verbs:
                yield Request(verb, self.fill(path.path, "aes256-gcm96"), None, "another verb")

    def _minimal(self, path: Declared, verb: str) -> dict[str, Any]:
        if verb != "POST":
            return {}
        return MINIMAL.get(path.path, MINIMAL.get(path.path.partition("/")[0], {}))

    def _one(
        self,
        path: Declared,
        verb: str,
        body: dict[str, Any],
        what: str,
        parameters: dict[str, str] | None = None,
        token: str = "",
    ) -> Iterator[Request]:
        first, last = path.path.partition("/")[0], path.path.rpartition("/")[2]
        name = KEYS.get(first, "aes256-gcm96")
        fresh = f"n{next(self._fresh)}"
        makes = {"exportable": True, "type": "ecdsa-p256"} if last in ("csr", "set-certificate") else {}
        if path.path == "keys/{name}" and verb != "GET":
            name = fresh
            if verb == "DELETE" and what == "minimal":
                yield Request("POST", f"keys/{name}", {})
                yield Request(verb, f"keys/{name}", {}, "deletion is not allowed")
                yield Request("POST", f"keys/{name}/config", {"deletion_allowed": True})
        elif first == "keys" and last in CHANGES:
            name = fresh
            yield Request("POST", f"keys/{name}", makes)
            if last != "csr":
                yield Request("POST", f"keys/{name}/rotate", {})
        elif last in ("import", "import_version") or first in ("restore", "derive-key"):
            name = fresh
        where = path.path
        for key, value in (parameters or {}).items():
            where = where.replace(f"{{{key}}}", value)
        yield Request(verb, self.fill(where, name), body, what, token)
        if path.path == "config/keys" and body:
            yield Request("POST", "config/keys", {"disable_upsert": False}, "as it was")
        if first == "keys" and verb == "POST" and not token:
            yield Request("GET", f"keys/{name}", None, f"after {what}")

    def fill(self, path: str, name: str) -> str:
        """A path with a key's name and the usual values for its other segments."""
        values = {
            "name": name, "destination": "rsa-dest", "plaintext": "plaintext", "type": "encryption-key",
            "version": "1", "urlalgorithm": "sha2-256", "source": "platform", "urlbytes": "32",
        }  # fmt: skip
        if path.startswith("byok-export"):
            values["source"] = "source"
        return re.sub(r"{(\w+)}", lambda match: values[match[1]], path)
