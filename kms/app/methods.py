"""The auth methods: what each brings to the server, as data. A new method is one more entry here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from kms.cel import Sandbox
from kms.http.vault import auth as auth_routes
from kms.http.vault.route import Route
from kms.identity import TokenService
from kms.identity.cert.method import Certificates
from kms.identity.cert.store import TABLES as CERT_TABLES
from kms.identity.jwt.flow import BrowserLogins
from kms.identity.jwt.keys import KeySources
from kms.identity.jwt.method import JwtMethod
from kms.identity.jwt.provider import Provider
from kms.identity.jwt.store import ATTEMPTS
from kms.identity.jwt.store import TABLES as JWT_TABLES
from kms.identity.jwt.table import browser_operations, jwt_operations
from kms.identity.kubernetes.method import Kubernetes
from kms.identity.kubernetes.store import TABLES as KUBERNETES_TABLES
from kms.identity.ldap.method import Ldap
from kms.identity.ldap.store import TABLES as LDAP_TABLES
from kms.identity.methods.approle import AppRoles
from kms.identity.methods.approletable import approle_operations
from kms.identity.methods.lockout import Lockouts
from kms.identity.methods.logins import Logins
from kms.identity.methods.params import TokenParams
from kms.identity.methods.store import FAILURES, TABLES
from kms.identity.methods.userpass import Userpass
from kms.identity.model import Token
from kms.jobs.maintenance import Errand, Run
from kms.namespaces import NamespaceTable
from kms.operation import ROOT_NAMESPACE, Call, MountRef, NamespaceRef, Operation
from kms.system.mounts import MountTable, reference
from kms.tables import Reader, Store, Table, Transaction

_REAPED_AT_ONCE = 200


@dataclass(frozen=True)
class Method:
    """One type of auth mount.

    Args:
        name: what `sys/auth/PATH type=` calls it.
        routes: verbs and paths below a mount.
        operations: what they do.
        retire: deletes what a mount that is being removed holds and ends its tokens, in its transaction.
        params_of: what the tokens of a user or role look like now; None when it is gone.
        again: raises KmsError unless the proof of a token's login is shown again; before each renewal (`Logins`).
    """

    name: str
    routes: tuple[Route, ...]
    operations: tuple[Operation, ...]
    retire: Callable[[Transaction, str], int]
    params_of: Callable[[Reader, MountRef, str], TokenParams | None]
    errands: tuple[Errand, ...] = ()
    again: Callable[[Call, Token], tuple[str, ...] | None] | None = None


DIGESTED: tuple[Table[Any], ...] = (*TABLES, *JWT_TABLES, *KUBERNETES_TABLES, *CERT_TABLES, *LDAP_TABLES)
"""Tables of the methods whose state digests the hourly sweep compares."""
SEALED: tuple[Table[Any], ...] = (*DIGESTED, FAILURES, ATTEMPTS)
"""All sealed tables of the methods."""


def lineage(namespaces: NamespaceTable) -> Callable[[NamespaceRef], Iterable[NamespaceRef]]:
    """From a namespace to the root namespace, all between, and itself."""

    def of(namespace: NamespaceRef) -> Iterable[NamespaceRef]:
        return (
            ROOT_NAMESPACE,
            *(NamespaceRef(row.value.id, row.key) for row in namespaces.above(namespace)),
        )

    return of


def methods(
    store: Store,
    tokens: TokenService,
    mounts: MountTable,
    namespaces: NamespaceTable,
    programs: Sandbox,
) -> tuple[tuple[Method, ...], Logins]:
    """All methods of one process, and what they share."""

    def mount_at(mount_id: str) -> MountRef | None:
        found = (reference(row) for row in mounts.rows().values() if row.value.id == mount_id)
        return next(found, None)

    def params_of(reader: Reader, mount: MountRef, name: str) -> TokenParams | None:
        return next(method.params_of(reader, mount, name) for method in made if method.name == mount.type)

    def again(kind: str, call: Call, token: Token) -> tuple[str, ...] | None:
        method = next(each for each in made if each.name == kind)
        return method.again(call, token) if method.again is not None else None

    logins = Logins(tokens, mount_at, params_of, lineage(namespaces), again)
    lockouts = Lockouts(store, tokens.clock)
    userpass = Userpass(store, logins, lockouts)
    approle = AppRoles(store, tokens, logins, lockouts)

    def reap(run: Run) -> None:
        del run  # what has expired is refused as it is, so its end is no event of its own
        with store.transaction() as tx:
            approle.reap(tx, _REAPED_AT_ONCE)

    sources = KeySources(tokens.clock)
    jwt = JwtMethod(store, logins, sources, programs)
    browser = BrowserLogins(store, logins, jwt, Provider(sources, tokens.clock), tokens.clock)
    signed = (*jwt_operations(jwt), *browser_operations(browser))
    kubernetes = Kubernetes(store, logins)
    ldap = Ldap(store, logins, lockouts)
    cert = Certificates(store, logins, tokens.clock)
    made = (
        Method(
            "ldap",
            auth_routes.LDAP,
            tuple(ldap.table()),
            ldap.retire_mount,
            ldap.params_of,
            again=ldap.again,
        ),
        Method(
            "cert",
            auth_routes.CERT,
            tuple(cert.table()),
            cert.retire_mount,
            cert.params_of,
            (Errand("cert.crls", 60.0, cert.lists.due, cert.lists.refresh),),
            cert.again,
        ),
        Method(
            "kubernetes",
            auth_routes.KUBERNETES,
            tuple(kubernetes.table()),
            kubernetes.retire_mount,
            kubernetes.params_of,
        ),
        Method("jwt", auth_routes.JWT, signed, jwt.retire_mount, jwt.params_of),
        # The same method under the name that logins with a browser are looked for.
        Method("oidc", auth_routes.JWT, (), jwt.retire_mount, jwt.params_of),
        Method(
            "userpass",
            auth_routes.USERPASS,
            tuple(userpass.table()),
            userpass.retire_mount,
            userpass.params_of,
        ),
        Method(
            "approle",
            auth_routes.APPROLE,
            tuple(approle_operations(approle)),
            approle.retire_mount,
            approle.params_of,
            (Errand("approle.reap", 60.0, approle.expired, reap),),
        ),
    )
    return made, logins
