"""Issuers of a mount as an administrator sees and changes them."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509

from kms.errors import KmsError
from kms.operation import Call, Change, Result
from kms.tables import Store, Transaction
from pki import capable
from pki.authority import Authorities
from pki.issuers import check_new_names, remove_issuer, settle, store_issuer
from pki.issuerview import issuer_data
from pki.issuerwrite import changed_issuer
from pki.leftovers import retire_key
from pki.listing import listed
from pki.model import Issuer, wire_serial
from pki.store import active_keys, issuers

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
        return listed(list(info), call.args, key_info=info)

    def issuer_read(self, call: Call) -> Result:
        """One issuer with its settings."""
        issuer = self.authorities.issuer(call.mount.id, _ref(call))
        return Result(data=issuer_data(self.store.reader(), call.mount.id, issuer))

    def issuer_write(self, call: Call) -> Change:
        """All settings of an issuer; what is not given falls back to its default."""
        return self._write(call, None)

    def issuer_patch(self, call: Call) -> Change:
        """Only what is given changes."""
        return self._write(call, call.given)

    def _write(self, call: Call, given: frozenset[str] | None) -> Change:
        issuer = self.authorities.issuer(call.mount.id, _ref(call))
        known = issuers(self.store.reader(), call.mount.id)
        args = call.args
        if "usage" not in call.given:  # all that its certificate allows
            args = {**args, "usage": capable.usages(x509.load_der_x509_certificate(issuer.certificate))}
        changed = changed_issuer(issuer, args, given, known)
        if changed.name and changed.name != issuer.name:
            check_new_names(self.store.reader(), call.mount.id, changed.name, "")

        def write(tx: Transaction) -> Result:
            store_issuer(tx, call.mount.id, changed)
            settle(tx, call.mount.id, int(call.now))
            current = next(each for each in issuers(tx, call.mount.id) if each.id == changed.id)
            return Result(data=issuer_data(tx, call.mount.id, current), subject={"issuer": changed.id})

        return Change(write)

    def issuer_delete(self, call: Call) -> Change:
        """Idempotent. What the issuer signed stays on record; it can no longer be revoked."""
        try:
            issuer: Issuer | None = self.authorities.issuer(call.mount.id, _ref(call))
        except KmsError:
            issuer = None

        def write(tx: Transaction) -> Result:
            if issuer is None:
                return Result()
            was_default = remove_issuer(tx, call.mount.id, issuer.id)
            settle(tx, call.mount.id, int(call.now))
            gone = _DEFAULT_GONE.format(id=issuer.id, ref=_ref(call))
            return Result(warnings=(gone,) if was_default else (), subject={"issuer": issuer.id})

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


def _ref(call: Call) -> str:
    return str(call.args["issuer_ref"])
