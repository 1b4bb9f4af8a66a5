"""Login by kubernetes: the token's own words, the role, the API server's word; then a token of ours."""

from __future__ import annotations

from kms.errors import ErrorKind, KmsError, invalid, not_found
from kms.identity.jwt import token
from kms.identity.kubernetes import cluster as server
from kms.identity.kubernetes.account import (
    Account,
    check_claims,
    denied,
    names_permit,
    namespace_listed,
    refused,
    said,
    selector_labels,
)
from kms.identity.kubernetes.fields import (
    CONFIG_FIELDS,
    ROLE_FIELDS,
    configuration,
    role_changed,
    shown_config,
    shown_role,
    signing_keys,
)
from kms.identity.kubernetes.store import CLUSTERS, ROLES, Cluster, ClusterRole
from kms.identity.methods.logins import Logins, Proved, elsewhere
from kms.identity.methods.params import TokenParams
from kms.identity.methods.shelf import Shelf
from kms.identity.networks import permits
from kms.operation import Call, Caller, Capability, Change, Effect, Field, MountRef, Operation, Record, Result
from kms.tables import Reader, Store, Transaction


class Kubernetes:
    """Handlers. One per process, safe to use from several threads."""

    def __init__(self, store: Store, logins: Logins) -> None:
        self._store = store
        self._logins = logins
        self._roles: Shelf[ClusterRole] = Shelf(store, ROLES, role_changed, shown_role)

    def read_config(self, call: Call) -> Result:
        row = self._store.reader().get(CLUSTERS, call.mount.id)
        if row is None:
            raise not_found()
        return Result(data=shown_config(row.value))

    def write_config(self, call: Call) -> Change:
        config = configuration(call.args)
        server.authorities(
            config
        )  # without one no API server is ever believed: said now, not at the first login

        def write(tx: Transaction) -> Result:
            row = tx.get(CLUSTERS, call.mount.id)
            if row is None:
                tx.insert(CLUSTERS, call.mount.id, config)
            else:
                tx.replace(CLUSTERS, row, config)
            return Result(subject={"kubernetes_host": config.kubernetes_host})

        return Change(write)

    def login(self, call: Call) -> Change:
        """All questions are asked before the transaction; it finds the role as it was."""
        name, presented = str(call.args.get("role") or ""), str(call.args.get("jwt") or "")
        for field, value in (("role", name), ("jwt", presented)):
            if not value:
                raise invalid(f"missing {field}")
        reader = self._store.reader()
        row = self._roles.row(reader, call.mount, name)
        if row is None:
            raise invalid(f'invalid role name "{name}"')
        role = row.value
        if not permits(role.token_bound_cidrs, call.peer):
            raise elsewhere()
        held = reader.get(CLUSTERS, call.mount.id)
        if held is None:
            raise invalid("could not load backend configuration")
        account = _proved(held.value, role, presented, call.now)
        name = row.key.removeprefix(f"{call.mount.id}/")
        who = _who(call, name, role, account)

        def write(tx: Transaction) -> Result:
            self._roles.unchanged(tx, row)
            return self._logins.issue(tx, call, who)

        return Change(write)

    # -- the mount ---------------------------------------------------------------------------------------

    def params_of(self, reader: Reader, mount: MountRef, name: str) -> TokenParams | None:
        """For renewals (`Logins`)."""
        row = self._roles.row(reader, mount, name)
        return row.value if row is not None else None

    def retire_mount(self, tx: Transaction, mount_id: str) -> int:
        """Delete what a mount that is being removed holds, and end its tokens; how many roles."""
        self._logins.retire_mount(tx, mount_id)
        config = tx.get(CLUSTERS, mount_id)
        if config is not None:
            tx.delete(CLUSTERS, config)
        return self._roles.retire(tx, mount_id)

    def table(self) -> list[Operation]:
        """The operations of the method."""
        update, state = Capability.UPDATE, Effect.STATE
        login = (Field("role", record=Record.CLEAR), Field("jwt"))
        return [
            Operation("kubernetes.config.read", Capability.READ, self.read_config),
            Operation(
                "kubernetes.config.write", update, self.write_config, effect=state, fields=CONFIG_FIELDS
            ),
            *self._roles.operations("kubernetes.role", ROLE_FIELDS),
            Operation(
                "kubernetes.login", update, self.login, effect=state, caller=Caller.PROOF, fields=login
            ),
        ]


def _proved(config: Cluster, role: ClusterRole, presented: str, now: float) -> Account:
    """The service account: what it says of itself bears out the role, and the API server says the same of it."""
    claims = _claims(config, presented)
    check_claims(claims, config, role, now)
    account = said(claims)
    names_permit(role, account)
    if not namespace_listed(role, account) and not _selected(config, role, account):
        raise refused("namespace not authorized")
    audiences = (role.audience,) if role.audience else account.audiences
    if server.review(config, presented, audiences).same_as != account.same_as:
        raise denied()
    return account


def _claims(config: Cluster, presented: str) -> dict[str, object]:
    try:
        if config.pem_keys:
            return token.verified(presented, signing_keys(config), ())
        return token.unverified(presented)
    except KmsError as error:
        if error.kind is not ErrorKind.INVALID:
            raise
        raise denied() from None


def _selected(config: Cluster, role: ClusterRole, account: Account) -> bool:
    if not role.bound_service_account_namespace_selector:
        return False
    wanted = selector_labels(role.bound_service_account_namespace_selector)
    found = server.labels(config, account.namespace)
    return all(found.get(name) == value for name, value in wanted.items())


def _who(call: Call, name: str, role: ClusterRole, account: Account) -> Proved:
    mount = call.mount.path.removeprefix("auth/").strip("/").replace("/", "-")
    about = {
        "service_account_name": account.name,
        "service_account_namespace": account.namespace,
        "service_account_secret_name": account.secret,
        "service_account_uid": account.uid,
    }
    return Proved(
        name,
        role,
        {**about, "role": name},
        f"{mount}-{account.namespace}-{account.name}"[:256],
        alias=account.alias(role),
        alias_metadata=about,
    )
