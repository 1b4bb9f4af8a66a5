"""config/*."""

from __future__ import annotations

from kms.operation import Operation, Type
from pki.fields import URLS, clear
from pki.operations.kinds import read, state
from pki.service import PkiService


def table(service: PkiService) -> list[Operation]:
    """Operations of this file, for the registry."""
    settings = service.settings
    text = [
        clear(name)
        for name in ("expiry", "ocsp_expiry", "auto_rebuild_grace_period", "delta_rebuild_interval")
    ]
    flags = [
        clear(name, Type.BOOL, False)
        for name in (
            "allow_expired_cert_revocation",
            "auto_rebuild",
            "disable",
            "enable_delta",
            "ocsp_disable",
        )
    ]
    follows = clear("default_follows_latest_issuer", Type.BOOL, False)
    return [
        read("config-urls-read", settings.urls_read),
        state(
            "config-urls-write", settings.urls_write, (*URLS, clear("enable_templating", Type.BOOL, False))
        ),
        read("config-crl-read", settings.crl_read),
        state("config-crl-write", settings.crl_write, (*text, *flags, clear("shards", Type.INT, 0))),
        read("config-issuers-read", settings.issuers_config_read),
        state("config-issuers-write", settings.issuers_config_write, (clear("default"), follows)),
        state("root-replace", settings.replace_root, (clear("default", default="next"),)),
        read("config-cluster-read", settings.cluster_read),
        state("config-cluster-write", settings.cluster_write, (clear("path"), clear("aia_path"))),
        read("config-keys-read", settings.keys_config_read),
        state("config-keys-write", settings.keys_config_write, (clear("default"),)),
    ]
