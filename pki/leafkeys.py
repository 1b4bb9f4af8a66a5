"""Keys of leaves: making one for `issue`, judging the one of a CSR for `sign`, writing it out."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from kms.errors import invalid
from kms.together import aside
from pki import cakinds, goodkey
from pki.authority import pem
from pki.goodkey import Blocklist, LeafPublicKey
from pki.model import Role
from pki.rolewrite import key_bits as checked_bits
from pki.schemes import CaPrivateKey, CaPublicKey

_TRADITIONAL = {"ec": "EC PRIVATE KEY", "rsa": "RSA PRIVATE KEY"}

FORMATS = ("pem", "der", "pem_bundle")
PRIVATE_FORMATS = ("der", "pem", "pkcs8")


def wanted_key(args: Mapping[str, Any], role: Role) -> tuple[str, int, tuple[str, ...]]:
    """Type and size of the key to make, and warnings. Raises KmsError(INVALID)."""
    asked, bits = str(args.get("key_type") or ""), int(args.get("key_bits") or 0)
    if role.key_type != "any":
        ignored = bool(asked or bits)
        warning = "parameters key_type and key_bits ignored as role had specific values"
        return role.key_type, role.key_bits, (warning,) if ignored else ()
    if not asked or asked == "any":
        raise invalid(
            'role key type "any" not allowed for issuing certificates without providing'
            " key_type and/or key_bits request parameters"
        )
    return asked, checked_bits(asked, bits), ()


def generate(key_type: str, bits: int) -> CaPrivateKey:
    """A fresh key from OpenSSL's random source."""
    kind = cakinds.ca_kind(key_type, bits)
    if key_type == "rsa":  # takes long, and a different time each time
        return aside(lambda: cakinds.generate(kind))
    return cakinds.generate(kind)


def csr_key(
    csr: x509.CertificateSigningRequest, role: Role, blocklist: Blocklist, is_ca_key: Callable[[str], bool]
) -> tuple[LeafPublicKey, str]:
    """The key of a request, if the role and goodkey accept it. Raises KmsError(INVALID)."""
    public = csr.public_key()
    if not isinstance(public, CaPublicKey):
        raise invalid("unsupported key type: use RSA, EC, Ed25519 or ML-DSA")
    key_type, bits = goodkey.key_type_and_bits(public)
    if role.key_type not in {"any", key_type}:
        raise invalid(f"role requires keys of type {role.key_type}")
    if bits < role.key_bits:
        raise invalid(f"role requires a minimum of a {role.key_bits}-bit key, but CSR's key is {bits} bits")
    if key_type == "rsa":  # looking for weak primes takes milliseconds
        return aside(lambda: goodkey.check(public, blocklist, is_ca_key)), key_type
    return goodkey.check(public, blocklist, is_ca_key), key_type


def check_format(args: Mapping[str, Any]) -> str:
    """The `format` field. Raises KmsError(INVALID)."""
    wanted = str(args.get("format") or "pem")
    if wanted not in FORMATS:
        raise invalid('the "format" path parameter must be "pem", "der", or "pem_bundle"')
    return wanted


def check_private_format(args: Mapping[str, Any]) -> str:
    """The `private_key_format` field. Raises KmsError(INVALID)."""
    wanted = str(args.get("private_key_format") or "der")
    if wanted not in PRIVATE_FORMATS:
        raise invalid('the "private_key_format" parameter must be "der", "pem" or "pkcs8"')
    return wanted


def private_text(key: CaPrivateKey, key_type: str, *, pkcs8: bool, der: bool) -> str:
    """The private key as the answer carries it: PEM, or base64 of DER."""
    traditional = not pkcs8 and key_type in _TRADITIONAL
    layout = PrivateFormat.TraditionalOpenSSL if traditional else PrivateFormat.PKCS8
    data = key.private_bytes(Encoding.DER, layout, NoEncryption())
    if der:
        return base64.b64encode(data).decode("ascii")
    return pem(data, _TRADITIONAL[key_type] if traditional else "PRIVATE KEY")
