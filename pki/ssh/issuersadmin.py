"""CAs as an administrator sees, renames and removes them."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from kms.errors import KmsError, invalid
from kms.operation import Call, Change, Result
from kms.tables import Reader, Store, Transaction
from pki.leftovers import retire_key
from pki.listing import listed
from pki.ssh.authorities import NO_DEFAULT, SshAuthorities
from pki.ssh.ceremony import check_name, issuer_data, set_default
from pki.ssh.model import DEFAULT, SshIssuer
from pki.ssh.store import ISSUERS, ROLES, issuers, mount_config
from pki.store import put


@dataclass(frozen=True)
class SshIssuersAdmin:
    """One per process."""

    store: Store
    authorities: SshAuthorities

    def list(self, call: Call) -> Result:
        """Ids, and their names and keys."""
        default = self.authorities.config(call.mount.id).default_issuer
        after, limit = str(call.args.get("after") or ""), int(call.args.get("limit") or 0)
        known = [one for one in issuers(self.store.reader(), call.mount.id) if one.id > after]
        known = known[:limit] if limit > 0 else known
        info = {
            issuer.id: {
                "is_default": issuer.id == default,
                "issuer_name": issuer.name,
                "public_key": issuer_data(issuer)["public_key"],
            }
            for issuer in known
        }
        return listed(list(info), key_info=info)

    def read(self, call: Call) -> Result:
        """One CA."""
        return Result(data=issuer_data(self.authorities.issuer(call.mount.id, _ref(call))))

    def write(self, call: Call) -> Change:
        """Rename it."""
        issuer = self.authorities.issuer(call.mount.id, _ref(call))
        name = str(call.args["issuer_name"] or "").strip()

        def write(tx: Transaction) -> Result:
            if name != issuer.name or not name:
                check_name(issuers(tx, call.mount.id), name)
            changed = msgspec.structs.replace(issuer, name=name)
            put(tx, ISSUERS, f"{call.mount.id}/{issuer.id}", changed)
            return Result(data=issuer_data(changed), warnings=_references(tx, call.mount.id, issuer.name))

        return Change(write)

    def delete(self, call: Call) -> Change:
        """Remove one; idempotent. Its key's object waits for its destruction; what it revoked stays revoked."""
        try:
            issuer: SshIssuer | None = self.authorities.issuer(call.mount.id, _ref(call))
        except KmsError:
            issuer = None

        def write(tx: Transaction) -> Result:
            if issuer is None:
                return Result()
            warnings = [
                *_references(tx, call.mount.id, issuer.name),
                *_references(tx, call.mount.id, issuer.id),
            ]
            if _remove(tx, call.mount.id, issuer, int(call.now)):
                warnings.append(
                    f"Deleted issuer {issuer.id} (via issuer_ref {_ref(call)}); this was configured as the default"
                    " issuer. Operations without an explicit issuer will not work until a new default is configured."
                )
                warnings += _references(tx, call.mount.id, DEFAULT)
            return Result(warnings=tuple(warnings), subject={"issuer": issuer.id})

        return Change(write)

    def purge(self, call: Call) -> Change:
        """DELETE config/ca: all of them."""

        def write(tx: Transaction) -> Result:
            known = issuers(tx, call.mount.id)
            for issuer in known:
                _remove(tx, call.mount.id, issuer, int(call.now))
            text = f"Deleted {len(known)} issuers, including default issuer if configured."
            return Result(warnings=(text,) if known else (), items=len(known))

        return Change(write)

    # -- the default ---------------------------------------------------------------------------------

    def default_read(self, call: Call) -> Result:
        """GET config/issuers."""
        default = self.authorities.config(call.mount.id).default_issuer
        if not default:
            raise invalid(NO_DEFAULT)
        return Result(data={"default": default})

    def default_write(self, call: Call) -> Change:
        """POST config/issuers."""
        asked = str(call.args["default"] or "").strip()
        if not asked or asked.lower() == DEFAULT:
            raise invalid("invalid issuer specification; must be non-empty and can't be 'default'.")
        try:
            issuer = self.authorities.issuer(call.mount.id, asked)
        except KmsError as error:
            raise invalid(f"error resolving issuer reference: {error.detail}") from None

        def write(tx: Transaction) -> Result:
            before = mount_config(tx, call.mount.id).default_issuer
            if before == issuer.id:
                return Result(warnings=("The default issuer is already set to the specified issuer.",))
            set_default(tx, call.mount.id, issuer.id)
            found = f" (resolved to {issuer.id})" if asked != issuer.id else ""
            text = f"Previous default ({before}) has been updated with the issuer '{asked}'{found}"
            return Result(data={"default": issuer.id}, warnings=(text,) if before else ())

        return Change(write)

    # -- public --------------------------------------------------------------------------------------

    def public_key(self, call: Call) -> Result:
        """The line for TrustedUserCAKeys or known_hosts."""
        issuer = self.authorities.issuer(call.mount.id, _ref(call))
        return Result(raw=(f"{issuer.public_key}\n".encode("ascii"), "text/plain"))


def _ref(call: Call) -> str:
    return str(call.args.get("issuer_ref") or DEFAULT).strip()


def _references(reader: Reader, mount_id: str, name: str) -> tuple[str, ...]:
    rows = reader.scan(ROLES, f"{mount_id}/") if name else []
    count = sum(row.value.issuer_ref == name for row in rows)
    return (f"{count} roles reference '{name}'",) if count else ()


def _remove(tx: Transaction, mount_id: str, issuer: SshIssuer, now: int) -> bool:
    """Whether it was the default."""
    row = tx.get(ISSUERS, f"{mount_id}/{issuer.id}")
    if row is not None:
        tx.delete(ISSUERS, row)
    if issuer.key_id:
        retire_key(tx, mount_id, issuer.key_id, now)
    was_default = mount_config(tx, mount_id).default_issuer == issuer.id
    if was_default:
        set_default(tx, mount_id, "")
    return was_default
