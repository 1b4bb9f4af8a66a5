"""What the CA keeps: pure types, no rules.

Times are whole seconds since the epoch. Serial numbers are 40 lower-case hex digits in storage and
`aa:bb:...` on the wire. Ids of keys and issuers are UUIDs.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from kms.cel import Program

DAY = 86_400
DEFAULT_LEAF_TTL = DAY  # hours, not months: a leaf that nobody renews dies by itself
SYSTEM_MAX_TTL = 32 * DAY  # what a mount without its own maximum allows, as in the peer
RETIRED_KEY_WAIT = 30 * DAY  # between removing a mount and destroying its CA keys; no API shortens it
CRL_EXPIRY_MAX = 10 * DAY  # CA/B BR 7.2: nextUpdate at most ten days after thisUpdate
CA_CRL_EXPIRY_MAX = 366 * DAY  # CA/B BR 4.9.7: of a CA that certifies CAs only, at most twelve months


class KeyState(StrEnum):
    """Life of a CA key. The row exists before the object in the HSM and outlives it."""

    PLANNED = "planned"  # the HSM may or may not hold an object under our CKA_ID
    ACTIVE = "active"
    ABANDONED = "abandoned"  # must not be used; an object that exists is destroyed by `Leftovers`
    RETIRED = "retired"  # its mount is gone; destroyed after a waiting time
    LOST = "lost"  # with the HSM that it lived in


class CertificateState(StrEnum):
    """Life of a serial number."""

    INTENT = "intent"  # recorded, linted, not known to be signed
    ISSUED = "issued"
    FAILED = "failed"  # the signature was refused or never made; the serial is spent
    UNKNOWN = "unknown"  # may have been signed; nobody got it; on the CRL


class Protection(StrEnum):
    """Where the private half of a CA key is, for ever."""

    HSM = "hsm"  # born there, and never anywhere else
    SOFTWARE = "software"  # a sealed row: exported, imported, or of a type that no token makes


class CaKey(msgspec.Struct, frozen=True, kw_only=True):
    """A CA key pair: in the HSM, named by our CKA_ID, or in a row of `KeyMaterial`."""

    id: str
    name: str
    spec: str  # pki.cakinds
    cka_id: bytes
    state: str
    created_at: int
    spki: bytes = b""  # SubjectPublicKeyInfo, DER; empty until active
    spki_hash: str = ""  # SHA-256 of spki, hex
    destroy_after: int = 0
    protection: str = Protection.HSM
    responds: bool = False  # signs OCSP answers only; the mount's administrators do not see it


class KeyMaterial(msgspec.Struct, frozen=True):
    """The private half of a CA key of protection software: PKCS#8, DER."""

    pkcs8: bytes


class Urls(msgspec.Struct, frozen=True, kw_only=True):
    """Where relying parties find the issuer's certificate, its CRL and its responder."""

    issuing_certificates: tuple[str, ...] = ()
    crl_distribution_points: tuple[str, ...] = ()
    ocsp_servers: tuple[str, ...] = ()
    delta_crl_distribution_points: tuple[str, ...] = ()
    enable_templating: bool = False  # {{issuer_id}}, {{cluster_path}}, {{cluster_aia_path}}

    def __bool__(self) -> bool:
        return bool(
            self.issuing_certificates
            or self.crl_distribution_points
            or self.ocsp_servers
            or self.delta_crl_distribution_points
        )


class Issuer(msgspec.Struct, frozen=True, kw_only=True):
    """A CA certificate of a mount. `key_id` is empty for ones that only complete a chain."""

    id: str
    name: str
    key_id: str
    certificate: bytes
    serial: str
    not_after: int
    chain: tuple[str, ...] = ()  # issuer ids, this one first
    leaf_not_after_behavior: str = "err"  # err | truncate
    usage: tuple[str, ...] = ("crl-signing", "issuing-certificates", "ocsp-signing", "read-only")
    urls: Urls = Urls()
    created_at: int = 0
    revoked_at: int = 0
    manual_chain: tuple[str, ...] = ()  # issuer ids; empty: `chain` is found by names and signatures
    revocation_signature_algorithm: str = ""  # of its CRLs, in the peer's words; "" for the key's usual one


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """One serial number and what became of it. `tbs` holds the linted bytes until it is signed."""

    mount_id: str
    serial: str
    issuer_id: str
    profile: str
    state: str
    not_before: int
    not_after: int
    role: str = ""
    tbs: bytes = b""
    certificate: bytes = b""
    created_at: int = 0
    revoked_at: int = 0
    stored: bool = True  # False: the role says no_store; the row goes when the signature is made
    shard: int = -1  # of the CRL that its distribution point names; -1: it names the complete one, or none


class Revocation(msgspec.Struct, frozen=True, kw_only=True):
    """The truth about one revoked serial; CRLs are renderings of these rows."""

    mount_id: str
    issuer_id: str
    serial: str
    revoked_at: int
    not_after: int
    crl_number: int  # the first CRL that must list it
    reason: str = ""  # RFC 5280 5.3.1 name, or "" for no extension
    shard: int = -1


class CrlNumber(msgspec.Struct, frozen=True):
    """The highest CRL number ever given out for an issuer; allocated before signing."""

    allocated: int


class CrlMark(msgspec.Struct, frozen=True, kw_only=True):
    """How fresh one CRL is. It is behind while `marked` is greater than `built`.

    Args:
        marked: number of the newest revocation that it must list.
        built: number of the published one.
        base: of a delta: the number of the complete CRL that it adds to.
        places: of a shard: the distribution points that it was issued under.
        claimant: who makes one just now, since `claimed_at`; "" for nobody.
    """

    marked: int = 0
    built: int = 0
    this_update: int = 0
    next_update: int = 0
    base: int = 0
    places: tuple[str, ...] = ()
    claimant: str = ""
    claimed_at: int = 0


class Shards(msgspec.Struct, frozen=True, kw_only=True):
    """The shards of an issuer: as many as there ever were, under all URLs that certificates name.

    Shards are never taken away, because certificates that name them are out.
    """

    count: int
    places: tuple[str, ...]


class Responder(msgspec.Struct, frozen=True, kw_only=True):
    """Who answers OCSP for an issuer: a short-lived certificate and its key."""

    key_id: str
    certificate: bytes
    serial: str
    not_before: int
    not_after: int


class PublicCrl(msgspec.Struct, frozen=True, kw_only=True):
    """A published CRL of an issuer."""

    number: int
    this_update: int
    next_update: int
    entries: int
    der: bytes
    base: int = 0  # of a delta
    modified: int = 0  # pki.unchanged


class PublicIssuer(msgspec.Struct, frozen=True, kw_only=True):
    """An issuer as anybody may see it; the row `default` repeats the default issuer."""

    id: str
    name: str
    certificate: bytes
    chain: tuple[bytes, ...]
    modified: int = 0  # pki.unchanged


class TidyOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a tidy deletes, and when one runs by itself. Times in seconds; names and defaults are the peer's."""

    acme_account_safety_buffer: int = 30 * DAY
    enabled: bool = False
    interval_duration: int = 12 * 3600
    issuer_safety_buffer: int = 365 * DAY
    maintain_stored_certificate_counts: bool = False
    page_size: int = 1000
    pause_duration: str = "0s"
    publish_stored_certificate_count_metrics: bool = False
    revoked_safety_buffer: int = 0  # 0: as safety_buffer
    safety_buffer: int = 3 * DAY
    tidy_acme: bool = False
    tidy_cert_store: bool = False
    tidy_expired_issuers: bool = False
    tidy_invalid_certs: bool = False
    tidy_move_legacy_ca_bundle: bool = False
    tidy_revoked_cert_issuer_associations: bool = False
    tidy_revoked_certs: bool = False

    @property
    def any(self) -> bool:
        """Whether there is anything to do."""
        return (
            self.tidy_acme
            or self.tidy_cert_store
            or self.tidy_expired_issuers
            or self.tidy_invalid_certs
            or self.tidy_move_legacy_ca_bundle
            or self.tidy_revoked_cert_issuer_associations
            or self.tidy_revoked_certs
        )


class MountConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one mount: config/urls, config/crl, config/issuers, config/keys."""

    default_issuer: str = ""
    default_follows_latest_issuer: bool = False
    default_key: str = ""
    urls: Urls = Urls()
    crl_expiry: str = "72h"
    auto_rebuild: bool = False
    auto_rebuild_grace_period: str = "12h"
    delta_rebuild_interval: str = "15m"
    ocsp_disable: bool = False
    ocsp_expiry: str = "12h"
    allow_expired_cert_revocation: bool = False
    cluster_path: str = ""
    cluster_aia_path: str = ""
    enable_delta: bool = False
    crl_shards: int = 0
    auto_tidy: TidyOptions = TidyOptions()


class TidyStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What the last tidy of a mount did."""

    state: str = "Inactive"
    started_at: int = 0
    finished_at: int = 0
    certificates_deleted: int = 0
    revocations_deleted: int = 0
    options: TidyOptions = TidyOptions()
    auto_finished_at: int = 0


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """What a role allows. Fields, order of meaning and defaults are the peer's; the API shows all.

    `ttl` and `max_ttl` 0 mean the mount's or the system's (24 h and 32 days).
    """

    allow_any_name: bool = False
    allow_bare_domains: bool = False
    allow_glob_domains: bool = False
    allow_globs_in_identity_templates: bool = False
    allow_ip_sans: bool = True
    allow_localhost: bool = True
    allow_subdomains: bool = False
    allow_token_displayname: bool = False
    allow_wildcard_certificates: bool = True
    allowed_domains: tuple[str, ...] = ()
    allowed_domains_template: bool = False
    allowed_ip_sans_cidr: tuple[str, ...] = ()
    allowed_other_sans: tuple[str, ...] = ()
    allowed_serial_numbers: tuple[str, ...] = ()
    allowed_uri_sans: tuple[str, ...] = ()
    allowed_uri_sans_template: bool = False
    allowed_user_ids: tuple[str, ...] = ()
    basic_constraints_valid_for_non_ca: bool = False
    client_flag: bool = True
    cn_validations: tuple[str, ...] = ("email", "hostname")
    code_signing_flag: bool = False
    country: tuple[str, ...] = ()
    email_protection_flag: bool = False
    enforce_hostnames: bool = True
    ext_key_usage: tuple[str, ...] = ()
    ext_key_usage_oids: tuple[str, ...] = ()
    generate_lease: bool = False
    issuer_ref: str = "default"
    key_bits: int = 0
    key_type: str = "rsa"
    key_usage: tuple[str, ...] = ("DigitalSignature", "KeyAgreement", "KeyEncipherment")
    locality: tuple[str, ...] = ()
    max_ttl: int = 0
    no_store: bool = False
    not_after: str = ""
    not_after_bound: str = "permit"
    not_before: str = ""
    not_before_bound: str = "permit"
    not_before_duration: int = 30
    organization: tuple[str, ...] = ()
    ou: tuple[str, ...] = ()
    policy_identifiers: tuple[str, ...] = ()
    postal_code: tuple[str, ...] = ()
    province: tuple[str, ...] = ()
    require_cn: bool = True
    server_flag: bool = True
    signature_bits: int = 0
    street_address: tuple[str, ...] = ()
    ttl: int = 0
    use_csr_common_name: bool = True
    use_csr_sans: bool = True
    use_pss: bool = False
    profile: str = ""  # pki.profiles.named
    no_rev_avail: bool = False  # RFC 9608
    renewable: bool = False  # its certificates may renew themselves (pki.reissue)


class CelRole(msgspec.Struct, frozen=True):
    """A role whose limits are a program: it sees the request and says which certificate, or why none."""

    program: Program


def wire_serial(serial: str) -> str:
    """`aabb` as `aa:bb`."""
    return bytes.fromhex(serial).hex(":")


def serial_hex(number: int) -> str:
    """A serial number as an even count of hex digits, as in its DER content octets."""
    text = f"{number:x}"
    return text if len(text) % 2 == 0 else "0" + text


def parse_serial(text: str) -> str | None:
    """Hex of a serial as clients write it (`aa:bb`, `aa-bb`, `aabb`), or None if it is not one."""
    plain = text.strip().lower().replace(":", "").replace("-", "")
    if not plain or len(plain) > 2 * 20 or len(plain) % 2:
        return None
    return plain if all(c in "0123456789abcdef" for c in plain) else None
