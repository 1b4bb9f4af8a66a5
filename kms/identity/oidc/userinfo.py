"""The userinfo endpoint (OIDC Core 5.3): what a client that holds an access token may know, as it is now."""

from __future__ import annotations

from typing import Any

from kms.clock import Clock
from kms.identity.oidc.answers import OAuthError, userinfo_error
from kms.identity.oidc.clients import assigned, by_id
from kms.identity.oidc.exchange import CLIENT, PROVIDER, SCOPES
from kms.identity.oidc.providers import ScopeConflictError, provider_of, scope_claims
from kms.identity.oidc.tokens import IdentityTokens, document
from kms.identity.service import TokenService
from kms.identity.within import Within
from kms.operation import Call, Result
from kms.tables import Reader, Store


class UserInfo:
    """One per process, safe to use from several threads."""

    def __init__(self, store: Store, clock: Clock, tokens: TokenService, issued: IdentityTokens) -> None:
        self._store = store
        self._clock = clock
        self._tokens = tokens
        self._issued = issued

    def read(self, call: Call) -> Result:
        """The claims, or why not."""
        try:
            return document(self._claims(call, Within(self._store.reader(), call.namespace)))
        except OAuthError as error:
            return userinfo_error(error)

    def _claims(self, call: Call, reader: Reader) -> dict[str, Any]:
        name = call.args["name"]
        provider = provider_of(reader, name)
        if provider is None:
            raise OAuthError("invalid_request", "provider not found")
        token = self._tokens.own(call.principal)
        if token is None or token.internal is None or token.internal.get(PROVIDER) != name:
            raise OAuthError("invalid_token", "access token is malformed or invalid")
        client = by_id(reader, token.internal[CLIENT])
        if client is None:
            raise OAuthError("access_denied", "client not found")
        standing = self._issued.of_caller(call)
        if standing is None:
            raise OAuthError("access_denied", "identity entity must be associated with the request")
        if not assigned(reader, client, standing):
            raise OAuthError("access_denied", "identity entity not authorized by client assignment")
        if not provider.allows(client.client_id):
            raise OAuthError("access_denied", "client is not authorized to use the provider")
        scopes = [scope for scope in token.internal[SCOPES].split() if scope in provider.scopes_supported]
        try:
            claims = scope_claims(reader, scopes, standing, self._clock.now())
        except ScopeConflictError as error:
            raise OAuthError("invalid_request", str(error)) from None
        return {**claims, "sub": standing.entity.id}
