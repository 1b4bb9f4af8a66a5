"""The auth method `userpass`: names and passwords, kept here."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from kms.errors import ErrorKind, KmsError, invalid, not_found
from kms.identity.methods import params
from kms.identity.methods.lockout import Lockouts
from kms.identity.methods.logins import Logins, Proved, elsewhere
from kms.identity.methods.params import PARAM_FIELDS, TokenParams
from kms.identity.methods.passwords import hashed, matches
from kms.identity.methods.store import USERS, User
from kms.identity.networks import permits
from kms.ids import check_name
from kms.operation import (
    Call,
    Caller,
    Capability,
    Change,
    Effect,
    Field,
    MountRef,
    Operation,
    Principal,
    Record,
    Result,
)
from kms.policy import DEFAULT
from kms.tables import Reader, Row, Store, Transaction

_BAD = "invalid username or password"
_OLD = {"policies", "ttl", "max_ttl", "bound_cidrs"}
"""Names of before there were common ones, those of them that this method had."""
_NAME = Field("username", record=Record.CLEAR)


class Userpass:
    """Handlers. One per process, safe to use from several threads."""

    def __init__(self, store: Store, logins: Logins, lockouts: Lockouts) -> None:
        self._store = store
        self._logins = logins
        self._lockouts = lockouts

    # -- users -----------------------------------------------------------------------------------------

    def exists(self, call: Call) -> bool:
        """Whether the user is there: creating and updating are different rights."""
        return self._user(call) is not None

    def read(self, call: Call) -> Result:
        row = self._user(call)
        if row is None:
            raise not_found()
        return Result(data=params.shown(row.value))

    def listing(self, call: Call) -> Result:
        prefix = f"{call.mount.id}/"
        names = [key.removeprefix(prefix) for key in self._store.reader().keys(USERS, prefix)]
        if not names:
            raise not_found()
        return Result(data={"keys": names})

    def write(self, call: Call) -> Change:
        given = params.renamed({name: call.args[name] for name in call.given})
        password = self._new_password(call)

        def write(tx: Transaction) -> Result:
            row = tx.get(USERS, _key(call))
            if row is None:
                if not password:
                    raise invalid("must provide either password or password_hash")
                user = User(password=password)
                tx.insert(USERS, _key(call), replace(user, **params.changes(given, user)))
            else:
                new = params.changes(given, row.value) | ({"password": password} if password else {})
                tx.replace(USERS, row, replace(row.value, **new))
            return Result(subject={"username": _name(call)})

        return Change(write)

    def set_password(self, call: Call) -> Change:
        password = self._new_password(call)
        if not password:
            raise invalid("must provide either password or password_hash")
        return self._change(call, lambda user: replace(user, password=password))

    def set_policies(self, call: Call) -> Change:
        given = params.renamed({name: call.args[name] for name in call.given})
        return self._change(call, lambda user: replace(user, **params.changes(given, user)))

    def _change(self, call: Call, changed: Callable[[User], User]) -> Change:
        def write(tx: Transaction) -> Result:
            row = tx.get(USERS, _key(call))
            if row is None:
                raise invalid("username does not exist")
            tx.replace(USERS, row, changed(row.value))
            return Result(subject={"username": _name(call)})

        return Change(write)

    def delete(self, call: Call) -> Change:
        def write(tx: Transaction) -> Result:
            row = tx.get(USERS, _key(call))
            if row is not None:
                tx.delete(USERS, row)
            return Result(subject={"username": _name(call)})

        return Change(write)

    def _new_password(self, call: Call) -> str:
        if call.args.get("password_hash"):
            raise invalid("password_hash (bcrypt) is not taken; send the password, it is kept as Argon2id")
        password = call.args.get("password") or ""
        return hashed(password) if password else ""

    # -- login -----------------------------------------------------------------------------------------

    def login(self, call: Call) -> Change:
        """Verify the password, outside any transaction; then a token, if the user is still the same."""
        name, password = _name(call), call.args.get("password") or ""
        if not password:
            raise invalid("missing password")
        row = self._verified(call.mount, name, password, call.peer)
        who = Proved(
            name=name,
            params=row.value,
            meta={"username": name},
            display_name=_display_name(call.mount, name),
            alias=name,
        )

        def write(tx: Transaction) -> Result:
            now = tx.get(USERS, row.key)
            if now is None or now.revision != row.revision:
                raise KmsError(ErrorKind.CONFLICT, "the user was changed at the same time; log in again")
            self._lockouts.succeeded(tx, call.mount, name)
            return self._logins.issue(tx, call, who)

        return Change(write)

    def principal(self, mount: MountRef, name: str, password: str, peer: str) -> Principal:
        """Who knows this password, without a token: for protocols that send it with each request.

        Raises:
            KmsError(INVALID): nobody. KmsError(UNAUTHENTICATED): the name is locked, not from there, or the entity
                is disabled.
        """
        name = check_name(name, "username").lower()
        user = self._verified(mount, name, password, peer).value
        with self._store.transaction() as tx:
            self._lockouts.succeeded(tx, mount, name)
        policies = {*user.token_policies, *(() if user.token_no_default_policy else (DEFAULT,))}
        shown = _display_name(mount, name)
        return self._logins.without_token(mount, name, shown, tuple(sorted(policies)))

    def _verified(self, mount: MountRef, name: str, password: str, peer: str) -> Row[User]:
        """The user whose password this is, asking from where it may. Never inside a transaction."""
        self._lockouts.demand_open(mount, name)
        row = self._store.reader().get(USERS, f"{mount.id}/{name}")
        if not matches(password, row.value.password if row is not None else None) or row is None:
            self._lockouts.failed(mount, name, known=row is not None)
            raise invalid(_BAD)
        if not permits(row.value.token_bound_cidrs, peer):
            raise elsewhere()
        return row

    def _user(self, call: Call) -> Row[User] | None:
        return self._store.reader().get(USERS, _key(call))

    # -- the mount ---------------------------------------------------------------------------------------

    def params_of(self, reader: Reader, mount: MountRef, name: str) -> TokenParams | None:
        """For renewals (`Logins`)."""
        row = reader.get(USERS, f"{mount.id}/{name}")
        return row.value if row is not None else None

    def retire_mount(self, tx: Transaction, mount_id: str) -> int:
        """Delete the users of a mount that is being removed, and end its tokens; how many users."""
        self._logins.retire_mount(tx, mount_id)
        rows = tx.scan(USERS, f"{mount_id}/")
        for row in rows:
            tx.delete(USERS, row)
        return len(rows)

    def table(self) -> list[Operation]:
        """The operations of the method."""
        update, state = Capability.UPDATE, Effect.STATE
        passwords = (Field("password"), Field("password_hash"))
        old = tuple(field for field in params.OLD_FIELDS if field.name in _OLD)
        policies = tuple(
            field for field in (*old, *PARAM_FIELDS) if field.name in {"policies", "token_policies"}
        )
        return [
            Operation("userpass.users.list", Capability.LIST, self.listing),
            Operation("userpass.users.read", Capability.READ, self.read, fields=(_NAME,)),
            Operation(
                "userpass.users.write",
                update,
                self.write,
                effect=state,
                exists=self.exists,
                fields=(_NAME, *passwords, *old, *PARAM_FIELDS),
            ),
            Operation("userpass.users.delete", Capability.DELETE, self.delete, effect=state, fields=(_NAME,)),
            Operation(
                "userpass.users.password", update, self.set_password, effect=state, fields=(_NAME, *passwords)
            ),
            Operation(
                "userpass.users.policies", update, self.set_policies, effect=state, fields=(_NAME, *policies)
            ),
            Operation(
                "userpass.login",
                update,
                self.login,
                effect=state,
                caller=Caller.PROOF,
                fields=(_NAME, Field("password")),
            ),
        ]


def _name(call: Call) -> str:
    """The one spelling: lower case, as the peer has it. Checked before: some letters lower to ASCII ones."""
    return check_name(str(call.args["username"]), "username").lower()


def _display_name(mount: MountRef, name: str) -> str:
    return f"{mount.path.removeprefix('auth/').strip('/').replace('/', '-')}-{name}"


def _key(call: Call) -> str:
    return f"{call.mount.id}/{_name(call)}"
