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
    [audit_devices]                  # where sys/audit may write: kms/config/devices.py
    folders = ["/var/log/keystead"]

    [limits]
    connections = 1000               # per worker
    request_seconds = 30             # a worker that is stuck for longer is replaced
    stop_seconds = 15                # how long requests may finish at a stop

An unknown key refuses to start: a misspelt protection must not be a silent one. Secrets are never in
the file; it names files, and those must not be readable by others.
"""

from __future__ import annotations

from kms.config.addresses import is_loopback, split_address
from kms.config.devices import AuditDevicesConfig
from kms.config.files import check_files, check_private
from kms.config.model import (
    Config,
    DataConfig,
    DocumentsConfig,
    HsmSection,
    KeysConfig,
    LimitsConfig,
    OtherToken,
    PkiSection,
    ProxyConfig,
    TlsConfig,
    TokenSection,
)
from kms.config.reading import load, parse
from kms.config.rendering import render
from kms.config.sections import AcmeSection, ApprovalsSection, Kind

__all__ = [
    "AcmeSection",
    "ApprovalsSection",
    "AuditDevicesConfig",
    "Config",
    "DataConfig",
    "DocumentsConfig",
    "HsmSection",
    "KeysConfig",
    "Kind",
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
