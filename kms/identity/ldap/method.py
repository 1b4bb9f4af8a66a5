"""Login by a directory's password; a renewal asks the directory again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from kms.errors import ErrorKind, KmsError, invalid
from kms.identity.ldap.directory import Found, NobodyError, UnreachableError, authenticate, look_up
from kms.identity.ldap.fields import (
    CONFIG_FIELDS,
    GROUP_FIELDS,
    PERSON_FIELDS,
    changed_config,
    changed_group,
    changed_person,
    shown_config,
    shown_group,
    shown_person,
)
from kms.identity.ldap.names import spelled
from kms.identity.ldap.store import DIRECTORIES, GROUPS, PEOPLE, Directory, Group, Person
from kms.identity.methods.lockout import Lockouts
from kms.identity.methods.logins import Logins, Proved, elsewhere
from kms.identity.methods.params import TokenParams
from kms.identity.methods.shelf import Shelf
from kms.identity.model import Token
from kms.identity.networks import permits
from kms.operation import Call, Caller, Capability, Change, Effect, Field, MountRef, Operation, Record, Result
from kms.policy import DEFAULT
from kms.tables import Reader, Store, Transaction

_BAD: Final = "ldap operation failed: failed to bind as user"


class Ldap:
    """Handlers. One per process, safe to use from several threads."""

    def __init__(self, store: Store, logins: Logins, lockouts: Lockouts) -> None:
        self._store = store
        self._logins = logins
        self._lockouts = lockouts
        self._groups: Shelf[Group] = Shelf(
            store, GROUPS, changed_group, shown_group, spelled=lambda name: spelled(name, "group")
        )
        self._people: Shelf[Person] = Shelf(store, PEOPLE, changed_person, shown_person, spelled=spelled)

    # -- configuration -----------------------------------------------------------------------------------

    def read_config(self, call: Call) -> Result:
        """What was never written has its defaults, as on the peer."""
        row = self._store.reader().get(DIRECTORIES, call.mount.id)
        return Result(data=shown_config(row.value if row is not None else Directory()))

    def write_config(self, call: Call) -> Change:
        given = {name: call.args[name] for name in call.given}

        def write(tx: Transaction) -> Result:
            row = tx.get(DIRECTORIES, call.mount.id)
            if row is None:
                made = changed_config(Directory(), given)
                tx.insert(DIRECTORIES, call.mount.id, made)
            else:
                made = changed_config(row.value, given)
                tx.replace(DIRECTORIES, row, made)
            return Result(subject={"url": made.url})

        return Change(write)

    # -- login -------------------------------------------------------------------------------------------

    def login(self, call: Call) -> Change:
        """The directory is asked before the transaction, which finds its configuration unchanged."""
        name = spelled(str(call.args["username"]))
        row = self._store.reader().get(DIRECTORIES, call.mount.id)
        if row is None:
            raise invalid("ldap backend not configured")
        directory = row.value
        if not permits(directory.token_bound_cidrs, call.peer):
            raise elsewhere()
        password = str(call.args.get("password") or "")
        if not password:
            raise invalid("password cannot be of zero length when passwordless binds are being denied")
        self._lockouts.demand_open(call.mount, name)
        found = self._proved(call.mount, directory, name, password)

        def write(tx: Transaction) -> Result:
            now = tx.get(DIRECTORIES, row.key)
            if now is None or now.revision != row.revision:
                raise KmsError(ErrorKind.CONFLICT, "the method was changed at the same time; log in again")
            self._lockouts.succeeded(tx, call.mount, name)
            groups, policies = self._standing(tx, call.mount.id, name, found.groups)
            params = replace(directory, token_policies=(*directory.token_policies, *policies))
            place = call.mount.path.removeprefix("auth/").strip("/").replace("/", "-")
            who = Proved(
                name,
                params,
                {"username": name},
                f"{place}-{name}"[:256],
                alias=found.alias,
                alias_metadata={"name": name},
                groups=groups,
            )
            result = self._logins.issue(tx, call, who)
            if found.groups:
                return result
            note = (
                f'no LDAP groups found in groupDN "{directory.groupdn}"; only policies from locally-defined groups'
                " available"
            )
            return _with(result, note)

        return Change(write)

    def _proved(self, mount: MountRef, directory: Directory, name: str, password: str) -> Found:
        try:
            return authenticate(directory, name, password)
        except NobodyError as nobody:
            self._lockouts.failed(mount, name, known=nobody.known)
            raise invalid(_BAD) from None
        except UnreachableError as error:
            raise invalid(f"ldap operation failed: {error}") from None

    def _standing(
        self, reader: Reader, mount_id: str, name: str, called: Iterable[str]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(all groups, the policies that they and the person get here)."""
        person = reader.get(PEOPLE, f"{mount_id}/{name}")
        groups = [*(person.value.groups if person is not None else ()), *called]
        policies = set(person.value.policies if person is not None else ())
        for group in groups:
            try:
                row = reader.get(GROUPS, f"{mount_id}/{spelled(group, 'group')}")
            except KmsError:
                continue  # a name that no group can have here: the directory has others that are of no interest
            policies |= set(row.value.policies if row is not None else ())
        return tuple(dict.fromkeys(groups)), tuple(sorted(policies))

    def again(self, call: Call, token: Token) -> tuple[str, ...]:
        """Before a renewal: the person is still there, and the groups give what they gave. The groups as they are now.

        Raises:
            KmsError(INVALID): not there, other policies, or nobody may ask.
        """
        del call
        mount_id, _, name = token.login.partition("/")
        reader = self._store.reader()
        row = reader.get(DIRECTORIES, mount_id)
        if row is None:
            raise invalid("ldap backend not configured")
        if not row.value.searches:
            raise invalid(
                "without binddn the directory cannot be asked whether the user is still there: log in again"
            )
        try:
            found = look_up(row.value, name)
        except NobodyError:
            raise invalid("the user is not in the directory any more, not renewing") from None
        except UnreachableError as error:
            raise invalid(f"ldap operation failed: {error}") from None
        groups, policies = self._standing(reader, mount_id, name, found.groups)
        now = {*row.value.token_policies, *policies, DEFAULT}
        if now != {*token.policies, DEFAULT}:
            raise invalid("policies have changed, not renewing")
        return groups

    # -- the mount ---------------------------------------------------------------------------------------

    def params_of(self, reader: Reader, mount: MountRef, name: str) -> TokenParams | None:
        """For renewals (`Logins`); what the person's groups give is compared by `again`."""
        del name
        row = reader.get(DIRECTORIES, mount.id)
        return row.value if row is not None else None

    def retire_mount(self, tx: Transaction, mount_id: str) -> int:
        """Delete what a mount that is being removed holds, and end its tokens; how many entries."""
        self._logins.retire_mount(tx, mount_id)
        config = tx.get(DIRECTORIES, mount_id)
        if config is not None:
            tx.delete(DIRECTORIES, config)
        return self._groups.retire(tx, mount_id) + self._people.retire(tx, mount_id)

    def table(self) -> list[Operation]:
        """The operations of the method."""
        update, state = Capability.UPDATE, Effect.STATE
        login = (Field("username", record=Record.CLEAR), Field("password"))
        return [
            Operation("ldap.config.read", Capability.READ, self.read_config),
            Operation("ldap.config.write", update, self.write_config, effect=state, fields=CONFIG_FIELDS),
            *self._groups.operations("ldap.groups", GROUP_FIELDS, creates=False),
            *self._people.operations("ldap.users", PERSON_FIELDS, creates=False),
            Operation("ldap.login", update, self.login, effect=state, caller=Caller.PROOF, fields=login),
        ]


def _with(result: Result, note: str) -> Result:
    return Result(auth=result.auth, warnings=(*result.warnings, note), subject=result.subject)
