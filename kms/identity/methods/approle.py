"""The auth method `approle`: logins of machines, by a role ID that may be known and a secret ID that may not.

Secret IDs are stored as HMACs under the instance's key. A login reads, counts down and spends one in the same commit
that makes the token, so a secret ID of N uses is N logins over all workers and through kills.
"""

from __future__ import annotations

from hashlib import sha256

from msgspec.structs import replace

from kms.errors import invalid
from kms.identity.methods.lockout import Lockouts
from kms.identity.methods.logins import Logins, Proved, elsewhere
from kms.identity.methods.params import TokenParams
from kms.identity.methods.store import APPROLES, ROLE_IDS, SECRET_ACCESSORS, SECRET_IDS, AppRole, SecretId
from kms.identity.networks import permits
from kms.identity.service import TokenService
from kms.ids import check_name
from kms.operation import Call, Change, MountRef, Result
from kms.tables import Reader, Row, Store, Transaction

_BAD = "invalid role or secret ID"


class AppRoles:
    """Rows and login. One per process, safe to use from several threads. Roles are managed in approleadmin."""

    def __init__(self, store: Store, tokens: TokenService, logins: Logins, lockouts: Lockouts) -> None:
        self.store = store
        self._tokens = tokens
        self._logins = logins
        self._lockouts = lockouts

    # -- rows ------------------------------------------------------------------------------------------

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._tokens.now()

    def role(self, reader: Reader, mount: MountRef, name: str) -> Row[AppRole] | None:
        """A role by any spelling of its name."""
        return reader.get(APPROLES, role_key(mount, name))

    def secret_key(self, mount: MountRef, role: AppRole, secret: str) -> str:
        """Row key of a secret ID."""
        return f"{mount.id}/{role.uid}/{self._tokens.digest_of('secret-id', secret)}"

    def drop_secret(self, tx: Transaction, row: Row[SecretId]) -> None:
        """Delete a secret ID and what leads to it."""
        tx.delete(SECRET_IDS, row)
        held = tx.get(SECRET_ACCESSORS, accessor_key(row.key, row.value.accessor))
        if held is not None:
            tx.delete(SECRET_ACCESSORS, held)

    def expired(self) -> bool:
        """Whether there is something to `reap`."""
        return bool(self.store.reader().find(SECRET_IDS, {}, below=("expires_at", self.now()), limit=1))

    def reap(self, tx: Transaction, limit: int) -> int:
        """Delete secret IDs that have expired, at most `limit`; returns how many."""
        rows = tx.find(SECRET_IDS, {}, below=("expires_at", self.now()), limit=limit)
        for row in rows:
            self.drop_secret(tx, row)
        return len(rows)

    # -- login -----------------------------------------------------------------------------------------

    def login(self, call: Call) -> Change:
        """A token for a role ID and, where the role wants it, a secret ID."""
        role_id, secret = call.args.get("role_id") or "", call.args.get("secret_id") or ""
        if not role_id:
            raise invalid("missing role_id")
        place = role_id_key(call.mount, role_id)
        reader = self.store.reader()
        held = reader.get(ROLE_IDS, place)
        # Operators know a role ID by itself; what nobody has may be any text, and is counted by its hash.
        locked = role_id if held is not None else place.partition("/")[2]
        self._lockouts.demand_open(call.mount, locked)
        role = self.role(reader, call.mount, held.value.name) if held is not None else None
        if (role is None or role.value.bind_secret_id) and not secret:
            raise invalid("missing secret_id")
        if role is None or not self._fits(reader, call, role.value, secret):
            self._lockouts.failed(call.mount, locked, known=held is not None)
            raise invalid(_BAD)
        if not permits(role.value.token_bound_cidrs, call.peer) or not self._from_here(
            reader, call, role.value, secret
        ):
            raise elsewhere()
        name = role.key.removeprefix(f"{call.mount.id}/")

        def write(tx: Transaction) -> Result:
            now = tx.get(APPROLES, role.key)
            if now is None or now.revision != role.revision:
                raise invalid(_BAD)
            spent = self._spend(tx, call, now.value, secret) if now.value.bind_secret_id else None
            self._lockouts.succeeded(tx, call.mount, locked)
            meta = {**(spent.metadata if spent is not None else {}), "role_name": name}
            cidrs = spent.token_bound_cidrs if spent is not None else ()
            who = Proved(
                name,
                now.value,
                meta,
                "approle",
                cidrs,
                alias=now.value.role_id,
                alias_metadata=meta,
            )
            return self._logins.issue(tx, call, who)

        return Change(write)

    def _secret(self, reader: Reader, call: Call, role: AppRole, secret: str) -> Row[SecretId] | None:
        row = reader.get(SECRET_IDS, self.secret_key(call.mount, role, secret))
        return row if row is not None and row.value.expires_at > self.now() else None

    def _fits(self, reader: Reader, call: Call, role: AppRole, secret: str) -> bool:
        return not role.bind_secret_id or self._secret(reader, call, role, secret) is not None

    def _from_here(self, reader: Reader, call: Call, role: AppRole, secret: str) -> bool:
        if not permits(role.secret_id_bound_cidrs, call.peer):
            return False
        row = self._secret(reader, call, role, secret) if role.bind_secret_id else None
        return row is None or permits(row.value.cidr_list, call.peer)

    def _spend(self, tx: Transaction, call: Call, role: AppRole, secret: str) -> SecretId:
        row = self._secret(tx, call, role, secret)
        if row is None:
            raise invalid(_BAD)
        if row.value.num_uses == 1:
            self.drop_secret(tx, row)
        elif row.value.num_uses:
            left = row.value.num_uses - 1
            tx.replace(SECRET_IDS, row, replace(row.value, num_uses=left, updated=self.now()))
        return row.value

    # -- the mount ---------------------------------------------------------------------------------------

    def params_of(self, reader: Reader, mount: MountRef, name: str) -> TokenParams | None:
        """For renewals (`Logins`)."""
        row = self.role(reader, mount, name)
        return row.value if row is not None else None

    def drop_role(self, tx: Transaction, row: Row[AppRole], mount_id: str) -> None:
        """Delete a role with its role ID and secret IDs."""
        tx.delete(APPROLES, row)
        held = tx.get(ROLE_IDS, f"{mount_id}/{_digest(row.value.role_id)}")
        if held is not None:
            tx.delete(ROLE_IDS, held)
        for secret in tx.scan(SECRET_IDS, f"{mount_id}/{row.value.uid}/"):
            self.drop_secret(tx, secret)

    def retire_mount(self, tx: Transaction, mount_id: str) -> int:
        """Delete the roles of a mount that is being removed, and end its tokens; how many roles."""
        self._logins.retire_mount(tx, mount_id)
        rows = tx.scan(APPROLES, f"{mount_id}/")
        for row in rows:
            self.drop_role(tx, row, mount_id)
        return len(rows)


def role_key(mount: MountRef, name: str) -> str:
    """Row key of a role, by any spelling of its name."""
    return f"{mount.id}/{check_name(name, 'role name').lower()}"


def role_id_key(mount: MountRef, role_id: str) -> str:
    """Row key of a role ID; it may be any text."""
    return f"{mount.id}/{_digest(role_id)}"


def accessor_key(secret_key: str, accessor: str) -> str:
    """Row key of a secret ID's accessor: below the role that it belongs to."""
    return f"{secret_key.rpartition('/')[0]}/{accessor}"


def _digest(role_id: str) -> str:
    return sha256(role_id.encode("utf-8", "surrogatepass")).hexdigest()
