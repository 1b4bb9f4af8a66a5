"""The SSH wire format (RFC 4251 5), and public keys in it (RFC 4253 6.6, RFC 5656, RFC 8709, PROTOCOL.u2f).

Own code, because cryptography's certificate builder neither lets the bytes be known before they are signed
(it draws the nonce itself) nor signs with rsa-sha2-256. What leaves is read again with cryptography's parser.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key

from kms.errors import invalid

SshKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

CERT_SUFFIX = "-cert-v01@openssh.com"
MAX_KEY_CHARACTERS = 8192  # RSA-8192 needs 1,400; a comment may follow
_FIDO_SUFFIX = "@openssh.com"
_KINDS = {
    "ssh-rsa": "rsa",
    "ssh-ed25519": "ed25519",
    "sk-ssh-ed25519@openssh.com": "ed25519",
    "ecdsa-sha2-nistp256": "ecdsa",
    "ecdsa-sha2-nistp384": "ecdsa",
    "ecdsa-sha2-nistp521": "ecdsa",
    "sk-ecdsa-sha2-nistp256@openssh.com": "ecdsa",
}


def string(data: bytes) -> bytes:
    """A string: length, then bytes."""
    return struct.pack(">I", len(data)) + data


def mpint(number: int) -> bytes:
    """A non-negative integer in two's complement, as short as can be."""
    return string(number.to_bytes(number.bit_length() // 8 + 1, "big") if number else b"")


def u32(number: int) -> bytes:
    """Four octets, big-endian."""
    return struct.pack(">I", number)


def u64(number: int) -> bytes:
    """Eight octets, big-endian."""
    return struct.pack(">Q", number)


def take_string(data: bytes) -> tuple[bytes, bytes]:
    """The string at the start, and what follows it. Raises ValueError when it is not all there."""
    end = 4 + int.from_bytes(data[:4], "big")
    if len(data) < end:
        raise ValueError("a string of the SSH wire format is cut off")
    return data[4:end], data[end:]


@dataclass(frozen=True)
class PublicKey:
    """A public key as SSH writes it.

    Args:
        kind: its type, "ssh-ed25519".
        blob: the wire form, type included.
        key: the same for computing; of FIDO keys the part without the application.
    """

    kind: str
    blob: bytes
    key: SshKey

    @property
    def family(self) -> str:
        """rsa, ecdsa or ed25519."""
        return _KINDS[self.kind]

    @property
    def fido(self) -> bool:
        """Whether it lives in a security key (PROTOCOL.u2f)."""
        return self.kind.endswith(_FIDO_SUFFIX)

    @property
    def bits(self) -> int:
        """Modulus or curve; 256 for Ed25519."""
        return 256 if isinstance(self.key, ed25519.Ed25519PublicKey) else _size(self.key)

    @property
    def certificate_kind(self) -> str:
        """The type of a certificate for this key."""
        return self.kind.removesuffix(_FIDO_SUFFIX) + CERT_SUFFIX

    @property
    def line(self) -> str:
        """As in authorized_keys, without a comment and a line break."""
        return f"{self.kind} {base64.b64encode(self.blob).decode('ascii')}"

    @property
    def sha256(self) -> bytes:
        """What `ssh-keygen -l` shows in base64."""
        return hashlib.sha256(self.blob).digest()


def _size(key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> int:
    return key.curve.key_size if isinstance(key, ec.EllipticCurvePublicKey) else key.key_size


def of_key(key: SshKey) -> PublicKey:
    """The SSH form of a key that is in another one."""
    text = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")
    kind, _, body = text.partition(" ")
    return PublicKey(kind, base64.b64decode(body), key)


def parse_public_key(text: str) -> PublicKey:
    """A key as `ssh-keygen` writes it, or its base64 alone.

    Raises:
        KmsError(INVALID): not one, of a type that nobody should use, or a certificate.
    """
    if len(text) > MAX_KEY_CHARACTERS:
        raise invalid(f"an SSH public key has at most {MAX_KEY_CHARACTERS} characters")
    parts = text.split()
    body = parts[1] if len(parts) > 1 else "".join(parts)
    try:
        blob = base64.b64decode(body, validate=True)
        size = int.from_bytes(blob[:4], "big")
        kind = blob[4 : 4 + size].decode("ascii")
    except ValueError:  # of base64, or of its text
        raise invalid("not an SSH public key: give the line of an id_*.pub file") from None
    if len(parts) > 1 and parts[0] != kind:
        raise invalid("the SSH public key says one type outside and another inside")
    if kind.endswith(CERT_SUFFIX):
        raise invalid("this is a certificate, and a certificate is not a key: give the public key itself")
    if kind not in _KINDS:
        raise invalid(f"unsupported SSH key type: use one of {', '.join(_KINDS)}")
    try:
        key = load_ssh_public_key(f"{kind} {base64.b64encode(blob).decode('ascii')}".encode("ascii"))
    except (ValueError, UnsupportedAlgorithm, NotImplementedError):
        raise invalid(f"not a valid {kind} public key") from None
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey):
        raise invalid("unsupported SSH key type")
    return PublicKey(kind, blob, key)
