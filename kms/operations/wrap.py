"""wrap and unwrap: a caller's key under a named key (RFC 5649, RFC 3394); encapsulate and decapsulate (FIPS 203).

Wrapping is a purpose of its own: keys of these types encrypt nothing else, so that nobody unwraps by
decrypting. Both have a `vault:v<N>:` envelope around exactly the bytes that the standard says.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.keywrap import InvalidUnwrap

from kms.errors import invalid
from kms.keys.live import LiveKey
from kms.keys.ready import Kem, KeyWrapper, ReadyVersion
from kms.keys.service import KeyService
from kms.keys.states import Act
from kms.operation import Call, Result
from kms.operations.batch import Item, each, items_of, text
from kms.operations.encrypt import key_of
from kms.operations.formats import Base64Error, decode, encode, split
from kms.operations.sealing import payload

MAX_TARGET_BYTES: Final = 64 * 1024
_KW_STEP: Final = 8
_KW_LEAST: Final = 16
# One answer for all that can be wrong with a wrapped key.
UNOPENED: Final = "the wrapped key does not open: it was changed, or was not wrapped by this key and padding"


class Wrapping:
    """The handlers of transit.wrap and transit.unwrap."""

    def __init__(self, service: KeyService) -> None:
        self._service = service

    def wrap(self, call: Call) -> Result:
        """Wrap a key, or each item's."""
        args = call.args
        items = items_of(args)
        live = key_of(self._service, call)
        version = live.protecting(args["key_version"], "encryption", Act.PROTECT)
        wrapper = _wrapper(live, version)

        def work(item: Item, index: int) -> Item:
            given = text(item, index, "plaintext")
            if not given:
                raise invalid("missing plaintext to wrap")
            target = payload(given)
            _check_target(target, padded=args["padding"])
            wrapped = wrapper.wrap(target, padded=args["padding"])
            return {"ciphertext": f"vault:v{version.number}:{encode(wrapped)}", "key_version": version.number}

        subject: dict[str, str | int] = {"key_id": live.key.id, "key_version": version.number}
        if items is None:
            return Result(data=work({"plaintext": args["plaintext"]}, 0), subject=subject)
        results, failures = each(items, work, {})
        return Result(
            data={"batch_results": results}, items=len(results), subject=subject | {"failed": failures}
        )

    def unwrap(self, call: Call) -> Result:
        """Unwrap a key, or each item's, with the version that the text names."""
        args = call.args
        items = items_of(args)
        live = key_of(self._service, call)
        live.permit(Act.PROCESS)

        def work(item: Item, index: int) -> Item:
            version, wrapped = _opened(live, text(item, index, "ciphertext"), "missing ciphertext to unwrap")
            try:
                target = _wrapper(live, version).unwrap(wrapped, padded=args["padding"])
            except (InvalidUnwrap, ValueError):
                raise invalid(UNOPENED) from None
            return {"plaintext": encode(target)}

        subject = live.subject()
        if items is None:
            return Result(data=work({"ciphertext": args["ciphertext"]}, 0), subject=subject)
        results, failures = each(items, work, {"plaintext": ""})
        return Result(
            data={"batch_results": results}, items=len(results), subject=subject | {"failed": failures}
        )


class Encapsulation:
    """The handlers of transit.encapsulate and transit.decapsulate."""

    def __init__(self, service: KeyService) -> None:
        self._service = service

    def encapsulate(self, call: Call) -> Result:
        """A fresh shared secret, and the ciphertext from which the holder of the key finds it again."""
        live = key_of(self._service, call)
        version = live.protecting(call.args["key_version"], "encryption", Act.PROTECT)
        secret, ciphertext = _kem(live, version).encapsulate()
        return Result(
            data={
                "ciphertext": f"vault:v{version.number}:{encode(ciphertext)}",
                "shared_secret": encode(secret),
                "key_version": version.number,
            },
            subject={"key_id": live.key.id, "key_version": version.number},
        )

    def decapsulate(self, call: Call) -> Result:
        """The shared secret. A forged ciphertext gives another secret, not an error (FIPS 203)."""
        live = key_of(self._service, call)
        version, ciphertext = _opened(live, call.args["ciphertext"], "missing ciphertext to decapsulate")
        try:
            secret = _kem(live, version).decapsulate(ciphertext)
        except ValueError:
            raise invalid(f"the ciphertext is not one of {live.key.type}: it has another length") from None
        return Result(
            data={"shared_secret": encode(secret), "key_version": version.number},
            subject=live.subject() | {"key_version": version.number},
        )


def _wrapper(live: LiveKey, version: ReadyVersion) -> KeyWrapper:
    if version.wrapper is None:
        raise invalid(f"key type {live.key.type} does not wrap keys; use one of aes128-kwp to aes256-kwp")
    return version.wrapper


def _kem(live: LiveKey, version: ReadyVersion) -> Kem:
    if version.kem is None:
        raise invalid(f"key type {live.key.type} does not encapsulate; use mlkem-768 or mlkem-1024")
    return version.kem


def _check_target(target: bytes, *, padded: bool) -> None:
    if not target or len(target) > MAX_TARGET_BYTES:
        raise invalid(f"a key to wrap has 1 to {MAX_TARGET_BYTES} bytes")
    if not padded and (len(target) < _KW_LEAST or len(target) % _KW_STEP):
        raise invalid("without padding (RFC 3394) a key to wrap has 16 bytes or more, a multiple of 8")


def _opened(live: LiveKey, given: str, missing: str) -> tuple[ReadyVersion, bytes]:
    if not given:
        raise invalid(missing)
    number, encoded = split(given, "ciphertext")
    version = live.processing(number, "ciphertext", Act.PROCESS)
    try:
        return version, decode(encoded)
    except Base64Error:
        raise invalid("invalid ciphertext: could not decode base64") from None
