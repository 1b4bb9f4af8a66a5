"""The configuration file: TOML, strict, documented, and without insecure switches.

    listen = "127.0.0.1:8200"        # address of the API; off loopback, [tls] is required
    workers = 2                      # worker processes; each opens its own HSM session
    recovery = "quorum"              # none | hsm-backup | quorum: what helps when the HSM is lost

    [data]
    storage = "/var/lib/keystead/storage"
    audit = "/var/lib/keystead/audit"      # on another disk than storage, where there is one

    [hsm]
    profile = "softhsm"                    # a file of hsm-config/profiles; or name the module yourself
    module = "/usr/lib/softhsm/libsofthsm2.so"
    token_label = "keystead"
    pin_file = "/etc/keystead/pin"         # readable by its owner only
    softhsm2_conf = "/etc/keystead/softhsm2.conf"   # SoftHSM only
    seal = "aes-gcm"                       # or "rsa-oaep", for tokens without AES-GCM; for new roots
    init_args = ""                         # for modules that want a parameter string (NSS)
    environment = {}                       # variables that the module reads
    deadline_seconds = 10                  # a request waits so long for the HSM; 0 for ever (in-process tokens)
    omit = []                              # guards that the token does not know: "copyable", "local"
    name = ""                              # what the API calls it; else its label

    [[hsm.others]]                         # a further token; the keys of [hsm], and
    token_label = "second"
    pin_file = "/etc/keystead/second-pin"
    relation = "own-keys"                  # or "same-keys", for a copy that the vendor makes

    [tls]
    certificate = "/etc/keystead/tls.pem"  # with its chain
    key = "/etc/keystead/tls.key"          # readable by its owner only
    client_certificates = "none"           # or "request": ask clients for one, take connections without, too

    [proxy]                                # leave it out unless a front proxy ends TLS for clients
    trusted = ["10.1.2.0/24"]              # networks of the proxies; nobody else's header is read
    client_certificate_header = "Client-Cert"   # RFC 9440, or nginx's $ssl_client_escaped_cert

    [documents]
    listen = "0.0.0.0:8201"                # plain HTTP for CA certificates, CRLs and OCSP only; leave it out for none

    [keys]
    protection = "hsm"               # every new key must be born in the HSM; leave it out for no demand

    [pki]
    blocklist = "/etc/keystead/blocked-keys"    # SHA-256 of SubjectPublicKeyInfos that no certificate may carry

    [acme]
    networks = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"]   # where challenges may be fetched
    http_port = 80                   # of http-01
    tls_port = 443                   # of tls-alpn-01

    [approvals]                      # requests that need the consent of others, root's too; leave it out for none
    approvals = 2                    # of different people, besides the one who asks
    operations = ["destroy", "export", "rotate-root"]
    paths = ["transit/keys/+/config"]           # further requests, as patterns of policies
    groups = ["custodians"]          # identity groups whose members may consent, and
    policies = ["custodian"]         # policies whose holders may
    max_ttl = "24h"                  # the longest that a request waits

    [tags]                           # of this server, for conditions of policies
    environment = "production"
    [audit_devices]                  # where sys/audit may write: kms/devicesconfig.py
    folders = ["/var/log/keystead"]

    [limits]
    connections = 1000               # per worker
    request_seconds = 30             # a worker that is stuck for longer is replaced
    stop_seconds = 15                # how long requests may finish at a stop

An unknown key refuses to start: a misspelt protection must not be a silent one. Secrets are never in
the file; it names files, and those must not be readable by others.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from kms.devicesconfig import AuditDevicesConfig, check_networks, devices_lines
from kms.errors import KmsError, invalid
from kms.sections import AcmeSection, ApprovalsSection, Tags, check_sections

Recovery = Literal["none", "hsm-backup", "quorum"]
MAX_CONFIG_BYTES = 64 * 1024
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


def split_address(listen: str) -> tuple[str, int]:
    """The (host, port) of "127.0.0.1:8200" or "[::1]:8200".

    Raises:
        KmsError(INVALID): not an IP address and a port.
    """
    host, _, port = listen.rpartition(":")
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        number = int(port) if port.isdecimal() else -1
    except ValueError:
        number = -1
    if not 1 <= number <= 65535:
        raise invalid(f'listen must be an IP address and a port, like "127.0.0.1:8200", not "{listen}"')
    return str(address), number


def is_loopback(listen: str) -> bool:
    """Whether only this machine can connect."""
    return ipaddress.ip_address(split_address(listen)[0]).is_loopback


def load(path: Path) -> Config:
    """Read and check a configuration file.

    Raises:
        KmsError(INVALID): a sentence with the file, the key and what to do.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise invalid(f"cannot read the configuration {path}: {error.strerror}") from None
    return parse(text, str(path))


def parse(text: bytes, name: str) -> Config:
    """`load` for bytes; `name` stands in the messages."""
    if len(text) > MAX_CONFIG_BYTES:
        raise invalid(f"{name} is larger than {MAX_CONFIG_BYTES} bytes; is it really a configuration?")
    try:
        tree = tomllib.loads(text.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise invalid(f"{name} is not TOML: {error}") from None
    try:
        config = msgspec.convert(tree, Config, dec_hook=_path)
    except msgspec.ValidationError as error:
        raise invalid(f"{name}: {_explained(str(error))}") from None
    _check(config, name)
    return config


def check_files(config: Config) -> None:
    """What must be true of the files at start: they exist and keep their secrets.

    Raises:
        KmsError(INVALID): missing, or readable by others.
    """
    for section in config.hsm.tokens:
        if section.module is not None and not section.module.is_file():
            raise invalid(f"hsm.module {section.module} does not exist; install the token's PKCS#11 library")
    for section in config.hsm.tokens:
        check_private(section.pin_file, "hsm.pin_file")
    if config.tls is not None:
        check_private(config.tls.key, "tls.key")
        if not config.tls.certificate.is_file():
            raise invalid(f"tls.certificate {config.tls.certificate} does not exist")


def check_private(path: Path, key: str) -> None:
    """Raise KmsError(INVALID) unless `path` is a file that only its owner can read."""
    try:
        status = path.stat()
    except OSError as error:
        raise invalid(f"{key}: cannot read {path}: {error.strerror}") from None
    if status.st_mode & 0o077:
        raise invalid(f"{key}: {path} can be read by others; run: chmod 600 {path}")
    if status.st_uid not in (os.geteuid(), 0):
        raise invalid(f"{key}: {path} belongs to another user; run keystead as its owner or change the owner")


def render(config: Config) -> str:
    """The TOML text of a configuration, as `keystead dev` writes it."""
    lines = [
        f"listen = {_quoted(config.listen)}",
        f"workers = {config.workers}",
        f"recovery = {_quoted(config.recovery)}",
        "",
        "[data]",
        f"storage = {_quoted(config.data.storage)}",
        f"audit = {_quoted(config.data.audit)}",
        "",
        "[hsm]",
        *_hsm_choices(config.hsm),
        f"token_label = {_quoted(config.hsm.token_label)}",
        f"pin_file = {_quoted(config.hsm.pin_file)}",
    ]
    if config.hsm.softhsm2_conf is not None:
        lines.append(f"softhsm2_conf = {_quoted(config.hsm.softhsm2_conf)}")
    if config.tls is not None:
        lines += ["", "[tls]"]
        lines += [f"certificate = {_quoted(config.tls.certificate)}", f"key = {_quoted(config.tls.key)}"]
    if config.pki.blocklist is not None:
        lines += ["", "[pki]", f"blocklist = {_quoted(config.pki.blocklist)}"]
    if config.acme != AcmeSection():
        networks = msgspec.json.encode(config.acme.networks).decode()
        lines += ["", "[acme]", f"networks = {networks}"]
        lines += [f"http_port = {config.acme.http_port}", f"tls_port = {config.acme.tls_port}"]
    return "\n".join(lines + devices_lines(config.audit_devices)) + "\n"


def _hsm_choices(section: HsmSection) -> list[str]:
    """The lines of [hsm] that may be absent."""
    lines = [
        f"{name} = {_quoted(value)}"
        for name in ("profile", "module", "seal", "init_args")
        if (value := getattr(section, name))
    ]
    if section.omit:
        lines.append(f"omit = {msgspec.json.encode(section.omit).decode()}")
    if section.environment:
        pairs = ", ".join(f"{name} = {_quoted(value)}" for name, value in section.environment.items())
        lines.append(f"environment = {{ {pairs} }}")
    return lines


def _quoted(value: object) -> str:
    return msgspec.json.encode(str(value)).decode()  # a JSON string is a TOML basic string


def _path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str):
        if not value.startswith("/"):
            raise ValueError(f'expected an absolute path, not "{value}"')
        return Path(value)
    raise ValueError(f"expected {kind.__name__}")


def _explained(text: str) -> str:
    """The message of msgspec with the key in TOML's spelling and a hint."""
    message, _, place = text.partition(" - at ")
    place = place.strip("`").removeprefix("$").removeprefix(".")
    where = f" in [{place}]" if place and "unknown field" in message else f" ({place})" if place else ""
    hint = ""
    if "unknown field" in message:
        hint = "; unknown keys refuse to start, see the list in the documentation of kms.config"
    elif "missing required field" in message and "recovery" in message:
        hint = '; choose "none", "hsm-backup" or "quorum": it cannot be changed after init'
    return f"{message}{where}{hint}"


def _check(config: Config, name: str) -> None:
    documents = [config.documents.listen] if config.documents is not None else []
    for address in (config.listen, *documents):
        try:
            split_address(address)
        except KmsError as error:
            raise invalid(f"{name}: {error.detail}") from None
    if config.listen in documents:
        raise invalid(f"{name}: [documents] needs an address of its own")
    if not is_loopback(config.listen) and config.tls is None:
        raise invalid(
            f"{name}: listen {config.listen} can be reached from outside, so [tls] with certificate and "
            "key is required; listen on 127.0.0.1 to do without"
        )
    _check_tokens(config, name)
    if config.proxy is not None:
        _check_networks(config.proxy, name)
    check_sections(config.acme, config.approvals, name)
    check_networks(config.audit_devices.networks, f"{name}: audit_devices.networks")
    if config.data.storage == config.data.audit:
        raise invalid(f"{name}: data.storage and data.audit must be different folders")


def _check_networks(proxy: ProxyConfig, name: str) -> None:
    if not proxy.trusted:
        raise invalid(f"{name}: proxy.trusted is empty; leave [proxy] out when no proxy is trusted")
    for text in proxy.trusted:
        try:
            network = ipaddress.ip_network(text)
        except ValueError:
            raise invalid(f'{name}: proxy.trusted: "{text}" is not a network like 10.1.2.0/24') from None
        if network.prefixlen == 0:
            raise invalid(f"{name}: proxy.trusted: {text} would believe everybody; name the proxies")


def _check_tokens(config: Config, name: str) -> None:
    for section in config.hsm.tokens:
        if section.module is None and not section.profile:
            raise invalid(f"{name}: [hsm] needs a module, or a profile that knows where it is")
        if (section.deadline_seconds or 0) >= config.limits.request_seconds:
            raise invalid(f"{name}: hsm.deadline_seconds must be less than limits.request_seconds")
    titles = [section.title for section in config.hsm.tokens]
    if len(set(titles)) != len(titles):
        raise invalid(f"{name}: two tokens have one name; give one of them another with hsm.others.name")
    if sum(other.relation == "own-keys" for other in config.hsm.others) > 1:
        raise invalid(f"{name}: at most two tokens may have keys of their own; any number may be copies")


__all__ = [
    "AcmeSection",
    "Config",
    "DataConfig",
    "DocumentsConfig",
    "HsmSection",
    "KeysConfig",
    "LimitsConfig",
    "OtherToken",
    "PkiSection",
    "ProxyConfig",
    "TlsConfig",
    "TokenSection",
    "check_files",
    "check_private",
    "is_loopback",
    "load",
    "parse",
    "render",
    "split_address",
]
