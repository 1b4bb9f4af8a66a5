"""The identity store and the OpenID Connect provider, built: what they bring to the server, as data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from kms.clock import Clock
from kms.http.vault import identity as routes
from kms.http.vault import mfa as mfa_routes
from kms.http.vault.route import Route
from kms.identity.entities.model import TABLES as ENTITY_TABLES
from kms.identity.entities.operations import entity_operations
from kms.identity.methods.logins import Logins
from kms.identity.mfa.admin import MfaAdmin
from kms.identity.mfa.operations import mfa_operations
from kms.identity.mfa.store import TABLES as MFA_TABLES
from kms.identity.mfa.store import WAITING
from kms.identity.oidc.authorize import Authorizations
from kms.identity.oidc.clients import Clients
from kms.identity.oidc.exchange import Exchange
from kms.identity.oidc.keyadmin import OidcKeys
from kms.identity.oidc.model import CODES
from kms.identity.oidc.model import TABLES as OIDC_TABLES
from kms.identity.oidc.operations import token_operations
from kms.identity.oidc.provideroperations import provider_operations
from kms.identity.oidc.providers import Providers
from kms.identity.oidc.roleadmin import OidcRoles
from kms.identity.oidc.shelf import Assignments, Scopes
from kms.identity.oidc.signing import SigningKeys
from kms.identity.oidc.tokens import IdentityTokens
from kms.identity.oidc.userinfo import UserInfo
from kms.identity.remains import NAMED, factors, signing_keys
from kms.identity.service import TokenService
from kms.jobs.maintenance import Chore, Errand, Run
from kms.keys import KeyService
from kms.namespaces import NamespaceTable
from kms.operation import Operation
from kms.system.mounts import MountTable
from kms.system.namespaces import Remains, rows_of
from kms.tables import Store, Table

_REAPED_AT_ONCE = 200
DIGESTED: tuple[Table[Any], ...] = (*OIDC_TABLES, *MFA_TABLES)
"""Tables of which the hourly sweep compares state digests, beside those of `AT_START`."""
AT_START: tuple[Table[Any], ...] = ENTITY_TABLES
"""They decide who may do what."""
SEALED: tuple[Table[Any], ...] = (*DIGESTED, CODES, WAITING)


@dataclass(frozen=True)
class Identity:
    """What answers below identity/.

    Args:
        chores: background work that has come due, given the time.
        errands: further periodic work.
        remains: what of a namespace goes with it.
    """

    routes: tuple[Route, ...]
    operations: tuple[Operation, ...]
    chores: Callable[[float], Iterable[Chore]]
    errands: tuple[Errand, ...]
    remains: tuple[Remains, ...]


def identity(
    store: Store,
    clock: Clock,
    tokens: TokenService,
    logins: Logins,
    keys: KeyService,
    mounts: MountTable,
    namespaces: NamespaceTable,
    *,
    address: str,
) -> Identity:
    """All of one process.

    Args:
        store: the database.
        clock: the machine's clocks.
        tokens: who is asking.
        logins: what second factors stand before.
        keys: what signs.
        mounts: whose accessors aliases name.
        namespaces: all there are.
        address: scheme, host and port of this server: the issuer, where none is configured.
    """
    signing = SigningKeys(keys)
    named = OidcKeys(store, clock, signing)
    issued = IdentityTokens(store, clock, tokens.directory, signing, address)
    providers = Providers(store, issued, address)
    provider = provider_operations(
        assignments=Assignments(store),
        scopes=Scopes(store),
        clients=Clients(store, named),
        providers=providers,
        authorizations=Authorizations(store, clock, tokens, issued),
        exchange=Exchange(store, clock, tokens, tokens.directory, signing, providers),
        userinfo=UserInfo(store, clock, tokens, issued),
        signing=signing,
    )
    return Identity(
        (*routes.ROUTES, *routes.TOKENS, *routes.PROVIDER, *mfa_routes.ROUTES),
        (
            *entity_operations(store, clock, mounts.with_accessor),
            *mfa_operations(
                MfaAdmin(store, mounts.with_accessor, mounts.auth_types, namespaces.living), logins
            ),
            *token_operations(named, OidcRoles(store, named), issued, signing),
            *provider,
        ),
        named.chores,
        (_reaping(store, clock),),
        (*(rows_of(table) for table in NAMED), factors, signing_keys(signing.retire)),
    )


def _reaping(store: Store, clock: Clock) -> Errand:
    """Codes that nobody spent in time are refused as they are, so their end is no event of its own."""

    def due() -> bool:
        return bool(store.reader().find(CODES, {}, below=("expires_at", clock.now()), limit=1))

    def reap(_run: Run) -> None:
        with store.transaction() as tx:
            for row in tx.find(CODES, {}, below=("expires_at", clock.now()), limit=_REAPED_AT_ONCE):
                tx.delete(CODES, row)

    return Errand("oidc.reap", 60.0, due, reap)
