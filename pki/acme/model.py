"""What ACME keeps: pure types, no rules. Times are whole seconds since the epoch."""

from __future__ import annotations

from enum import StrEnum

import msgspec

MINUTE, HOUR = 60, 3600
DAY = 24 * HOUR
ORDER_LIFETIME = DAY  # an order that nobody finishes
AUTHORIZATION_LIFETIME = DAY  # of a pending authorization
# Of a valid one, which is used for one order only: what CAA said may be eight hours old (CA/B BR 3.2.2.8.1).
VALID_LIFETIME = 8 * HOUR
NONCE_LIFETIME = HOUR
EAB_LIFETIME = 30 * DAY  # of a binding key that nobody uses
MAX_IDENTIFIERS = 100

FOREVER = 2**53


class Status(StrEnum):
    """RFC 8555 7.1.6."""

    PENDING = "pending"
    READY = "ready"
    PROCESSING = "processing"
    VALID = "valid"
    INVALID = "invalid"
    DEACTIVATED = "deactivated"
    EXPIRED = "expired"


class EabPolicy(StrEnum):
    """Who needs an external account binding."""

    NOT_REQUIRED = "not-required"
    NEW_ACCOUNT = "new-account-required"
    ALWAYS = "always-required"


class AcmeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """config/acme of a mount: the peer's fields, then ours. Limits are per hour, 0 for none."""

    enabled: bool = False
    allowed_issuers: tuple[str, ...] = ("*",)
    allowed_roles: tuple[str, ...] = ("*",)
    allow_role_ext_key_usage: bool = False
    default_directory_policy: str = "sign-verbatim"
    dns_resolver: str = ""  # "address:port", "" for the system's
    eab_policy: str = EabPolicy.NOT_REQUIRED
    profiles: dict[str, str] = {}  # profile -> role, offered by directories without a role
    caa_identities: tuple[str, ...] = ()  # names of this CA in CAA records; "" checks none
    terms_of_service: str = ""
    website: str = ""
    challenge_types: tuple[str, ...] = ("http-01", "dns-01", "tls-alpn-01")
    allowed_networks: tuple[str, ...] = ()  # narrows the operator's
    pre_authorization: bool = False  # newAuthz (RFC 8555 7.4.1)
    orders_per_account: int = 300
    pending_authorizations: int = 300  # per account, at one time
    failed_validations: int = 60  # per account
    accounts_per_address: int = 50


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """One account of one directory. `jwk` is the canonical JSON of RFC 7638."""

    mount_id: str
    id: str
    directory: str
    status: str
    jwk: bytes
    contact: tuple[str, ...]
    terms_agreed: bool
    created_at: int
    eab_id: str = ""


class AccountKey(msgspec.Struct, frozen=True):
    """Which account a key belongs to; its row's key makes that unique."""

    account_id: str


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 8555 6.7: the last part of the type, and a sentence."""

    type: str
    detail: str
    status: int = 400
    identifier: tuple[str, str] | None = None


class Identifier(msgspec.Struct, frozen=True, order=True):
    """What a certificate is to name: ("dns", "*.example.com") or ("ip", "192.0.2.1")."""

    type: str
    value: str

    @property
    def wildcard(self) -> bool:
        """Whether it stands for all names one level below."""
        return self.type == "dns" and self.value.startswith("*.")

    @property
    def base(self) -> str:
        """What is validated: the name without its wildcard."""
        return self.value.removeprefix("*.") if self.type == "dns" else self.value


class Challenge(msgspec.Struct, frozen=True, kw_only=True):
    """One way to prove control of an identifier."""

    type: str
    token: str
    status: str = Status.PENDING
    validated_at: int = 0
    error: Problem | None = None


class Authorization(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one identifier of one order.

    Args:
        order_id: "" for one that was made in advance and not used yet (pki.acme.preauthorizing).
        free_for: which orders may use that one; "" for all others.
        wildcard: the identifier of the order was a wildcard; `identifier` is the name under it.
        queue: "due" while a challenge is to be validated: what the background work looks for.
        next_at: not before this moment.
        key_authorization_of: thumbprint of the account's key when the client said that it is ready.
    """

    mount_id: str
    id: str
    account_id: str
    order_id: str
    identifier: Identifier
    wildcard: bool
    status: str
    expires_at: int
    challenges: tuple[Challenge, ...]
    queue: str = ""
    next_at: int = 0
    attempts: int = 0
    thumbprint: str = ""
    free_for: str = ""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A wish for a certificate, and what became of it.

    Args:
        not_before, not_after: asked for; 0 for the role's.
        delete_after: the row goes then.
        serial: of the certificate that it got, storage form.
    """

    mount_id: str
    id: str
    account_id: str
    directory: str
    role: str
    issuer_ref: str
    status: str
    expires_at: int
    delete_after: int
    identifiers: tuple[Identifier, ...]
    authorizations: tuple[str, ...]
    created_at: int
    not_before: int = 0
    not_after: int = 0
    profile: str = ""
    replaces: str = ""
    serial: str = ""
    error: Problem | None = None


class Replacement(msgspec.Struct, frozen=True):
    """The order that replaces a certificate (RFC 9773 5): one at a time."""

    order_id: str
    delete_after: int


class Binding(msgspec.Struct, frozen=True, kw_only=True):
    """An external account binding key that was given out and not used yet."""

    mount_id: str
    id: str
    directory: str
    secret: bytes
    created_at: int
    delete_after: int


class Mark(msgspec.Struct, frozen=True):
    """A nonce that was used."""

    delete_after: int


class Tally(msgspec.Struct, frozen=True):
    """How often something happened in the hour that began at `began`."""

    began: int
    count: int
    delete_after: int
