"""C2SP signed notes and checkpoints (c2sp.org/signed-note, c2sp.org/tlog-checkpoint), strictly.

    <origin>
    <size, decimal, no leading zero>
    <root hash, base64>

    — <key name> <base64(4-byte key hash || signature)>

Keys are written as verifier keys, `name+hash+base64(0x01 || Ed25519 public key)`, with hash = the first four
bytes of SHA-256(name || LF || 0x01 || public key). Parsers have a stated maximum and accept one spelling.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from typing import Protocol

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from kms.errors import integrity, invalid

MAX_NOTE = 16 * 1024
MAX_SIGNATURES = 16
MAX_SIZE = 2**63 - 1

_ED25519 = b"\x01"
_NAME = re.compile(r"[!-*,-:<-~]{1,128}\Z")  # printable ASCII without space, '+' and ';' (receipts use it)
_SIZE = re.compile(r"(?:0|[1-9][0-9]{0,18})\Z")
_SIGNATURE = re.compile(r"— (?P<name>[^ +\n]{1,256}) (?P<blob>[A-Za-z0-9+/]+={0,2})\Z")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


class LogSigner(Protocol):
    """The log's private key, wherever it lives."""

    @property
    def public(self) -> bytes:
        """The raw 32-byte Ed25519 public key."""
        ...

    def sign(self, message: bytes) -> bytes:
        """A 64-byte Ed25519 signature (RFC 8032). Raises KmsError(HSM_UNAVAILABLE)."""
        ...


class LogKey(msgspec.Struct, frozen=True):
    """A named Ed25519 public key."""

    name: str
    public: bytes

    @property
    def hash(self) -> bytes:
        """The four bytes that signature lines start with."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:4]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the raw public key, for people to compare."""
        return "SHA256:" + hashlib.sha256(self.public).hexdigest()

    def line(self) -> str:
        """The C2SP verifier key."""
        return f"{self.name}+{self.hash.hex()}+{_b64(_ED25519 + self.public)}"


class Checkpoint(msgspec.Struct, frozen=True):
    """The head of a log: its origin, how many leaves, their RFC 6962 root."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The signed part of the note."""
        return f"{self.origin}\n{self.size}\n{_b64(self.root)}\n"


def check_origin(origin: str) -> str:
    """Return a usable log name unchanged. Raises KmsError(INVALID)."""
    if not _NAME.match(origin):
        raise invalid("invalid log origin: use 1 to 128 printable ASCII characters without space, '+' or ';'")
    return origin


def parse_key(line: str) -> LogKey:
    """Read a verifier key. Raises KmsError(INVALID)."""
    name, _, rest = line.strip().partition("+")
    key_hash, _, blob = rest.partition("+")
    raw = _unb64(blob)
    if raw is None or len(raw) != 33 or raw[:1] != _ED25519 or not _NAME.match(name):
        raise invalid("not an Ed25519 verifier key: expected name+hash+base64")
    key = LogKey(name, raw[1:])
    if key_hash != key.hash.hex():
        raise invalid("the hash in the verifier key does not belong to its name and key")
    return key


def sign_checkpoint(checkpoint: Checkpoint, signer: LogSigner) -> bytes:
    """The whole note, signed under the log's origin as key name."""
    text = checkpoint.text()
    key = LogKey(check_origin(checkpoint.origin), signer.public)
    signature = signer.sign(text.encode())
    return f"{text}\n— {key.name} {_b64(key.hash + signature)}\n".encode()


def open_checkpoint(note: bytes, keys: Iterable[LogKey]) -> Checkpoint:
    """Verify a checkpoint's note and return what it says.

    Raises:
        KmsError(INTEGRITY): malformed, too large, or not signed by any of `keys`.
    """
    return _parse_text(open_note(note, keys))


def read_checkpoint(note: bytes) -> Checkpoint:
    """What a note says, whoever signed it: for copying, never for believing. Raises KmsError(INTEGRITY)."""
    return _parse_text(_split(note)[0])


def open_note(note: bytes, keys: Iterable[LogKey]) -> str:
    """Verify a note and return its text.

    Signatures of unknown keys (witnesses) are skipped; one by a known key must verify, and at least one
    known key must have signed.

    Raises:
        KmsError(INTEGRITY): malformed, too large, or not signed by any of `keys`.
    """
    text, signatures = _split(note)
    known = {(key.name, key.hash): key for key in keys}
    good = 0
    for name, blob in signatures:
        key = known.get((name, blob[:4]))
        if key is None:
            continue
        try:
            Ed25519PublicKey.from_public_bytes(key.public).verify(blob[4:], text.encode())
        except InvalidSignature:
            raise integrity(f"the signature of {name} on the note is wrong") from None
        good += 1
    if not good:
        raise integrity("no known key has signed the note")
    return text


def _split(note: bytes) -> tuple[str, list[tuple[str, bytes]]]:
    if len(note) > MAX_NOTE:
        raise integrity("the note is larger than 16 KiB")
    try:
        whole = note.decode()
    except UnicodeDecodeError:
        raise integrity("the note is not UTF-8") from None
    text, blank, tail = whole.rpartition("\n\n")
    if not blank or not tail.endswith("\n") or _CONTROL.search(whole):
        raise integrity("the note has no signature block, or control characters")
    lines = tail[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise integrity("the note has more than 16 signatures")
    return text + "\n", [_signature(line) for line in lines]


def _signature(line: str) -> tuple[str, bytes]:
    match = _SIGNATURE.match(line)
    blob = _unb64(match["blob"]) if match else None
    if match is None or blob is None or len(blob) < 5:
        raise integrity("a signature line of the note is malformed")
    return match["name"], blob


def _parse_text(text: str) -> Checkpoint:
    lines = text.split("\n")
    if len(lines) != 4 or lines[3]:
        # The format allows extension lines; this log writes none, so one of ours never has any.
        raise integrity("the checkpoint does not have exactly three lines")
    origin, size, encoded, _ = lines
    root = _unb64(encoded)
    if not _NAME.match(origin) or not _SIZE.match(size) or int(size) > MAX_SIZE:
        raise integrity("the checkpoint's origin or size is malformed")
    if root is None or len(root) != 32:
        raise integrity("the checkpoint's root is malformed")
    return Checkpoint(origin, int(size), root)


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unb64(text: str) -> bytes | None:
    """Standard base64 with padding, in its only canonical spelling."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if _b64(data) == text else None
