"""config/*: the settings of a mount."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from kms.errors import KmsError, invalid
from kms.operation import Call, Change, Result
from kms.tables import Store, Transaction
from pki.authority import Authorities
from pki.ceremony import NEXT
from pki.issuers import find_key, settings
from pki.model import CRL_EXPIRY_MAX, MountConfig
from pki.shards import checked_count
from pki.store import mount_config
from pki.urls import URL_FIELDS, changed_urls, is_url
from pki.validity import parse_go_duration


@dataclass(frozen=True)
class Settings:
    """One per process."""

    store: Store
    authorities: Authorities

    def urls_read(self, call: Call) -> Result:
        """config/urls."""
        return Result(data=_urls_data(self.authorities.config(call.mount.id)))

    def urls_write(self, call: Call) -> Change:
        """config/urls; only what is given changes."""
        urls = self.authorities.config(call.mount.id).urls
        changed_urls(urls, call.args, call.given, flag="enable_templating")
        return self._configure(
            call,
            lambda config: msgspec.structs.replace(
                config,
                urls=changed_urls(config.urls, call.args, call.given, flag="enable_templating"),
            ),
            _urls_data,
        )

    def cluster_read(self, call: Call) -> Result:
        """config/cluster."""
        return Result(data=_cluster_data(self.authorities.config(call.mount.id)))

    def cluster_write(self, call: Call) -> Change:
        """config/cluster: where this cluster is reached, for templates of URLs and for ACME."""
        changes = {
            f"cluster_{name}": str(call.args.get(name) or "")
            for name in ("path", "aia_path")
            if name in call.given
        }
        for name, value in changes.items():
            if value and not is_url(value):
                field = name.removeprefix("cluster_")
                raise invalid(f"invalid, non-URL {field} given to cluster: {value}")
        return self._configure(call, lambda config: msgspec.structs.replace(config, **changes), _cluster_data)

    def crl_read(self, call: Call) -> Result:
        """config/crl."""
        return Result(data=_crl_data(self.authorities.config(call.mount.id)))

    def crl_write(self, call: Call) -> Change:
        """config/crl; the next CRL follows it."""
        changes = _crl_changes(call.args, call.given)
        return self._configure(
            call, lambda config: _checked(msgspec.structs.replace(config, **changes)), _crl_data
        )

    def issuers_config_read(self, call: Call) -> Result:
        """config/issuers."""
        return Result(data=_issuers_data(self.authorities.config(call.mount.id)))

    def issuers_config_write(self, call: Call) -> Change:
        """config/issuers: the default."""
        return self._default_issuer(call, str(call.args.get("default") or ""))

    def replace_root(self, call: Call) -> Change:
        """root/replace: the issuer that root/rotate made becomes the default."""
        return self._default_issuer(call, str(call.args["default"]) if "default" in call.given else NEXT)

    def _default_issuer(self, call: Call, ref: str) -> Change:
        if not ref or ref == "default":
            raise invalid("Invalid issuer specification; must be non-empty and can't be 'default'.")
        try:
            chosen = self.authorities.issuer(call.mount.id, ref)
        except KmsError as error:
            raise invalid(f"Error resolving issuer reference: {error.detail}") from None
        changes: dict[str, Any] = {"default_issuer": chosen.id}
        if "default_follows_latest_issuer" in call.given:
            changes["default_follows_latest_issuer"] = bool(call.args["default_follows_latest_issuer"])
        return self._configure(call, lambda config: msgspec.structs.replace(config, **changes), _issuers_data)

    def keys_config_read(self, call: Call) -> Result:
        """config/keys."""
        return Result(data={"default": self.authorities.config(call.mount.id).default_key})

    def keys_config_write(self, call: Call) -> Change:
        """config/keys: the default."""
        ref = str(call.args.get("default") or "")
        if not ref or ref == "default":
            raise invalid("Invalid key specification; must be non-empty and can't be 'default'.")
        key = find_key(self.store.reader(), call.mount.id, ref) if ref else None
        if key is None:
            raise invalid(f"Error resolving issuer reference: unable to find PKI key for reference: {ref}")
        chosen = key.id
        return self._configure(
            call,
            lambda config: msgspec.structs.replace(config, default_key=chosen),
            lambda config: {"default": config.default_key},
        )

    def _configure(self, call: Call, change: Any, show: Any) -> Change:
        def write(tx: Transaction) -> Result:
            config = change(mount_config(tx, call.mount.id))
            settings(tx, call.mount.id, config, int(call.now))
            return Result(data=show(config))

        return Change(write)


def _urls_data(config: MountConfig) -> dict[str, Any]:
    return {
        **{name: list(getattr(config.urls, name)) for name in URL_FIELDS},
        "enable_templating": config.urls.enable_templating,
    }


def _cluster_data(config: MountConfig) -> dict[str, Any]:
    return {"aia_path": config.cluster_aia_path, "path": config.cluster_path}


def _issuers_data(config: MountConfig) -> dict[str, Any]:
    return {
        "default": config.default_issuer,
        "default_follows_latest_issuer": config.default_follows_latest_issuer,
    }


def _crl_data(config: MountConfig) -> dict[str, Any]:
    return {
        "allow_expired_cert_revocation": config.allow_expired_cert_revocation,
        "auto_rebuild": config.auto_rebuild,
        "auto_rebuild_grace_period": config.auto_rebuild_grace_period,
        "delta_rebuild_interval": config.delta_rebuild_interval,
        "disable": False,
        "enable_delta": config.enable_delta,
        "expiry": config.crl_expiry,
        "ocsp_disable": config.ocsp_disable,
        "ocsp_expiry": config.ocsp_expiry,
        "shards": config.crl_shards,
    }


def _crl_changes(args: Mapping[str, Any], given: frozenset[str]) -> dict[str, Any]:
    if args.get("disable"):
        raise invalid("CRLs cannot be disabled here: revoked certificates would be accepted again")
    changes: dict[str, Any] = {}
    for name in ("expiry", "ocsp_expiry", "auto_rebuild_grace_period", "delta_rebuild_interval"):
        if name not in given:
            continue
        text = str(args[name])
        try:
            seconds = parse_go_duration(text)
        except ValueError as error:
            raise invalid(f"given {name} could not be decoded: {error}") from None
        if name == "expiry" and not 3600 <= seconds <= CRL_EXPIRY_MAX:
            raise invalid("given expiry must be between 1h and 240h (CA/B BR 7.2)")
        changes["crl_expiry" if name == "expiry" else name] = text
    for name in ("allow_expired_cert_revocation", "auto_rebuild", "enable_delta", "ocsp_disable"):
        if name in given:
            changes[name] = bool(args[name])
    if "shards" in given:
        changes["crl_shards"] = checked_count(int(args["shards"]))
    return changes


def _checked(config: MountConfig) -> MountConfig:
    """Rules between settings, in the peer's words. Raises KmsError(INVALID)."""
    if not config.enable_delta:
        return config
    if not config.auto_rebuild:
        raise invalid(
            "Delta CRLs cannot be enabled when auto rebuilding is disabled as the complete CRL is always regenerated!"
        )
    interval, expiry = config.delta_rebuild_interval, config.crl_expiry
    if parse_go_duration(interval) >= parse_go_duration(expiry):
        raise invalid(
            f"CRL delta rebuild window ({interval}) must be strictly shorter than CRL expiry ({expiry}) value when"
            " delta CRLs are enabled"
        )
    return config
