"""Encrypting and decrypting with one key, for single requests and batches alike.

A `Sealer` or an `Opener` lives for one request: it looks each version up once, draws the uses of a
batch in one go, and takes all nonces from one read of the kernel's random source.
"""

from __future__ import annotations

import os
from typing import Final

from cryptography.exceptions import InvalidTag

from kms.errors import ErrorKind, KmsError, invalid
from kms.keys.aead import TAG_BYTES, Aead, ContextKey, Derivation
from kms.keys.catalogue import Protection, Use
from kms.keys.live import LiveKey
from kms.keys.lost import LostKeyError
from kms.keys.ready import ReadyVersion
from kms.keys.states import Act
from kms.operations.formats import Base64Error, decode, encode, split

MISSING_CONTEXT = (
    "missing 'context' for key derivation; the key was created using a derived key, which means "
    "additional, per-request information must be included in order to perform operations with the key"
)
# One text for a wrong tag, key, version or associated data: the answer must not say which.
UNREADABLE: Final = "cipher: message authentication failed"
_UNREADABLE_CHACHA: Final = "chacha20poly1305: message authentication failed"


def payload(given: str) -> bytes:
    """Base64 from a client.

    Raises:
        KmsError(INVALID): it is not.
    """
    try:
        return decode(given)
    except Base64Error as error:
        raise invalid(str(error)) from None


def context_of(given: object) -> bytes:
    """The context of a derived key, from base64 text; empty when there is none.

    Raises:
        KmsError(INVALID): it is not base64.
    """
    try:
        return decode(str(given)) if given else b""
    except Base64Error:
        raise invalid("failed to base64-decode context") from None


def _associated(live: LiveKey, given: str) -> bytes:
    if not live.algorithm.nonce_bytes:
        raise invalid(f"'associated_data' provided for non-AEAD cipher suite {live.key.type}")
    try:
        return decode(given)
    except Base64Error as error:
        raise invalid(f"unable to decode associated_data as base64: {error}") from None


def _unreadable(live: LiveKey) -> KmsError:
    # The Vault API names the cipher, which the caller knows; nothing else may differ.
    return invalid(_UNREADABLE_CHACHA if live.key.type.endswith("poly1305") else UNREADABLE)


def _unsupported(live: LiveKey, what: str) -> KmsError:
    key, algorithm = live.key, live.algorithm
    # Say why, where the same type could in software.
    could = key.protection is Protection.HSM and algorithm.allows(Use.ENCRYPT, Protection.SOFTWARE)
    return invalid(
        f"message {what} not supported for key type {key.type}{' with protection hsm' if could else ''}"
    )


class _Contexts:
    """The keys of contexts that one request has derived so far; a batch often repeats its contexts."""

    __slots__ = ("_keys",)

    def __init__(self) -> None:
        self._keys: dict[tuple[int, bytes], ContextKey] = {}

    def get(self, number: int, derivation: Derivation, context: bytes) -> ContextKey:
        if not context:
            raise invalid(MISSING_CONTEXT)
        key = self._keys.get((number, context))
        if key is None:
            key = self._keys[number, context] = derivation.cipher(context)
        return key


class Sealer:
    """Encrypts up to `uses` messages.

    Raises:
        KmsError(INVALID): when the key's state forbids it; from `seal`, when the version may not encrypt
            or the data does not fit.
    """

    __slots__ = ("_at", "_contexts", "_live", "_nonces", "_size", "_uses", "_versions")

    def __init__(self, live: LiveKey, uses: int) -> None:
        live.permit(Act.PROTECT)  # here, so that a whole batch is refused at once
        self._live = live
        self._uses = uses
        self._versions: dict[int, tuple[ReadyVersion, Aead | None, str]] = {}
        self._contexts: _Contexts | None = None
        self._nonces = b""
        self._size = live.algorithm.nonce_bytes
        self._at = 0

    def seal(self, requested: int, data: bytes, aad_text: str, context: bytes = b"") -> tuple[str, int]:
        """`vault:v<N>:...` and N.

        Args:
            requested: a version; 0 asks for the newest.
            data: the plaintext.
            aad_text: associated data in base64, or "".
            context: of a derived key; others ignore it.
        """
        version, aead, prefix = self._versions.get(requested) or self._prepare(requested)
        aad = _associated(self._live, aad_text) if aad_text else None
        if aead is None:
            return prefix + encode(self._specially(version, data, aad, context)), version.number
        nonce = self._nonce()
        return prefix + encode(nonce + aead.encrypt(nonce, data, aad)), version.number

    def _specially(self, version: ReadyVersion, data: bytes, aad: bytes | None, context: bytes) -> bytes:
        if version.derivation is not None and self._size:
            self._contexts = self._contexts or _Contexts()
            key = self._contexts.get(version.number, version.derivation, context)
            nonce = key.nonce(data) if key.nonce else self._nonce()
            return nonce + key.aead.encrypt(nonce, data, aad)
        if version.oaep is None:
            raise _unsupported(self._live, "encryption")
        return version.oaep.encrypt(data)

    def _nonce(self) -> bytes:
        at = self._at
        self._at = end = at + self._size
        return self._nonces[at:end]

    def _prepare(self, requested: int) -> tuple[ReadyVersion, Aead | None, str]:
        version = self._live.protecting(requested, "encryption", Act.PROTECT)
        if version.allowance is not None:
            # Counted before the first use; what a failing item leaves over is lost, on the safe side.
            version.allowance.spend(self._uses)
        if not self._nonces:
            self._nonces = os.urandom(self._size * self._uses)
        prepared = (version, version.aead, f"vault:v{version.number}:")
        self._versions[requested] = prepared
        return prepared


class Opener:
    """Decrypts messages of one key.

    Raises:
        KmsError(INVALID): when the key's state forbids it; from `open`, for what is malformed, disallowed,
            or not sealed by this key.
    """

    __slots__ = ("_contexts", "_live", "_size", "_versions")

    def __init__(self, live: LiveKey) -> None:
        live.permit(Act.PROCESS)
        self._live = live
        self._versions: dict[str, ReadyVersion] = {}
        self._contexts: _Contexts | None = None
        self._size = live.algorithm.nonce_bytes

    def open(self, ciphertext: str, aad_text: str = "", context: bytes = b"") -> bytes:
        """The plaintext. Arguments as those of `Sealer.seal`."""
        end = ciphertext.find(":", 7) + 1
        prefix = ciphertext[:end]
        version = self._versions.get(prefix) or self._prepare(ciphertext, prefix)
        try:
            sealed = decode(ciphertext[end:])
        except Base64Error:
            raise invalid("invalid ciphertext: could not decode base64") from None
        aad = _associated(self._live, aad_text) if aad_text else None
        size = self._size
        if not size:
            return self._open_block(version, sealed)
        aead = version.aead or self._derived(version, context)
        if len(sealed) < size:
            raise invalid("invalid ciphertext length")
        if len(sealed) < size + TAG_BYTES:
            raise _unreadable(self._live)
        try:
            return aead.decrypt(sealed[:size], sealed[size:], aad)
        except InvalidTag:
            raise _unreadable(self._live) from None
        except KmsError as error:
            if error.kind is ErrorKind.INVALID and not isinstance(error, LostKeyError):
                raise _unreadable(self._live) from None
            raise

    def _prepare(self, ciphertext: str, prefix: str) -> ReadyVersion:
        if not self._live.key.allows(Use.DECRYPT):
            raise _unsupported(self._live, "decryption")
        number, _ = split(ciphertext, "ciphertext")
        # "v0" is what Vault before 0.3 wrote for the first version.
        version = self._live.processing(number or 1, "ciphertext", Act.PROCESS)
        self._versions[prefix] = version
        return version

    def _derived(self, version: ReadyVersion, context: bytes) -> Aead:
        if version.derivation is None:
            raise TypeError("a version that can neither decrypt nor derive")
        self._contexts = self._contexts or _Contexts()
        return self._contexts.get(version.number, version.derivation, context).aead

    def _open_block(self, version: ReadyVersion, sealed: bytes) -> bytes:
        if version.oaep is None:
            raise _unsupported(self._live, "decryption")
        try:
            return version.oaep.decrypt(sealed)
        except ValueError:
            raise invalid("failed to RSA decrypt the ciphertext") from None
