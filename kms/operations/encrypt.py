"""encrypt and decrypt: the hot path, single and in batches.

Nonces are 96 random bits from the kernel; the uses of a key version are counted against the 2^32
bound before anything is encrypted (kms.keys.usage).
"""

from __future__ import annotations

from collections.abc import Callable

from kms.errors import KmsError, invalid
from kms.keys.catalogue import ALGORITHMS, Protection
from kms.keys.life import Life
from kms.keys.lifecycle import Wish
from kms.keys.live import LiveKey
from kms.keys.service import KeyService
from kms.operation import Call, Capability, Outcome, Result
from kms.operations.batch import Item, items_of, number, refusal, text
from kms.operations.formats import Base64Error, decode, encode
from kms.operations.sealing import Opener, Sealer, payload

_NOT_FOUND = "encryption key not found"
_WORN = "this key version has encrypted more than 2^31 times; rotate the key before it reaches 2^32"

_Sealing = tuple[str, int, str, str, str]  # plaintext, version, associated data, context, reference
_Opening = tuple[str, str, str, str]  # ciphertext, associated data, context, reference


def key_of(service: KeyService, call: Call) -> LiveKey:
    """The key that a call names.

    Raises:
        KmsError(INVALID): there is none; the Vault API answers 400, not 404, on data-plane paths.
    """
    live = service.get(call.mount.id, call.args["name"])
    if live is None:
        raise invalid(_NOT_FOUND)
    return live


def warnings(live: LiveKey, version: int) -> tuple[str, ...]:
    """A warning when this version is near its bound of uses."""
    allowance = live.version(version).allowance
    return (_WORN,) if allowance is not None and allowance.worn else ()


class Encrypting:
    """The handlers of transit.encrypt and transit.decrypt."""

    def __init__(self, service: KeyService) -> None:
        self._service = service

    def exists(self, call: Call) -> bool:
        """Whether the key is there: policy tells creating it from using it."""
        return self._service.get(call.mount.id, call.args["name"]) is not None

    def encrypt(self, call: Call) -> Outcome:
        """Encrypt; where there is no such key and the caller may create one, create it first."""
        args = call.args
        items = items_of(args)
        live = self._service.get(call.mount.id, args["name"])
        if items is None:
            if args["plaintext"] is None:
                raise invalid("missing plaintext to encrypt")
            context = payload(args["context"]) if args["context"] else b""
            data = payload(args["plaintext"])
            if live is None:
                return self._upsert(call, 1, bool(context), lambda key: _one(call, key, data, context))
            return _one(call, live, data, context)
        requests = [_sealing(item, index) for index, item in enumerate(items)]
        check_contexts([request[3] for request in requests])
        if live is None:
            derived = any(request[3] for request in requests)
            return self._upsert(call, len(items), derived, lambda key: _batch(call, key, requests))
        return _batch(call, live, requests)

    def decrypt(self, call: Call) -> Result:
        """Decrypt with the version that the ciphertext names."""
        args = call.args
        items = items_of(args)
        if items is None:
            if not args["ciphertext"]:
                raise invalid("missing ciphertext to decrypt")
            context_bytes = payload(args["context"]) if args["context"] else b""
            live = key_of(self._service, call)
            plaintext = Opener(live).open(args["ciphertext"], args["associated_data"], context_bytes)
            return Result(data={"plaintext": encode(plaintext)}, subject=live.subject())
        requests = [_opening(item, index) for index, item in enumerate(items)]
        check_contexts([request[2] for request in requests])
        live = key_of(self._service, call)
        results: list[Item] = []
        failures = 0
        opener = Opener(live)
        for ciphertext, aad, context, reference in requests:
            try:
                plaintext = opener.open(ciphertext, aad, payload(context) if context else b"")
            except KmsError as error:
                failures += 1
                results.append({"plaintext": "", "error": refusal(error), "reference": reference})
            else:
                results.append({"plaintext": encode(plaintext), "reference": reference})
        return _answer(call, live, results, failures)

    def _upsert(self, call: Call, uses: int, derived: bool, use: Callable[[LiveKey], Result]) -> Outcome:
        service, args = self._service, call.args
        if call.capability is not Capability.CREATE or service.settings(call.mount.id).disable_upsert:
            raise invalid(_NOT_FOUND)
        algorithm = ALGORITHMS.get(args["type"])
        if algorithm is None or not algorithm.upsert:
            raise invalid(f"unknown key type {args['type']}")
        convergent = args["convergent_encryption"]
        if convergent and not derived:
            raise invalid("convergent encryption requires derivation to be enabled, so context is required")
        # The key is used inside the commit that creates it, where no HSM may be called.
        wish = Wish(
            type=algorithm.name,
            protection=Protection.SOFTWARE.value,
            derived=derived,
            convergent_encryption=convergent,
            life=Life(created_by=call.principal.display_name),
        )
        return service.upsert(call.mount.id, args["name"], wish, uses, use)


def check_contexts(contexts: list[str]) -> None:
    """Raise KmsError(INVALID) unless all items of a batch have a context, or none has."""
    if any(contexts) and not all(contexts):
        raise invalid("context should be set either in all the request blocks or in none")


def _sealing(item: Item, index: int) -> _Sealing:
    plaintext = item.get("plaintext")
    if len(item) == 1 and isinstance(plaintext, str):
        return plaintext, 0, "", "", ""  # most batches are this, and a batch is read item by item
    if "plaintext" not in item:
        raise invalid(f"failed to parse batch input: '[{index}].plaintext' missing plaintext to encrypt")
    return (
        text(item, index, "plaintext"),
        number(item, index, "key_version"),
        text(item, index, "associated_data"),
        text(item, index, "context"),
        text(item, index, "reference"),
    )


def _opening(item: Item, index: int) -> _Opening:
    ciphertext = item.get("ciphertext")
    if len(item) == 1 and isinstance(ciphertext, str):
        return ciphertext, "", "", ""
    if "ciphertext" not in item:
        raise invalid(f"failed to parse batch input: '[{index}].ciphertext' missing ciphertext to decrypt")
    return (
        text(item, index, "ciphertext"),
        text(item, index, "associated_data"),
        text(item, index, "context"),
        text(item, index, "reference"),
    )


def _one(call: Call, live: LiveKey, data: bytes, context: bytes) -> Result:
    args = call.args
    ciphertext, version = Sealer(live, 1).seal(args["key_version"], data, args["associated_data"], context)
    return Result(
        data={"ciphertext": ciphertext, "key_version": version},
        subject={"key_id": live.key.id, "key_version": version},
        warnings=warnings(live, version),
    )


def _batch(call: Call, live: LiveKey, requests: list[_Sealing]) -> Result:
    results: list[Item] = []
    failures = 0
    sealer = Sealer(live, len(requests))
    for plaintext, requested, aad, context, reference in requests:
        try:
            context_bytes = payload(context) if context else b""
            ciphertext, version = sealer.seal(requested, decode(plaintext), aad, context_bytes)
        except Base64Error as error:
            failures += 1
            results.append({"error": str(error), "reference": reference})
        except KmsError as error:
            failures += 1
            results.append({"error": refusal(error), "reference": reference})
        else:
            results.append({"ciphertext": ciphertext, "key_version": version, "reference": reference})
    return _answer(call, live, results, failures)


def _answer(call: Call, live: LiveKey, results: list[Item], failures: int) -> Result:
    """A batch with any failed item is partial; the caller's own code counts only if some succeeded."""
    asked = call.args["partial_failure_response_code"]
    return Result(
        data={"batch_results": results},
        items=len(results),
        subject=live.subject() | {"key_version": live.key.latest_version, "failed": failures},
        partial=failures > 0,
        partial_status=asked if asked and 0 < failures < len(results) else None,
    )
