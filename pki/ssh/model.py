"""What the SSH CA keeps: pure types, no rules.

Times are whole seconds since the epoch. Serial numbers are 16 lower-case hex digits in storage and shorter on
the wire, as the peer writes them. The CA's key pairs are rows of the X.509 CA's table (pki.model.CaKey): they live
and die by the same rules.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

DEFAULT = "default"
SERIAL_DIGITS = 16
NEVER = 1 << 62


class Algorithm(StrEnum):
    """Signature algorithms of an RSA CA (RFC 8332). ssh-rsa is SHA-1: nobody here signs with that."""

    DEFAULT = "default"
    SHA256 = "rsa-sha2-256"
    SHA512 = "rsa-sha2-512"


class SshMount(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one mount.

    Args:
        krl_version: of the last change to what is revoked; never falls.
        krl_time: when that was.
        zeroaddress: roles whose one-time passwords are good for any address.
    """

    default_issuer: str = ""
    krl_version: int = 0
    krl_time: int = 0
    zeroaddress: tuple[str, ...] = ()


class SshIssuer(msgspec.Struct, frozen=True, kw_only=True):
    """A CA of a mount. `key_id` names its key in the HSM; an imported one has `private` (PEM) instead."""

    id: str
    name: str
    public_key: str  # "ssh-ed25519 AAAA..."
    created_at: int
    key_id: str = ""
    private: bytes = b""


class SshRole(msgspec.Struct, frozen=True, kw_only=True):
    """What a role allows. Fields and defaults are the peer's."""

    key_type: str
    algorithm_signer: str = Algorithm.DEFAULT
    allow_bare_domains: bool = False
    allow_commas_in_identity_templates: bool = False
    allow_empty_principals: bool = False
    allow_host_certificates: bool = False
    allow_subdomains: bool = False
    allow_user_certificates: bool = False
    allow_user_key_ids: bool = False
    allow_wildcards_in_identity_templates: bool = False
    allowed_critical_options: str = ""
    allowed_domains: str = ""
    allowed_domains_template: bool = False
    allowed_extensions: str = ""
    allowed_user_key_lengths: dict[str, tuple[int, ...]] = {}
    allowed_users: str = ""
    allowed_users_template: bool = False
    cidr_list: str = ""
    default_critical_options: dict[str, str] = {}
    default_extensions: dict[str, str] = {}
    default_extensions_template: bool = False
    default_user: str = ""
    default_user_template: bool = False
    exclude_cidr_list: str = ""
    issuer_ref: str = DEFAULT
    key_id_format: str = ""
    max_ttl: int = 0
    not_before_duration: int = 30
    port: int = 22
    ttl: int = 0


class SshCertificate(msgspec.Struct, frozen=True, kw_only=True):
    """One serial number and what became of it. `state` is a pki.model.CertificateState."""

    mount_id: str
    issuer_id: str
    serial: str
    state: str
    role: str
    kind: str  # user | host
    key_id: str
    principals: tuple[str, ...]
    valid_after: int
    valid_before: int
    public_key: str  # SHA-256 fingerprint of the certified key, hex
    certificate: str = ""
    created_at: int = 0
    revoked_at: int = 0


class By(StrEnum):
    """What a revocation names."""

    SERIAL = "serial"
    KEY_ID = "key_id"
    KEY = "public_key"
    FINGERPRINT = "fingerprint"


class SshRevocation(msgspec.Struct, frozen=True, kw_only=True):
    """The truth about one revoked thing; the KRL is a rendering of these rows.

    Args:
        issuer_id: whose certificates; "" for keys, which are revoked in whatever certificate, and without one.
        value: hex serial, key id, base64 of the key's blob, or hex of its SHA-256.
        valid_before: when it may be forgotten, for a serial that is on record.
        ca: the issuer's public key, so that deleting the issuer revives nothing; "" for any.
    """

    mount_id: str
    by: str
    value: str
    revoked_at: int
    issuer_id: str = ""
    ca: str = ""
    valid_before: int = NEVER


class SshOtp(msgspec.Struct, frozen=True, kw_only=True):
    """A one-time password, kept as its hash."""

    mount_id: str
    role: str
    username: str
    ip: str
    expires_at: int


def storage_serial(number: int) -> str:
    """16 hex digits."""
    return f"{number:0{SERIAL_DIGITS}x}"


def wire_serial(serial: str) -> str:
    """As the API shows it: hex without leading zeros."""
    return f"{int(serial, 16):x}"
