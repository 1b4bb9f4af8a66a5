"""random and hash: the two operations that need no key."""

from __future__ import annotations

import hashlib
import os
from typing import Final

from kms.errors import KmsError, invalid
from kms.keys.service import KeyService
from kms.operation import Call, Result
from kms.operations.formats import HASH_NAMES, Base64Error, decode, encode

MAX_BYTES: Final = 131_072
_SOURCES: Final = ("platform", "seal", "all")
_HASHES: Final = {name: HASH_NAMES[name] for name in HASH_NAMES if name not in ("none", "sha1")}


class Randomness:
    """The handlers of transit.random and transit.hash."""

    def __init__(self, service: KeyService) -> None:
        self._service = service

    def random(self, call: Call) -> Result:
        """Random bytes of the kernel ("platform"), the HSM ("seal"), or both, XORed ("all").

        The path may carry a source, a byte count, or both; the path wins over the body.
        """
        source, count = _where_and_how_many(call)
        encoding = call.args["format"]
        if encoding not in ("hex", "base64"):
            raise invalid(f'unsupported encoding format "{encoding}"; must be "hex" or "base64"')
        if count < 1:
            raise invalid("'bytes' cannot be less than 1")
        if count > MAX_BYTES:
            raise invalid(f"'bytes' should be less than {MAX_BYTES}")
        data = self._draw(source, count)
        return Result(
            data={"random_bytes": data.hex() if encoding == "hex" else encode(data)},
            subject={"source": source, "bytes": count},
        )

    def hash(self, call: Call) -> Result:
        """A digest of the input."""
        args = call.args
        name = args["urlalgorithm"] or args["algorithm"]
        encoding = args["format"]
        if args["input"] is None:
            raise invalid("input missing")
        try:
            data = decode(args["input"])
        except Base64Error as error:
            raise invalid(f"unable to decode input as base64: {error}") from None
        if encoding not in ("hex", "base64"):
            raise invalid(f'unsupported encoding format {encoding}; must be "hex" or "base64"')
        if name not in _HASHES:
            raise invalid(f"unsupported algorithm {name}")
        digest = hashlib.new(_HASHES[name], data).digest()
        return Result(data={"sum": digest.hex() if encoding == "hex" else encode(digest)})

    def _draw(self, source: str, count: int) -> bytes:
        if source == "platform":
            return os.urandom(count)
        ours = self._service.hsm_random(count)
        if source == "seal":
            return ours
        return bytes(a ^ b for a, b in zip(ours, os.urandom(count), strict=True))


def _where_and_how_many(call: Call) -> tuple[str, int]:
    args = call.args
    first, second = args["urlsource"], args["urlbytes"]
    source = args["source"] or "platform"
    if second or first in _SOURCES:
        source = first or source
    else:
        second = first
    if source not in _SOURCES:
        raise _unknown_source(source)
    return source, _count(second) if second else args["bytes"]


def _count(text: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) < 10:
        return int(text)
    raise invalid(f'error parsing url-set byte count: strconv.Atoi: parsing "{text}": invalid syntax')


def _unknown_source(source: str) -> KmsError:
    return invalid(f'unsupported entropy source "{source}"; must be "platform" or "seal", or "all"')
