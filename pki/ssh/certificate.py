"""OpenSSH certificates (PROTOCOL.certkeys): made here, read again with another's parser before they leave."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    SSHCertificate,
    SSHCertificateType,
    load_ssh_public_identity,
)

from kms.errors import integrity
from pki.ssh.signers import verify
from pki.ssh.wire import PublicKey, string, u32, u64

USER, HOST = "user", "host"
NONCE_BYTES = 32
_TYPES = {USER: 1, HOST: 2}

Options = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """Everything that a certificate says.

    Args:
        kind: USER or HOST.
        principals: never empty.
        critical_options, extensions: sorted by name; "" for flags.
        issuer: the CA's key.
        nonce: 32 random bytes, so that nobody chooses what the CA signs.
    """

    subject: PublicKey
    serial: int
    kind: str
    key_id: str
    principals: tuple[str, ...]
    valid_after: int
    valid_before: int
    critical_options: Options
    extensions: Options
    issuer: PublicKey
    nonce: bytes


def to_be_signed(draft: Draft) -> bytes:
    """The bytes of the certificate up to its signature."""
    head = string(draft.subject.kind.encode("ascii"))
    return b"".join(
        (
            string(draft.subject.certificate_kind.encode("ascii")),
            string(draft.nonce),
            draft.subject.blob[len(head) :],  # the key's own fields follow in all types alike
            u64(draft.serial),
            u32(_TYPES[draft.kind]),
            string(draft.key_id.encode()),
            string(b"".join(string(name.encode()) for name in draft.principals)),
            u64(draft.valid_after),
            u64(draft.valid_before),
            string(_options(draft.critical_options)),
            string(_options(draft.extensions)),
            string(b""),
            string(draft.issuer.blob),
        )
    )


def _options(options: Options) -> bytes:
    return b"".join(
        string(name.encode()) + string(string(value.encode()) if value else b"") for name, value in options
    )


def finished(draft: Draft, signed: bytes, signature: bytes) -> str:
    """The certificate as a line, if it is what the draft says and the CA signed it.

    Args:
        draft: what it must say.
        signed: the bytes that were signed.
        signature: in wire form.

    Raises:
        KmsError(INTEGRITY): it is not; it must not leave.
    """
    body = base64.b64encode(signed + string(signature)).decode("ascii")
    line = f"{draft.subject.certificate_kind} {body}"
    try:
        if draft.subject.fido:
            # That parser knows the keys of FIDO, and not their certificates.
            verify(draft.issuer, signed, signature)
            return line
        read = load_ssh_public_identity(line.encode("ascii"))
        if not isinstance(read, SSHCertificate) or not _says(read, draft):
            raise integrity("the signed certificate is not the one that was checked")
        read.verify_cert_signature()
    except (ValueError, UnsupportedAlgorithm):
        raise integrity("the signed certificate cannot be read") from None
    except InvalidSignature:
        raise integrity("the signature over an SSH certificate does not verify") from None
    return line


def _says(read: SSHCertificate, draft: Draft) -> bool:
    kind = SSHCertificateType.HOST if draft.kind == HOST else SSHCertificateType.USER
    return (
        read.serial == draft.serial
        and read.type is kind
        and read.key_id == draft.key_id.encode()
        and read.nonce == draft.nonce
        and read.valid_principals == [name.encode() for name in draft.principals]
        and read.valid_after == draft.valid_after
        and read.valid_before == draft.valid_before
        and read.critical_options == _encoded(draft.critical_options)
        and read.extensions == _encoded(draft.extensions)
        and read.public_key() == draft.subject.key
        and read.signature_key() == draft.issuer.key
    )


def _encoded(options: Options) -> dict[bytes, bytes]:
    return {name.encode(): value.encode() for name, value in options}
