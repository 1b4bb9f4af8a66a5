"""hmac and cmac, and their verification. Every key has an HMAC key per version, separate from its main key."""

from __future__ import annotations

import hmac
from typing import Final

from kms.errors import invalid
from kms.keys.live import LiveKey
from kms.keys.ready import ReadyVersion
from kms.keys.service import KeyService
from kms.operation import Call, Result
from kms.operations.batch import Item, each, items_of
from kms.operations.encrypt import key_of
from kms.operations.formats import HASH_NAMES, Base64Error, decode, encode, split

_UNDECODABLE = "unable to decode {} as base64: {}"


CMAC_BYTES: Final = 16
# Shorter tags can be guessed (SP 800-38B appendix A asks for 64 bits at least).
MIN_CMAC_BYTES: Final = 8


class Macs:
    """The handlers of transit.hmac and transit.cmac."""

    def __init__(self, service: KeyService) -> None:
        self._service = service

    def hmac(self, call: Call) -> Result:
        """HMAC (FIPS 198-1) of the input, or of each item's."""
        args = call.args
        items = items_of(args)
        live = key_of(self._service, call)
        version = live.authenticating(args["key_version"])
        name = mac_hash(args["urlalgorithm"] or args["algorithm"])

        def work(item: Item, _index: int) -> Item:
            if item.get("input") is None:
                raise invalid("missing input for HMAC")
            mac = version.mac.compute(name, decoded(item["input"]))
            return {"hmac": f"vault:v{version.number}:{encode(mac)}"}

        subject: dict[str, str | int] = {"key_id": live.key.id, "key_version": version.number}
        if items is None:
            return Result(data=work({"input": args["input"]}, 0), subject=subject)
        results, failures = each(items, work, {})
        return Result(
            data={"batch_results": results}, items=len(results), subject=subject | {"failed": failures}
        )

    def cmac(self, call: Call) -> Result:
        """AES-CMAC (SP 800-38B) of the input, or of each item's, cut to `mac_length` bytes."""
        args = call.args
        items = items_of(args)
        live = key_of(self._service, call)
        version = live.authenticating(args["key_version"])
        asked = args["urlmaclength"]
        size = cmac_size(_number(asked) if asked else args["mac_length"])

        def work(item: Item, _index: int) -> Item:
            if item.get("input") is None:
                raise invalid("missing input for CMAC")
            mac = _compute_cmac(live, version, decoded(item["input"]))[:size]
            return {"cmac": f"vault:v{version.number}:{encode(mac)}"}

        subject: dict[str, str | int] = {"key_id": live.key.id, "key_version": version.number}
        if items is None:
            return Result(data=work({"input": args["input"]}, 0), subject=subject)
        results, failures = each(items, work, {})
        return Result(
            data={"batch_results": results}, items=len(results), subject=subject | {"failed": failures}
        )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else -1


def cmac_size(asked: int) -> int:
    """Bytes of a CMAC; 0 asks for all of them.

    Raises:
        KmsError(INVALID): too many, or so few that a tag could be guessed.
    """
    if asked == 0:
        return CMAC_BYTES
    if not MIN_CMAC_BYTES <= asked <= CMAC_BYTES:
        raise invalid(f"mac_length is {MIN_CMAC_BYTES} to {CMAC_BYTES} bytes")
    return asked


def _compute_cmac(live: LiveKey, version: ReadyVersion, data: bytes) -> bytes:
    if version.cmac is None:
        raise invalid(f"key type {live.key.type} does not support CMAC")
    return version.cmac.compute(data)


def check_cmac(live: LiveKey, text: str, data: bytes, size: int) -> bool:
    """Whether `text` is the CMAC of `data` of this many bytes, compared in constant time.

    Raises:
        KmsError(INVALID): it is no CMAC at all, or of a version that may not.
    """
    version, given = _given(live, text, "CMAC")
    mac = _compute_cmac(live, version, data)
    return len(given) == size and hmac.compare_digest(mac[:size], given)


def mac_hash(name: str) -> str:
    """Hashlib's name of a hash for HMAC.

    Raises:
        KmsError(INVALID): none, or unknown.
    """
    if name == "none":
        raise invalid("algorithm cannot be none")
    if name not in HASH_NAMES:
        raise invalid(f'unsupported algorithm "{name}"')
    return HASH_NAMES[name]


def decoded(given: object) -> bytes:
    """An item's input.

    Raises:
        KmsError(INVALID): not base64.
    """
    try:
        return decode(given if isinstance(given, str) else str(given))
    except Base64Error as error:
        raise invalid(_UNDECODABLE.format("input", error)) from None


def check_mac(live: LiveKey, text: str, data: bytes, hash_name: str) -> bool:
    """Whether `text` is the HMAC of `data`, compared in constant time.

    Raises:
        KmsError(INVALID): it is no HMAC at all, or of a version that may not.
    """
    version, given = _given(live, text, "HMAC")
    return hmac.compare_digest(version.mac.compute(hash_name, data), given)


def _given(live: LiveKey, text: str, what: str) -> tuple[ReadyVersion, bytes]:
    number, encoded = split(text, what)
    if number > live.key.latest_version:
        raise invalid(f"invalid {what}: version is too new")
    if number < live.key.min_decryption_version:
        raise invalid(f"cannot verify {what}: version is too old (disallowed by policy)")
    try:
        given = decode(encoded)
    except Base64Error as error:
        raise invalid(_UNDECODABLE.format(f"verification {what}", error)) from None
    return live.checking(number), given
