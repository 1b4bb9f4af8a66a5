"""Keys of subjects: judging the one to be signed, and making one for `issue`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from kms.errors import invalid
from pki.ssh.model import SshRole
from pki.ssh.signers import SoftwareKey
from pki.ssh.wire import PublicKey

_CURVES: dict[int, ec.EllipticCurve] = {256: ec.SECP256R1(), 384: ec.SECP384R1(), 521: ec.SECP521R1()}
_NAMED = {"ecdsa-sha2-nistp256": 256, "ecdsa-sha2-nistp384": 384, "ecdsa-sha2-nistp521": 521}
_RSA_BITS = (2048, 3072, 4096, 8192)
# What a role may call a family; a curve may be named as well.
_ALIASES = {
    "rsa": ("rsa", "ssh-rsa"),
    "ecdsa": ("ecdsa", "ec"),
    "ed25519": ("ed25519", "ssh-ed25519"),
}


def check_allowed(role: SshRole, key: PublicKey) -> None:
    """Whether the role wants keys like this one.

    Raises:
        KmsError(INVALID): in the peer's words.
    """
    if not role.allowed_user_key_lengths:
        return
    named = (key.kind,) if key.family == "ecdsa" else ()
    sizes = {
        name: role.allowed_user_key_lengths[name]
        for name in (*_ALIASES[key.family], *named)
        if name in role.allowed_user_key_lengths
    }
    if not sizes:
        raise invalid(
            f"public_key failed to meet the key requirements: key of type {key.family} is not allowed"
        )
    sized = {name for name in sizes if key.family == "rsa" or name in {"ec", "ecdsa"}}
    if not any(key.bits in allowed if name in sized else bool(allowed) for name, allowed in sizes.items()):
        raise invalid(
            f"public_key failed to meet the key requirements: key is of an invalid size: {key.bits}"
        )


def wanted(role: SshRole, args: Mapping[str, Any]) -> tuple[str, int]:
    """Family and size of the key to make. Raises KmsError(INVALID)."""
    asked, bits = str(args["key_type"]), int(args["key_bits"])
    if role.allowed_user_key_lengths:
        family = "ecdsa" if asked == "ec" else asked
        sizes = [role.allowed_user_key_lengths.get(name) for name in _ALIASES.get(family, (asked,))]
        if not any(size is not None for size in sizes):
            raise invalid("provided key_type value not in allowed_user_key_types")
        if not any(bits in size for size in sizes if size is not None):
            raise invalid("provided key_bits value not in list of role's allowed_user_key_types")
    if asked in {"rsa", "ssh-rsa"}:
        size = bits or 4096
        if size not in _RSA_BITS:
            if size < 2048:
                raise invalid(f"refusing to generate weak {asked} key: {bits} bits < 2048 bits")
            raise invalid(f"RSA keys have 2048, 3072, 4096 or 8192 bits, not {bits}")
        return "rsa", size
    if asked in {"ed25519", "ssh-ed25519"}:
        return "ed25519", 0
    if asked in _NAMED or asked == "ec":
        size = _NAMED.get(asked, bits or 256)
        if size not in _CURVES:
            raise invalid(f"unknown ECDSA key pair algorithm and bits: {asked} / {bits}")
        return "ec", size
    raise invalid(f"unknown ssh key pair algorithm: {asked}")


def generate(family: str, bits: int) -> SoftwareKey:
    """A fresh key from OpenSSL's random source."""
    if family == "rsa":
        return rsa.generate_private_key(65537, bits)
    return ec.generate_private_key(_CURVES[bits]) if family == "ec" else ed25519.Ed25519PrivateKey.generate()


def private_text(key: SoftwareKey) -> str:
    """As the peer writes it: PEM, Ed25519 in OpenSSH's form."""
    form = PrivateFormat.TraditionalOpenSSL
    if isinstance(key, ed25519.Ed25519PrivateKey):
        form = PrivateFormat.OpenSSH
    return key.private_bytes(Encoding.PEM, form, NoEncryption()).decode("ascii")
