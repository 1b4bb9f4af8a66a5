"""hmac, and its verification: every key has an HMAC key per version, separate from its main key."""

from __future__ import annotations

import hmac

from kms.errors import invalid
from kms.keys.lifecycle import mac_version
from kms.keys.live import LiveKey
from kms.keys.service import KeyService
from kms.operation import Call, Result
from kms.operations.batch import Item, each, items_of
from kms.operations.encrypt import key_of
from kms.operations.formats import HASH_NAMES, Base64Error, decode, encode, split

_UNDECODABLE = "unable to decode {} as base64: {}"


class Macs:
    """The handler of transit.hmac."""

    def __init__(self, service: KeyService) -> None:
        self._service = service

    def hmac(self, call: Call) -> Result:
        """HMAC (FIPS 198-1) of the input, or of each item's."""
        args = call.args
        items = items_of(args)
        live = key_of(self._service, call)
        version = live.version(mac_version(live.key, args["key_version"]))
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
    number, encoded = split(text, "HMAC")
    if number > live.key.latest_version:
        raise invalid("invalid HMAC: version is too new")
    if number < live.key.min_decryption_version:
        raise invalid("cannot verify HMAC: version is too old (disallowed by policy)")
    try:
        given = decode(encoded)
    except Base64Error as error:
        raise invalid(_UNDECODABLE.format("verification HMAC", error)) from None
    return hmac.compare_digest(live.version(number).mac.compute(hash_name, data), given)
