"""Random requests: any path, any key, any few parameters with right and wrong values, in any order.

Several things are wrong at once here, and which of them is named first is no promise: two refusals of the
same status count as the same. Keys are new and belong to this run, so that states meet that nobody thought of.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from tests.differential.generate import (
    MINIMAL,
    STANDING,
    TYPES,
    VALID,
    WRONG,
    C,
    Declared,
    Generator,
    declared,
)
from tests.differential.sides import Request

_ITEMS = ("encrypt", "decrypt", "rewrap", "sign", "verify", "hmac")
# Exports of what both made at random differ by nature, and slow paths would be all that runs.
_LEFT_OUT = (
    "keys/{name}/import",
    "keys/{name}/import_version",
    "wrapping_key",
    "byok-export",
    "backup",
    "restore",
)
# What differs there is known, each time.
_NOT = ("keys", "config/keys", "random/{source}", "random/{source}/{urlbytes}")
_FLAGS = ("derived", "convergent_encryption")


class Wanderer:
    """An endless source of requests, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._paths = [
            path for path in declared() if not path.path.startswith(_LEFT_OUT) and path.path not in _NOT
        ]
        self._generator = Generator()
        self._made = 12
        self._names = [f"w{number}" for number in range(self._made)]

    def requests(self) -> Iterator[Request]:
        """Without end."""
        for name in self._names:
            yield self._birth(name)
        while True:
            if self._random.random() < 0.02:
                yield self._birth(self._random.choice(self._names))
            request = self._request(self._random.choice(self._paths))
            if request.path.startswith("encrypt/w"):
                # The peer makes a key that is not there for an encryption that it then refuses; we make none.
                body = {"type": "aes256-gcm96", "exportable": True}
                yield Request("POST", f"keys/{request.path.partition('/')[2]}", body, "a birth")
            yield request

    def mend(self, request: Request) -> list[Request]:
        """A key whose state differs is asked no more; a new one takes its place."""
        name = next((part for part in request.path.split("/") if part in self._names), None)
        if name is None:
            return []
        self._made += 1
        new = f"w{self._made}"
        self._names[self._names.index(name)] = new
        return [Request("POST", f"keys/{new}", {"type": "aes256-gcm96", "exportable": True}, "a birth")]

    def _birth(self, name: str) -> Request:
        random = self._random
        body: dict[str, Any] = {"type": random.choice([t for t in TYPES if not t.startswith("rsa")])}
        # Exportable, so that it has protection software: what needs that is refused for hsm keys.
        body |= {"exportable": True} | {flag: True for flag in _FLAGS if random.random() < 0.2}
        if body["type"] == "hmac":
            body["key_size"] = 32
        return Request("POST", f"keys/{name}", body, "a birth")

    def _request(self, path: Declared) -> Request:
        random = self._random
        verb = random.choice(path.verbs)
        # Deleting and soft-deleting would leave nothing to ask.
        if "DELETE" in path.verbs and verb == "DELETE" and random.random() < 0.8:
            verb = path.verbs[0]
        first = path.path.partition("/")[0]
        changes = first == "keys"
        name = random.choice(self._names if changes or random.random() < 0.4 else list(STANDING))
        if first == "derive-key":
            name = f"d{random.randrange(1 << 30)}"  # the peer derives over any key that is there
        where = self._generator.fill(path.path, name)
        if verb != "POST":
            return Request(verb, where, None, "random")
        body = dict(MINIMAL.get(path.path, MINIMAL.get(first, {})))
        body = {key: self._own(value, name) for key, value in body.items()}
        for key, type_ in random.sample(path.fields, k=min(len(path.fields), random.choice((0, 1, 1, 2, 3)))):
            body[key] = self._value(key, type_)
        if first in _ITEMS and random.random() < 0.3:
            body["batch_input"] = [self._item(body) for _ in range(random.randint(1, 4))]
        return Request("POST", where, body, "random")

    def _own(self, value: Any, name: str) -> Any:
        if value in ("{sealed}", "{signed}") and name in STANDING:
            return f"{{{value[1:-1]} {name}}}"
        return value

    def _value(self, name: str, type_: str) -> Any:
        if name in ("batch_input", "external_key_ref", "urlalgorithm", "urlbytes", "source", "prehashed"):
            return None  # deliberate differences that have cases of their own
        if name in VALID and self._random.random() < 0.8:
            return self._random.choice(VALID[name])
        usual = {key: value for key, value in WRONG[type_].items() if key != "null"}
        return self._random.choice(list(usual.values()))

    def _item(self, body: dict[str, Any]) -> dict[str, Any]:
        random = self._random
        names = {"plaintext", "ciphertext", "input", "signature", "hmac"}
        item: dict[str, Any] = {
            key: value for key, value in body.items() if key in names and isinstance(value, str)
        }
        if random.random() < 0.3:
            item["context"] = random.choice((C, "!!", ""))
        if random.random() < 0.3:
            item["reference"] = "r"
        if random.random() < 0.2:
            item["key_version"] = random.choice((0, 1, 2, 9))
        if random.random() < 0.1 and item:
            del item[random.choice(list(item))]
        return item
