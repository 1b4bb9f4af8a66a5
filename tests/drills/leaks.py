"""T-02: a long random walk over every operation, and no answer may hold a byte of a key that was made in it.

Keys of every type and both protections are made; then every operation of the transit engine is called again and again
with parameters that mostly fit, its answers feeding later calls, and the reads of the other engines in between. At the end
the database is opened with the HSM's help, and every software key, every HMAC key beside one, the import keys, the keyring
and the PIN are looked for in all answers: raw, in hexadecimal, and in base64 at each alignment. A key that may be exported
is exported once: unless it is found, the search finds nothing and proves nothing.
"""

from __future__ import annotations

import argparse
import json
import secrets
import subprocess
import sys
import tempfile
import tomllib
from base64 import b64encode
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any, Final

from kms.http.vault.route import Route
from kms.http.vault.transit import ROUTES
from kms.operation import Field, Operation, Type
from tests.harness.api import Answer, Api
from tests.harness.dev import DevServer
from tests.keys.rig import NoHsm, Rig

NEEDLE: Final = 16  # bytes that have to stand together to count
_TYPES: Final = (
    "aes128-gcm96",
    "aes256-gcm96",
    "chacha20-poly1305",
    "xchacha20-poly1305",
    "hmac",
    "aes256-cmac",
    "aes256-kwp",
    "ecdsa-p256",
    "ecdsa-p384",
    "ecdsa-secp256k1",
    "ed25519",
    "rsa-2048",
    "mldsa-44",
    "mlkem-768",
)
_TEXT: Final = b64encode(b"walked").decode()
_USUAL: Final = frozenset(
    {
        "plaintext",
        "input",
        "ciphertext",
        "signature",
        "destination",
        "base_key_name",
        "key",
        "reason",
        "peer_public_key",
        "public_key",
        "type",
    }
)
_MAKING: Final = frozenset({"transit.keys.create", "transit.keys.import", "transit.derive-key"})
# What takes a key out of use happens to these only, or soon nothing would answer any more.
_ENDING: Final = frozenset(
    f"transit.keys.{verb}"
    for verb in ("delete", "soft-delete", "suspend", "compromise", "deactivate", "config", "trim")
)
_FITTING: Final = {
    "transit.decrypt": "aes256-gcm96",
    "transit.reencrypt": "aes256-gcm96",
    "transit.datakey": "aes256-gcm96",
    "transit.datakeypair": "aes256-gcm96",
    "transit.encapsulate": "mlkem",
    "transit.decapsulate": "mlkem",
    "transit.wrap": "aes256-kwp",
    "transit.unwrap": "aes256-kwp",
    "transit.shared-secret": "ecdsa-p256-s",
    "transit.keys.delete": "doomed",
    "transit.sign": "e",
    "transit.cmac": "aes256-cmac",
}
_LOOKS: Final = (
    "sys/mounts",
    "sys/seal-status",
    "sys/health",
    "sys/key-status",
    "sys/hsm/root/rotate",
    "sys/hsm/recover-compromise",
    "sys/policies/acl/default",
    "auth/token/lookup-self",
    "sys/internal/ui/mounts",
    "sys/metrics",
    "sys/audit",
)
_KEYS: Final = """
import json, sys
from pathlib import Path
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_private_key
from kms.app import App
from kms.clock import SystemClock
from kms.config import load
from kms.keys.keyring import open_terms
from kms.keys.model import SoftwareMaterial
from kms.keys.store import IMPORT_KEYS, KEY_VERSIONS, NAMED_KEYS
from kms.sensitive import ACCESS
from kms.shared import Shared

app = App(load(Path(sys.argv[1]) / "keystead.toml"), Shared(), SystemClock(), "worker")
app.state.demand_open()
reader = app.store.reader()
free = {row.value.id for row in reader.scan(NAMED_KEYS) if row.value.exportable or row.value.allow_plaintext_backup}
found = {"exportable": [], "kept": []}


def parts(secret):
    try:
        private = load_der_private_key(secret, None)
    except ValueError:
        return [secret]
    if isinstance(private, ec.EllipticCurvePrivateKey):
        return [private.private_numbers().private_value.to_bytes((private.key_size + 7) // 8, "big")]
    if isinstance(private, rsa.RSAPrivateKey):
        numbers = private.private_numbers()
        return [n.to_bytes((n.bit_length() + 7) // 8, "big") for n in (numbers.p, numbers.q, numbers.d)]
    return [private.private_bytes_raw()]


def note(where, *materials):
    for material in materials:
        if isinstance(material, SoftwareMaterial):
            found[where] += [part.hex() for part in parts(material.secret)]


for row in reader.scan(KEY_VERSIONS):
    note("exportable" if row.value.key_id in free else "kept", row.value.material, row.value.mac)
for row in reader.scan(IMPORT_KEYS):
    note("kept", row.value.material)
found["kept"] += [key.reveal(ACCESS).hex() for key in open_terms(app.token.get(), app.instance_id, reader).values()]
print(json.dumps(found))
app.close()
"""


class Walk:
    """One walk on one mount of one server."""

    def __init__(self, server: DevServer, api: Api, mount: str, folder: Path, seed: int) -> None:
        self._server = server
        self._api = api
        self._mount = mount
        self._random = Random(seed)
        folder.mkdir()
        self._table: dict[str, Operation] = Rig(folder, NoHsm(), NoHsm()).table
        self._names: list[str] = []
        self._kept: dict[str, list[str]] = {}
        self.answers: list[bytes] = []
        self.asked: Counter[str] = Counter()
        self.good: Counter[str] = Counter()

    def prepare(self) -> None:
        """The keys, none of which may be exported, and one that may be."""
        for type_ in _TYPES:
            for protection in ("software", "hsm") if type_ != "rsa-2048" else ("software",):
                name = f"{type_}-{protection}"
                if self._ask("POST", f"keys/{name}", {"type": type_, "protection": protection}).status == 200:
                    self._names.append(name)
        for number in range(6):
            self._ask("POST", f"keys/doomed-{number}", {})
            self._ask("POST", f"keys/doomed-{number}/config", {"deletion_allowed": True})
            self._names.append(f"doomed-{number}")
        self._ask("POST", "keys/derived", {"derived": True})
        self._names.append("derived")
        self._ask("GET", "wrapping_key", None)
        self._ask("POST", "keys/free", {"exportable": True, "protection": "software"})
        self._ask("GET", "export/encryption-key/free", None)

    def go(self, calls: int) -> None:
        """So many calls, each operation in turn in an order drawn by lot."""
        order: list[Route | str] = []
        for _ in range(calls):
            if not order:
                order = [*ROUTES, *_LOOKS]
                self._random.shuffle(order)
            step = order.pop()
            if isinstance(step, str):
                self.asked[step] += 1
                self.answers.append(self._api.get(step).content)
                continue
            operation = self._table[step.operation]
            fields = {field.name: field for field in operation.fields}
            name = self._name(step.operation)
            path = step.pattern
            for slot in [part[1:-1] for part in path.split("/") if part.startswith("{")]:
                path = path.replace(f"{{{slot}}}", name if slot == "name" else str(self._value(slot, name)))
            body = {
                key: self._field(field, name)
                for key, field in fields.items()
                if self._random.random() < (0.95 if key in _USUAL else 0.1)
            }
            answer = self._ask(step.verb, path, body if step.verb == "POST" else None, step.operation)
            self._learn(answer, name)

    def _name(self, operation: str) -> str:
        """Mostly a key that can do this; a new name to make or import one."""
        if operation in _MAKING:
            name = f"n{self._random.randrange(1 << 30)}"
            self._names.append(name)
            return name
        if operation in _ENDING:
            return self._random.choice([name for name in self._names if name.startswith("doomed")])
        fits = [name for name in self._names if name.startswith(_FITTING.get(operation, ""))]
        return self._random.choice(fits if fits and self._random.random() < 0.8 else self._names)

    def _ask(self, verb: str, path: str, body: object, operation: str = "") -> Answer:
        answer = self._api.call(verb, f"{self._mount}/{path}", body)
        self.asked[operation or path] += 1
        self.good[operation] += answer.status < 300
        self.answers.append(answer.content)
        assert answer.status != 500, (verb, path, body, answer.content)
        return answer

    def _learn(self, answer: Answer, name: str) -> None:
        data = (
            answer.json.get("data") if answer.status == 200 and answer.content[:1] == b"{" else None
        ) or {}
        if pending := data.get("key_info"):
            self._kept["pending_id"] = list(pending)
        for member in ("ciphertext", "signature", "hmac", "cmac", "backup", "public_key", "csr"):
            if isinstance(value := data.get(member), str):
                self._kept.setdefault(f"{member} {name}", []).append(value)
                self._kept.setdefault(member, []).append(value)

    def _field(self, field: Field, name: str) -> Any:
        if field.name == "type" and name.startswith("n"):
            return self._random.choice(_TYPES)
        if field.type is Type.ITEMS:
            texts = ("plaintext", "ciphertext", "input", "signature", "context")
            return [{text: self._value(text, name) for text in texts} for _ in range(2)]
        simple = {Type.BOOL: (True, False), Type.INT: (0, 1, 2), Type.SECONDS: (0, 86_400)}
        if field.type in simple:
            return self._random.choice(simple[field.type])
        if field.type is Type.STRINGS:
            return []
        return {} if field.type is Type.MAP else self._value(field.name, name)

    def _value(self, what: str, name: str) -> Any:
        member = {"peer_public_key": "public_key", "certificate_chain": "public_key"}.get(what, what)
        known = self._kept.get(f"{member} {name}") or self._kept.get(member)
        if known and self._random.random() < 0.8:
            return self._random.choice(known[-20:])
        fitting = {
            "plaintext": (_TEXT,),
            "input": (_TEXT,),
            "context": (_TEXT,),
            "kind": ("plaintext", "wrapped", "encryption-key", "signing-key", "hmac-key", "public-key"),
            "derived_key_type": ("aes256-gcm96",),
            "key_derivation_algorithm": ("ecdh",),
            "hash_algorithm": ("sha2-256",),
            "marshaling_algorithm": ("asn1", "jws"),
            "destination": [one for one in self._names if one.startswith(("aes256-gcm96", "rsa"))],
            "base_key_name": [one for one in self._names if one.startswith("ecdsa")],
            "key": self._names,
            "source": self._names,
            "type": _TYPES,
            "reason": ("a walk",),
            "version": ("1", "latest"),
            "format": ("", "pem", "der", "base64"),
            "urlalgorithm": ("sha2-256", "sha2-512"),
            "urlbytes": ("16", "32"),
            "urlsource": ("platform", "seal", "all"),
            "urlmaclength": ("8", "16"),
            "protection": ("", "software", "hsm"),
            "alias": ("alias-1", "alias-2"),
        }
        return self._random.choice(fitting.get(what, ("", "", "", _TEXT, "x")))

    def secrets(self) -> tuple[list[bytes], list[bytes]]:
        """(what may nowhere be, what was exported on purpose)."""
        command = [sys.executable, "-c", _KEYS, str(self._server.data)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        section = tomllib.loads((self._server.data / "keystead.toml").read_text())["hsm"]
        pin = Path(section["pin_file"]).read_bytes().strip()
        kept, free = ([bytes.fromhex(text) for text in found[name]] for name in ("kept", "exportable"))
        return [*kept, pin.ljust(NEEDLE, b"\n")[: max(NEEDLE, len(pin))].strip(b"\n")], free


def forms(secret: bytes) -> set[bytes]:
    """How the first bytes of a secret could stand in an answer."""
    start = secret[: max(NEEDLE, min(len(secret), 32))]
    found = {start, start.hex().encode(), start.hex().upper().encode()}
    for before in range(3):
        # Characters that share bits with a neighbour's byte are left out.
        whole = b64encode(bytes(before) + start)
        inner = whole[(0, 2, 3)[before] : (before + len(start)) // 3 * 4]
        found |= {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}
    return found


def hits(answers: list[bytes], wanted: list[bytes]) -> int:
    """How many of the secrets stand in an answer."""
    everything = b"\n".join(answers).replace(b"\\n", b"").replace(b"\\u002b", b"+")
    return sum(any(form in everything for form in forms(secret)) for secret in set(wanted))


def main(arguments: list[str]) -> int:
    """Entry point; 1 if a key was shown."""
    parser = argparse.ArgumentParser(prog="scripts/leaks", description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    given = parser.parse_args(arguments)
    print(f"seed {given.seed}")
    with tempfile.TemporaryDirectory(prefix="keystead-leaks-") as name:
        server = DevServer(Path(name) / "server", workers=2)
        server.start()
        try:
            with server.api() as api:
                api.ok("POST", "sys/mounts/walk", {"type": "transit"})
                walk = Walk(server, api, "walk", Path(name) / "rig", given.seed)
                walk.prepare()
                walk.go(given.calls)
                kept, free = walk.secrets()
        finally:
            server.stop()
    shown, control = hits(walk.answers, kept), hits(walk.answers, free)
    silent = sorted(name for name in walk.asked if name.startswith("transit.") and not walk.good[name])
    print(
        f"{len(walk.answers):,} answers of {len(walk.asked)} operations ({sum(walk.good.values()):,} good;"
        f" never good: {', '.join(silent) or 'none'}); {len(set(kept))} secrets looked for, {shown} found;"
        f" of {len(set(free))} of the exported key {control} found"
    )
    return 1 if shown or not control else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
