"""Settings of a mount, and its roles, issuers and keys as an administrator sees them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec

from kms.errors import ErrorKind, KmsError, invalid, not_found
from kms.ids import check_name
from kms.operation import Call, Change, Result
from kms.tables import Reader, Store, Table, Transaction
from pki.authority import Authorities, hexed_ski, pem
from pki.issuers import check_new_names, find_key, settings, settle, store_issuer
from pki.model import CRL_EXPIRY_MAX, Issuer, MountConfig, Role, wire_serial
from pki.rolewrite import make_role
from pki.store import CERTIFICATES, REVOCATIONS, ROLES, active_keys, issuers, mount_config, put
from pki.validity import parse_go_duration

_URL_FIELDS = ("issuing_certificates", "crl_distribution_points", "ocsp_servers")
_USAGES = ("crl-signing", "issuing-certificates", "ocsp-signing", "read-only")


@dataclass(frozen=True)
class Settings:
    """One per process."""

    store: Store
    authorities: Authorities

    # -- roles --------------------------------------------------------------------------------------

    def role_exists(self, call: Call) -> bool:
        """Tells create from update."""
        return self.store.reader().get(ROLES, self._role_key(call)) is not None

    def role_read(self, call: Call) -> Result:
        """All fields of a role."""
        row = self.store.reader().get(ROLES, self._role_key(call))
        if row is None:
            raise not_found()
        return Result(data=role_data(row.value))

    def role_write(self, call: Call) -> Change:
        """Replace a role; what is not given falls back to its default."""
        check_name(str(call.args["name"]), "role name")
        return self._store_role(call, make_role(call.args))

    def role_patch(self, call: Call) -> Change:
        """Change only the given fields."""
        row = self.store.reader().get(ROLES, self._role_key(call))
        if row is None:
            raise invalid(f"unable to fetch role entry to patch: {call.args['name']}")
        return self._store_role(call, make_role(call.args, row.value, call.given))

    def _store_role(self, call: Call, role: Role) -> Change:
        warnings = self._role_warnings(call, role)

        def write(tx: Transaction) -> Result:
            put(tx, ROLES, self._role_key(call), role)
            return Result(data=role_data(role), warnings=warnings)

        return Change(write)

    def _role_warnings(self, call: Call, role: Role) -> tuple[str, ...]:
        try:
            self.authorities.issuer(call.mount.id, role.issuer_ref)
        except KmsError:
            if role.issuer_ref == "default":
                return (
                    (
                        "Issuing Certificate was set to default, but no default issuing certificate"
                        " (configurable at /config/issuers) is currently set"
                    ),
                )
            return (
                (
                    f"Issuing Certificate was set to {role.issuer_ref} but no issuing certificate currently"
                    " has that name"
                ),
            )
        return ()

    def role_delete(self, call: Call) -> Change:
        """Idempotent, as in the peer."""

        def write(tx: Transaction) -> Result:
            row = tx.get(ROLES, self._role_key(call))
            if row is not None:
                tx.delete(ROLES, row)
            return Result()

        return Change(write)

    def role_list(self, call: Call) -> Result:
        """Names."""
        return listed(_page(self.store.reader(), ROLES, f"{call.mount.id}/", call.args))

    def _role_key(self, call: Call) -> str:
        return f"{call.mount.id}/{call.args['name']}"

    # -- certificates -------------------------------------------------------------------------------

    def cert_list(self, call: Call) -> Result:
        """Serial numbers of all certificates on record."""
        after = str(call.args.get("after") or "").replace(":", "").replace("-", "").lower()
        found = _page(self.store.reader(), CERTIFICATES, f"{call.mount.id}/", {**call.args, "after": after})
        return listed([wire_serial(serial) for serial in found])

    def revoked_list(self, call: Call) -> Result:
        """Serial numbers of all revoked certificates."""
        keys = self.store.reader().keys(REVOCATIONS, f"{call.mount.id}/")
        return listed(sorted(wire_serial(key.rpartition("/")[2]) for key in keys))

    # -- issuers and keys ---------------------------------------------------------------------------

    def issuer_list(self, call: Call) -> Result:
        """Ids, and their names and keys."""
        default = self.authorities.config(call.mount.id).default_issuer
        known = sorted(issuers(self.store.reader(), call.mount.id), key=lambda issuer: issuer.created_at)
        info = {
            issuer.id: {
                "is_default": issuer.id == default,
                "issuer_name": issuer.name,
                "key_id": issuer.key_id,
                "serial_number": wire_serial(issuer.serial),
            }
            for issuer in known
        }
        return listed(list(info), key_info=info)

    def issuer_read(self, call: Call) -> Result:
        """One issuer with its settings."""
        return Result(data=self._issuer_data(call, self.authorities.issuer(call.mount.id, self._ref(call))))

    def issuer_write(self, call: Call) -> Change:
        """Name, usage, leaf_not_after_behavior and URLs; only what is given changes."""
        issuer = self.authorities.issuer(call.mount.id, self._ref(call))
        changed = _changed_issuer(issuer, call.args, call.given)
        if changed.name != issuer.name:
            check_new_names(self.store.reader(), call.mount.id, changed.name, "")

        def write(tx: Transaction) -> Result:
            store_issuer(tx, call.mount.id, changed)
            settle(tx, call.mount.id)
            return Result(data=self._issuer_data(call, changed))

        return Change(write)

    def _issuer_data(self, call: Call, issuer: Issuer) -> dict[str, Any]:
        known = {other.id: other for other in issuers(self.store.reader(), call.mount.id)}
        chain = [known[id_] for id_ in issuer.chain if id_ in known]
        return {
            "ca_chain": [pem(other.certificate) + "\n" for other in chain],
            "certificate": pem(issuer.certificate) + "\n",
            "crl_distribution_points": list(issuer.urls.crl_distribution_points),
            "delta_crl_distribution_points": [],
            "issuer_id": issuer.id,
            "issuer_name": issuer.name,
            "issuing_certificates": list(issuer.urls.issuing_certificates),
            "key_id": issuer.key_id,
            "leaf_not_after_behavior": issuer.leaf_not_after_behavior,
            "manual_chain": None,
            "ocsp_servers": list(issuer.urls.ocsp_servers),
            "revocation_signature_algorithm": "",
            "revoked": False,
            "usage": ",".join(issuer.usage),
        }

    def _ref(self, call: Call) -> str:
        return str(call.args["issuer_ref"])

    def key_list(self, call: Call) -> Result:
        """Ids and names of the mount's CA keys."""
        default = self.authorities.config(call.mount.id).default_key
        known = active_keys(self.store.reader(), call.mount.id)
        info = {key.id: {"is_default": key.id == default, "key_name": key.name} for key in known}
        return listed(list(info), key_info=info)

    def key_read(self, call: Call) -> Result:
        """One key: its type and the identifier that its certificates carry."""
        ref = str(call.args["key_ref"])
        if ref == "default":
            ref = self.authorities.config(call.mount.id).default_key
        key = find_key(self.store.reader(), call.mount.id, ref) if ref else None
        if key is None:
            raise KmsError(ErrorKind.INVALID, f"unable to find PKI key for reference: {ref}", status=500)
        return Result(
            data={
                "key_id": key.id,
                "key_name": key.name,
                "key_type": key.spec.partition("-")[0],
                "subject_key_id": hexed_ski(key.spki),
            }
        )

    # -- config/* -----------------------------------------------------------------------------------

    def urls_read(self, call: Call) -> Result:
        """config/urls."""
        return Result(data=_urls_data(self.authorities.config(call.mount.id)))

    def urls_write(self, call: Call) -> Change:
        """config/urls; only what is given changes."""
        given = {name: _urls(name, call.args[name]) for name in _URL_FIELDS if name in call.given}
        if call.args.get("enable_templating") or call.args.get("delta_crl_distribution_points"):
            raise invalid("URL templates and delta CRLs are not supported by this server")
        return self._configure(
            call,
            lambda config: msgspec.structs.replace(
                config, urls=msgspec.structs.replace(config.urls, **given)
            ),
            _urls_data,
        )

    def crl_read(self, call: Call) -> Result:
        """config/crl."""
        return Result(data=_crl_data(self.authorities.config(call.mount.id)))

    def crl_write(self, call: Call) -> Change:
        """config/crl; the next CRL follows it."""
        changes = _crl_changes(call.args, call.given)
        return self._configure(call, lambda config: msgspec.structs.replace(config, **changes), _crl_data)

    def issuers_config_read(self, call: Call) -> Result:
        """config/issuers."""
        return Result(data=_issuers_data(self.authorities.config(call.mount.id)))

    def issuers_config_write(self, call: Call) -> Change:
        """config/issuers: the default."""
        ref = str(call.args.get("default") or "")
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
            settings(tx, call.mount.id, config)
            return Result(data=show(config))

        return Change(write)


def role_data(role: Role) -> dict[str, Any]:
    """A role as the API shows it."""
    values = msgspec.structs.asdict(role)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def listed(keys: list[str], **more: Any) -> Result:
    """A LIST answer; an empty one is 404, as in the peer."""
    if not keys:
        raise not_found()
    return Result(data={"keys": keys, **more})


def _page(reader: Reader, table: Table[Any], prefix: str, args: Mapping[str, Any]) -> list[str]:
    after, limit = str(args.get("after") or ""), int(args.get("limit") or 0)
    found = reader.keys(table, prefix, after=prefix + after if after else "", limit=limit or None)
    return [key.removeprefix(prefix) for key in found]


def _urls(name: str, values: Iterable[str]) -> tuple[str, ...]:
    checked = []
    for value in values:
        parts = urlsplit(value) if value.isascii() and value.isprintable() else None
        if (
            parts is None
            or parts.scheme not in {"http", "https", "ldap"}
            or not parts.hostname
            or " " in value
        ):
            raise invalid(
                f"invalid URL found in Authority Information Access (AIA) parameter {name}: {value}"
            )
        checked.append(value)
    return tuple(checked)


def _urls_data(config: MountConfig) -> dict[str, Any]:
    return {
        **{name: list(getattr(config.urls, name)) for name in _URL_FIELDS},
        "delta_crl_distribution_points": [],
        "enable_templating": False,
    }


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
        "enable_delta": False,
        "expiry": config.crl_expiry,
        "ocsp_disable": config.ocsp_disable,
        "ocsp_expiry": config.ocsp_expiry,
    }


def _crl_changes(args: Mapping[str, Any], given: frozenset[str]) -> dict[str, Any]:
    if args.get("disable"):
        raise invalid("CRLs cannot be disabled here: revoked certificates would be accepted again")
    if args.get("enable_delta"):
        raise invalid("delta CRLs are not supported by this server")
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
    for name in ("allow_expired_cert_revocation", "auto_rebuild", "ocsp_disable"):
        if name in given:
            changes[name] = bool(args[name])
    return changes


def _changed_issuer(issuer: Issuer, args: Mapping[str, Any], given: frozenset[str]) -> Issuer:
    changes: dict[str, Any] = {}
    if "issuer_name" in given:
        changes["name"] = str(args["issuer_name"] or "")
    if "leaf_not_after_behavior" in given:
        behavior = str(args["leaf_not_after_behavior"])
        if behavior not in {"err", "truncate"}:
            raise invalid("leaf_not_after_behavior must be err or truncate: no leaf outlives its issuer here")
        changes["leaf_not_after_behavior"] = behavior
    if "usage" in given:
        usage = sorted({text.strip() for text in args["usage"]} | {"read-only"})
        if not set(usage) <= set(_USAGES):
            raise invalid(f"usage must be some of {', '.join(_USAGES)}")
        changes["usage"] = tuple(usage)
    urls = {name: _urls(name, args[name]) for name in _URL_FIELDS if name in given}
    if urls:
        changes["urls"] = msgspec.structs.replace(issuer.urls, **urls)
    return msgspec.structs.replace(issuer, **changes)
