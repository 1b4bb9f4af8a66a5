"""What a verifier believes beforehand.

A trust file is text, one statement a line, `#` starts a comment:

    <C2SP verifier key>            a key that may sign this log; its name is the log's origin
    seen <size> <base64 root>      a checkpoint remembered from before: the log may not be behind it
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Self

import msgspec

from kms.audit.note import LogKey, parse_key
from kms.errors import invalid

MAX_TRUST_FILE = 64 * 1024


class TrustFile(msgspec.Struct, frozen=True):
    """Keys of one log, and checkpoints seen before: size -> root."""

    keys: tuple[LogKey, ...]
    seen: dict[int, bytes] = {}

    @property
    def origin(self) -> str:
        return self.keys[0].name

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file. Raises KmsError(INVALID), OSError."""
        with path.open("rb") as file:
            data = file.read(MAX_TRUST_FILE + 1)
        if len(data) > MAX_TRUST_FILE:
            raise invalid("the trust file is larger than 64 KiB")
        return cls.parse(data.decode("utf-8", "replace"))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the statements. Raises KmsError(INVALID)."""
        keys: list[LogKey] = []
        seen: dict[int, bytes] = {}
        for raw in text.splitlines():
            line = raw.partition("#")[0].strip()
            if line.startswith("seen "):
                size, root = _seen(line)
                seen[size] = root
            elif line:
                keys.append(parse_key(line))
        if not keys or len({key.name for key in keys}) != 1:
            raise invalid("a trust file needs one or more keys, all of one origin")
        return cls(tuple(keys), seen)


def _seen(line: str) -> tuple[int, bytes]:
    parts = line.split()
    if len(parts) == 3 and parts[1].isascii() and parts[1].isdigit() and len(parts[1]) < 19:
        try:
            root = base64.b64decode(parts[2], validate=True)
        except binascii.Error:
            root = b""
        if len(root) == 32:
            return int(parts[1]), root
    raise invalid("expected: seen <size> <base64 root of 32 bytes>")
