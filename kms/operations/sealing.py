"""Encrypting and decrypting with one key, for single requests and batches alike.

A `Sealer` or an `Opener` lives for one request: it looks each version up once, draws the uses of a
batch in one go, and takes all nonces from one read of the kernel's random source.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag

from kms.errors import ErrorKind, KmsError, invalid
from kms.keys.catalogue import Protection, Use
from kms.keys.lifecycle import processing_version, protecting_version
from kms.keys.live import LiveKey
from kms.keys.ready import NONCE_BYTES, TAG_BYTES, Aead, ReadyVersion
from kms.operations.formats import Base64Error, decode, encode, split

_SHORTEST = NONCE_BYTES + TAG_BYTES
# One text for a wrong tag, key, version or associated data: the answer must not say which.
UNREADABLE = "cipher: message authentication failed"


def payload(given: str) -> bytes:
    """Base64 from a client.

    Raises:
        KmsError(INVALID): it is not.
    """
    try:
        return decode(given)
    except Base64Error as error:
        raise invalid(str(error)) from None


def _associated(live: LiveKey, version: ReadyVersion, given: str) -> bytes:
    if version.aead is None:
        raise invalid(f"associated_data provided for non-AEAD cipher suite {live.key.type}")
    try:
        return decode(given)
    except Base64Error as error:
        raise invalid(f"unable to decode associated_data as base64: {error}") from None


def _unsupported(live: LiveKey, what: str) -> KmsError:
    key, algorithm = live.key, live.algorithm
    # Say why, where the same type could in software.
    could = key.protection is Protection.HSM and algorithm.allows(Use.ENCRYPT, Protection.SOFTWARE)
    return invalid(
        f"message {what} not supported for key type {key.type}{' with protection hsm' if could else ''}"
    )


class Sealer:
    """Encrypts up to `uses` messages.

    Raises:
        KmsError(INVALID): from `seal`, when the version may not encrypt or the data does not fit.
    """

    __slots__ = ("_at", "_live", "_nonces", "_uses", "_versions")

    def __init__(self, live: LiveKey, uses: int) -> None:
        self._live = live
        self._uses = uses
        self._versions: dict[int, tuple[ReadyVersion, Aead | None, str]] = {}
        self._nonces = b""
        self._at = 0

    def seal(self, requested: int, data: bytes, aad_text: str) -> tuple[str, int]:
        """`vault:v<N>:...` and N. `requested` 0 asks for the newest version."""
        version, aead, prefix = self._versions.get(requested) or self._prepare(requested)
        aad = _associated(self._live, version, aad_text) if aad_text else None
        if aead is None:
            if version.oaep is None:
                raise _unsupported(self._live, "encryption")
            return prefix + encode(version.oaep.encrypt(data)), version.number
        at = self._at
        self._at = end = at + NONCE_BYTES
        nonce = self._nonces[at:end]
        return prefix + encode(nonce + aead.encrypt(nonce, data, aad)), version.number

    def _prepare(self, requested: int) -> tuple[ReadyVersion, Aead | None, str]:
        version = self._live.version(protecting_version(self._live.key, requested, "encryption"))
        if version.allowance is not None:
            # Counted before the first use; what a failing item leaves over is lost, on the safe side.
            version.allowance.spend(self._uses)
        if not self._nonces:
            self._nonces = os.urandom(NONCE_BYTES * self._uses)
        prepared = (version, version.aead, f"vault:v{version.number}:")
        self._versions[requested] = prepared
        return prepared


class Opener:
    """Decrypts messages of one key.

    Raises:
        KmsError(INVALID): from `open`, for what is malformed, disallowed, or not sealed by this key.
    """

    __slots__ = ("_live", "_versions")

    def __init__(self, live: LiveKey) -> None:
        self._live = live
        self._versions: dict[str, ReadyVersion] = {}

    def open(self, ciphertext: str, aad_text: str = "") -> bytes:
        """The plaintext."""
        end = ciphertext.find(":", 7) + 1
        prefix = ciphertext[:end]
        version = self._versions.get(prefix) or self._prepare(ciphertext, prefix)
        try:
            sealed = decode(ciphertext[end:])
        except Base64Error:
            raise invalid("invalid ciphertext: could not decode base64") from None
        aad = _associated(self._live, version, aad_text) if aad_text else None
        if version.aead is None:
            return self._open_block(version, sealed)
        if len(sealed) < _SHORTEST:
            raise invalid("invalid ciphertext length")
        try:
            return version.aead.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], aad)
        except InvalidTag:
            raise invalid(UNREADABLE) from None
        except KmsError as error:
            if error.kind is ErrorKind.INVALID:
                raise invalid(UNREADABLE) from None
            raise

    def _prepare(self, ciphertext: str, prefix: str) -> ReadyVersion:
        number, _ = split(ciphertext, "ciphertext")
        # "v0" is what Vault before 0.3 wrote for the first version.
        version = self._live.version(processing_version(self._live.key, number or 1, "ciphertext"))
        self._versions[prefix] = version
        return version

    def _open_block(self, version: ReadyVersion, sealed: bytes) -> bytes:
        if version.oaep is None:
            raise _unsupported(self._live, "decryption")
        try:
            return version.oaep.decrypt(sealed)
        except ValueError:
            raise invalid("failed to RSA decrypt the ciphertext") from None
