"""Issuers and keys of a mount as an administrator sees and changes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from kms.errors import ErrorKind, KmsError, invalid
from kms.operation import Call, Change, Result
from kms.tables import Store, Transaction
from pki.authority import Authorities, hexed_ski, pem
from pki.issuers import check_new_names, find_key, remove_issuer, settle, store_issuer
from pki.leftovers import retire_key
from pki.listing import listed
from pki.model import Issuer, wire_serial
from pki.store import active_keys, issuers
from pki.urls import URL_FIELDS, checked_urls

_USAGES = ("crl-signing", "issuing-certificates", "ocsp-signing", "read-only")
_DEFAULT_GONE = (
    "Deleted issuer {id} (via issuer_ref {ref}); this was configured as the default issuer. Operations without"
    " an explicit issuer will not work until a new default is configured."
)
_ALL_GONE = (
    "DELETE /root deletes all keys and issuers; prefer the new DELETE /key/:key_ref and DELETE"
    " /issuer/:issuer_ref for finer granularity, unless removal of all keys and issuers is desired."
)


@dataclass(frozen=True)
class IssuersAdmin:
    """One per process."""

    store: Store
    authorities: Authorities

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

    # -- removing -----------------------------------------------------------------------------------

    def issuer_delete(self, call: Call) -> Change:
        """Idempotent. What the issuer signed stays on record; it can no longer be revoked."""
        try:
            issuer: Issuer | None = self.authorities.issuer(call.mount.id, self._ref(call))
        except KmsError:
            issuer = None

        def write(tx: Transaction) -> Result:
            if issuer is None:
                return Result()
            if not remove_issuer(tx, call.mount.id, issuer.id):
                return _settled(tx, call.mount.id, ())
            return _settled(tx, call.mount.id, (_DEFAULT_GONE.format(id=issuer.id, ref=self._ref(call)),))

        return Change(write)

    def key_delete(self, call: Call) -> Change:
        """The key is unusable at once; its object in the HSM is destroyed after a waiting time.

        Raises:
            KmsError(INVALID): an issuer still uses it.
        """
        ref = str(call.args["key_ref"])
        key = find_key(self.store.reader(), call.mount.id, ref)
        if key is None:
            return Change(lambda _: Result())
        used = [
            issuer.id for issuer in issuers(self.store.reader(), call.mount.id) if issuer.key_id == key.id
        ]
        if used:
            raise invalid(f"key {key.id} is used by issuer {used[0]}: delete that first")
        wanted = key.id

        def write(tx: Transaction) -> Result:
            retire_key(tx, call.mount.id, wanted, int(call.now))
            return Result(subject={"key": wanted})

        return Change(write)

    def root_delete(self, call: Call) -> Change:
        """All issuers and keys of the mount."""

        def write(tx: Transaction) -> Result:
            for issuer in issuers(tx, call.mount.id):
                remove_issuer(tx, call.mount.id, issuer.id)
            for key in active_keys(tx, call.mount.id):
                retire_key(tx, call.mount.id, key.id, int(call.now))
            return Result(warnings=(_ALL_GONE,))

        return Change(write)


def _settled(tx: Transaction, mount_id: str, warnings: tuple[str, ...]) -> Result:
    settle(tx, mount_id)
    return Result(warnings=warnings)


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
    urls = {name: checked_urls(name, args[name]) for name in URL_FIELDS if name in given}
    if urls:
        changes["urls"] = msgspec.structs.replace(issuer.urls, **urls)
    return msgspec.structs.replace(issuer, **changes)
