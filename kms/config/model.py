"""The sections of the configuration file as types; `kms.config` says what each is for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from kms.config.addresses import split_address
from kms.config.devices import AuditDevicesConfig
from kms.config.sections import AcmeSection, ApprovalsSection, Tags

Recovery = Literal["none", "hsm-backup", "quorum"]
MAX_WORKERS = 256

_VariableName = Annotated[str, msgspec.Meta(pattern="^[A-Z_][A-Za-z0-9_]{0,63}$")]
_PositiveInt = Annotated[int, msgspec.Meta(ge=1, le=100_000)]


class DataConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Folders of ours: made with mode 0700 when missing.

    Args:
        storage: the database and the lock that keeps a second server out.
        audit: log segments and checkpoints.
    """

    storage: Path
    audit: Path


class TokenSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A token and how to reach it.

    Args:
        name: what the API and doctor call it; the label where this is left out.
        profile: a file of hsm-config/profiles, which gives defaults for what follows.
        module: the vendor's PKCS#11 library; may be left out where a profile knows its places.
        token_label: exactly one token must carry it.
        pin_file: first line is the user PIN; mode 0600 or stricter.
        softhsm2_conf: SoftHSM's own configuration file, for SoftHSM only.
        seal: what new seal roots are: "aes-gcm", or "rsa-oaep" where the token has no AES-GCM with IVs of ours.
        init_args: for modules that refuse C_Initialize(NULL): their parameter string.
        environment: variables that the module reads.
        deadline_seconds: how long a request waits for one call of the HSM before it gets 503; 0 for ever.
        omit: guards that the token's objects do not know, "copyable" or "local".
    """

    name: Annotated[str, msgspec.Meta(pattern="^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$")] = ""
    profile: str = ""
    module: Path | None = None
    token_label: str
    pin_file: Path
    softhsm2_conf: Path | None = None
    seal: Literal["", "aes-gcm", "rsa-oaep"] = ""
    init_args: str = ""
    environment: dict[_VariableName, str] = {}
    omit: tuple[Literal["copyable", "local"], ...] = ()
    deadline_seconds: Annotated[int, msgspec.Meta(ge=0, le=600)] | None = None

    @property
    def title(self) -> str:
        """Its name."""
        return self.name or self.token_label


class OtherToken(TokenSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A further token. It serves once it was enrolled (sys/hsm/tokens).

    Args:
        relation: "own-keys": it has roots of its own, and keys that are born there live there; "same-keys": the vendor
            copies the first token's objects to it.
    """

    relation: Literal["own-keys", "same-keys"]


class HsmSection(TokenSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which token holds the roots.

    Args:
        others: further tokens, the preferred one first.
    """

    others: tuple[OtherToken, ...] = ()

    @property
    def tokens(self) -> tuple[TokenSection, ...]:
        """All of them, this one first."""
        return (self, *self.others)


class TlsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The server's certificate. TLS 1.2 and 1.3; SIGHUP reads both files again.

    Args:
        certificate: PEM, leaf first, with its chain.
        key: PEM; mode 0600 or stricter.
        client_certificates: "request" asks each client for a certificate. Any, or none, is let in: who it
            speaks for is decided where it is used (EST, renewal), against an authority of that place.
    """

    certificate: Path
    key: Path
    client_certificates: Literal["none", "request"] = "none"


class ProxyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Front proxies that end TLS and hand the client's certificate on.

    Args:
        trusted: their networks. Whoever can connect from there can claim any certificate.
        client_certificate_header: the header that they set, and delete when a client sends it.
    """

    trusted: tuple[str, ...]
    client_certificate_header: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9-]{1,64}$")] = "Client-Cert"


class KeysConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What new keys must be, whatever a mount says. No API changes it.

    Args:
        protection: "hsm" refuses software keys; "" demands nothing.
    """

    protection: Literal["", "hsm"] = ""


class PkiSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What certificates may not carry, whatever a role says.

    Args:
        blocklist: keys known to be compromised, a SHA-256 of the SubjectPublicKeyInfo in hex per line; SIGHUP reads
            it again, and a file that is not such a list refuses to start.
    """

    blocklist: Path | None = None


class DocumentsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A second listener, without TLS, for signed documents that anybody may have. All else is 404 there.

    Args:
        listen: "host:port".
    """

    listen: str


class LimitsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bounds of a worker.

    Args:
        connections: open sockets per worker; more are closed at once.
        request_seconds: a worker whose event loop is stuck for longer is killed and replaced.
        stop_seconds: how long running requests may take at a stop.
    """

    connections: _PositiveInt = 1000
    request_seconds: _PositiveInt = 30
    stop_seconds: _PositiveInt = 15


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that an operator may choose.

    Args:
        listen: "host:port" of the API; an IPv6 host stands in brackets.
        workers: worker processes.
        recovery: what helps when the HSM is lost. No default: it cannot be changed after init.
        tags: of this server's environment, for conditions of policies: name -> value.
    """

    listen: str = "127.0.0.1:8200"
    workers: Annotated[int, msgspec.Meta(ge=1, le=MAX_WORKERS)] = 2
    recovery: Recovery
    data: DataConfig
    hsm: HsmSection
    tls: TlsConfig | None = None
    proxy: ProxyConfig | None = None
    keys: KeysConfig = KeysConfig()
    documents: DocumentsConfig | None = None
    pki: PkiSection = PkiSection()
    limits: LimitsConfig = LimitsConfig()
    acme: AcmeSection = AcmeSection()
    approvals: ApprovalsSection | None = None
    tags: Tags = {}
    audit_devices: AuditDevicesConfig = AuditDevicesConfig()

    @property
    def address(self) -> tuple[str, int]:
        """(host, port) of `listen`."""
        return split_address(self.listen)

    @property
    def url(self) -> str:
        """What clients put into BAO_ADDR."""
        return f"{'https' if self.tls else 'http'}://{self.listen}"
