"""encrypt and decrypt: the hot path. One function pair for a single request and for a batch.

Nonces are 96 random bits from the kernel; the uses of a key version are counted against the 2^32
bound before anything is encrypted (kms.keys.usage).
"""

from __future__ import annotations

import os
from typing import Any

from cryptography.exceptions import InvalidTag

from kms.errors import ErrorKind, KmsError, invalid
from kms.keys.catalogue import ALGORITHMS, Protection
from kms.keys.lifecycle import Wish, processing_version, protecting_version
from kms.keys.live import LiveKey
from kms.keys.ready import NONCE_BYTES, TAG_BYTES, ReadyVersion
from kms.keys.service import KeyService
from kms.operation import Call, Capability, Outcome, Result
from kms.operations.batch import Item, items_of, number, refusal, text
from kms.operations.formats import Base64Error, decode, encode, split

_NOT_FOUND = "encryption key not found"
_SHORTEST = NONCE_BYTES + TAG_BYTES
# One text for a wrong tag, key, version or associated data: the answer must not say which.
UNREADABLE = "cipher: message authentication failed"
WORN = "this key version has encrypted more than 2^31 times; rotate the key before it reaches 2^32"


def key_of(service: KeyService, call: Call) -> LiveKey:
    """The key that a call names.

    Raises:
        KmsError(INVALID): there is none; the Vault API answers 400, not 404, on data-plane paths.
    """
    live = service.get(call.mount.id, call.args["name"])
    if live is None:
        raise invalid(_NOT_FOUND)
    return live


def associated(version: ReadyVersion, live: LiveKey, given: str | None) -> bytes | None:
    """The associated data of a request.

    Raises:
        KmsError(INVALID): not base64, or the key type has none.
    """
    if not given:
        return None
    if version.aead is None:
        raise invalid(f"associated_data provided for non-AEAD cipher suite {live.key.type}")
    try:
        return decode(given)
    except Base64Error as error:
        raise invalid(f"unable to decode associated_data as base64: {error}") from None


def check_context(given: str | None) -> None:
    """Keys without derivation ignore the context, but it must be base64.

    Raises:
        KmsError(INVALID): it is not.
    """
    if given:
        payload(given)


def payload(given: str) -> bytes:
    """Base64 from a client.

    Raises:
        KmsError(INVALID): it is not.
    """
    try:
        return decode(given)
    except Base64Error as error:
        raise invalid(str(error)) from None


def unsupported(live: LiveKey, what: str) -> KmsError:
    """The key's type or protection does not do this."""
    protection = " with protection hsm" if live.key.protection is Protection.HSM else ""
    return invalid(f"message {what} not supported for key type {live.key.type}{protection}")


def seal(live: LiveKey, requested: int, data: bytes, aad_text: str | None = None) -> tuple[str, int]:
    """Encrypt one message with the version asked for (0: the newest).

    Returns:
        `vault:v<N>:...` and N.

    Raises:
        KmsError(INVALID): the version may not encrypt, or the data does not fit the key.
    """
    version = live.version(protecting_version(live.key, requested, "encryption"))
    aad = associated(version, live, aad_text)
    aead = version.aead
    if aead is not None:
        if version.allowance is not None:
            version.allowance.spend(1)
        nonce = os.urandom(NONCE_BYTES)
        sealed = nonce + aead.encrypt(nonce, data, aad)
    elif version.oaep is not None and live.key.protection is Protection.SOFTWARE:
        sealed = version.oaep.encrypt(data)
    else:
        raise unsupported(live, "encryption")
    return f"vault:v{version.number}:{encode(sealed)}", version.number


def unseal(live: LiveKey, ciphertext: str, aad_text: str | None = None) -> bytes:
    """Decrypt one ciphertext with the version that it names.

    Raises:
        KmsError(INVALID): malformed, of a version that may not, or not sealed by this key.
    """
    named, encoded = split(ciphertext, "ciphertext")
    # "v0" is what Vault before 0.3 wrote for the first version.
    version = live.version(processing_version(live.key, named or 1, "ciphertext"))
    try:
        sealed = decode(encoded)
    except Base64Error:
        raise invalid("invalid ciphertext: could not decode base64") from None
    aad = associated(version, live, aad_text)
    if version.aead is not None:
        return _open(version, sealed, aad)
    if version.oaep is None:
        raise unsupported(live, "decryption")
    try:
        return version.oaep.decrypt(sealed)
    except ValueError:
        raise invalid("failed to RSA decrypt the ciphertext") from None


def _open(version: ReadyVersion, sealed: bytes, aad: bytes | None) -> bytes:
    if len(sealed) < _SHORTEST:
        raise invalid("invalid ciphertext length")
    if version.aead is None:
        raise TypeError("only AEAD versions are opened here")
    try:
        return version.aead.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], aad)
    except InvalidTag:
        raise invalid(UNREADABLE) from None
    except KmsError as error:
        if error.kind is ErrorKind.INVALID:
            raise invalid(UNREADABLE) from None
        raise


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
            check_context(args["context"])
            data = payload(args["plaintext"])
            if live is None:
                return self._upsert(call, 1, lambda key: _one(call, key, data))
            return _one(call, live, data)
        requests = [_sealing(item, index) for index, item in enumerate(items)]
        if live is None:
            return self._upsert(call, len(items), lambda key: _batch(call, key, requests))
        return _batch(call, live, requests)

    def decrypt(self, call: Call) -> Result:
        """Decrypt with the version that the ciphertext names."""
        args = call.args
        items = items_of(args)
        if items is None:
            if not args["ciphertext"]:
                raise invalid("missing ciphertext to decrypt")
            check_context(args["context"])
            live = key_of(self._service, call)
            plaintext = unseal(live, args["ciphertext"], args["associated_data"])
            return Result(data={"plaintext": encode(plaintext)}, subject={"key_id": live.key.id})
        requests = [_opening(item, index) for index, item in enumerate(items)]
        live = key_of(self._service, call)
        results: list[Item] = []
        failures = 0
        for ciphertext, aad, context, reference in requests:
            try:
                if context:
                    check_context(context)
                results.append({"plaintext": encode(unseal(live, ciphertext, aad)), "reference": reference})
            except KmsError as error:
                failures += 1
                results.append({"plaintext": "", "error": refusal(error), "reference": reference})
        return _answer(call, live, results, failures)

    def _upsert(self, call: Call, uses: int, use: Any) -> Outcome:
        service, args = self._service, call.args
        if call.capability is not Capability.CREATE or service.settings(call.mount.id).disable_upsert:
            raise invalid(_NOT_FOUND)
        algorithm = ALGORITHMS.get(args["type"])
        if algorithm is None or not algorithm.upsert:
            raise invalid(f"unknown key type {args['type']}")
        if args["convergent_encryption"]:
            raise invalid("convergent encryption requires derivation to be enabled")
        # The key is used inside the commit that creates it, where no HSM may be called.
        wish = Wish(type=algorithm.name, protection=Protection.SOFTWARE.value)
        return service.upsert(call.mount.id, args["name"], wish, uses, use)


_Sealing = tuple[str, int, str, str, str]
_Opening = tuple[str, str, str, str]


def _sealing(item: Item, index: int) -> _Sealing:
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
    if "ciphertext" not in item:
        raise invalid(f"failed to parse batch input: '[{index}].ciphertext' missing ciphertext to decrypt")
    return (
        text(item, index, "ciphertext"),
        text(item, index, "associated_data"),
        text(item, index, "context"),
        text(item, index, "reference"),
    )


def _one(call: Call, live: LiveKey, data: bytes) -> Result:
    ciphertext, version = seal(live, call.args["key_version"], data, call.args["associated_data"])
    return Result(
        data={"ciphertext": ciphertext, "key_version": version},
        subject={"key_id": live.key.id, "key_version": version},
        warnings=warnings(live, version),
    )


def warnings(live: LiveKey, version: int) -> tuple[str, ...]:
    """A warning when this version is near its bound of uses."""
    allowance = live.version(version).allowance
    return (WORN,) if allowance is not None and allowance.worn else ()


def _batch(call: Call, live: LiveKey, requests: list[_Sealing]) -> Result:
    results: list[Item] = []
    failures = 0
    for plaintext, version, aad, context, reference in requests:
        try:
            if context:
                check_context(context)
            sealed, used = seal(live, version, payload(plaintext), aad)
            results.append({"ciphertext": sealed, "key_version": used, "reference": reference})
        except KmsError as error:
            failures += 1
            results.append({"error": refusal(error), "reference": reference})
    return _answer(call, live, results, failures)


def _answer(call: Call, live: LiveKey, results: list[Item], failures: int) -> Result:
    """A batch with any failed item is partial; the caller's own code counts only if some succeeded."""
    asked = call.args["partial_failure_response_code"]
    return Result(
        data={"batch_results": results},
        items=len(results),
        subject={"key_id": live.key.id, "key_version": live.key.latest_version, "failed": failures},
        partial=failures > 0,
        partial_status=asked if asked and failures < len(results) else None,
    )
