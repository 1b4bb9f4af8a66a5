"""The authorization endpoint: somebody with a token agrees that a client may know who he is, and gets a code for it.

There is no page of a browser here: the caller sends the request with its token, as `bao` or the page of kms.http.signin does,
and takes the code to the client's redirect URI itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from kms.clock import Clock
from kms.identity.entities.model import Standing
from kms.identity.oidc.answers import OAuthError, authorization, authorization_error
from kms.identity.oidc.clients import assigned, by_id
from kms.identity.oidc.model import CODES, Client, Code
from kms.identity.oidc.providers import provider_of, scopes_of
from kms.identity.oidc.tokens import IdentityTokens
from kms.identity.service import TokenService
from kms.identity.within import Within, Writing
from kms.ids import base62
from kms.operation import Call, Change, Result
from kms.tables import Reader, Store, Transaction

KIND: Final = "oidc-code"
_CODE: Final = 32  # base62 characters
_CODE_SECONDS: Final = 300
_LOOPBACK: Final = {"localhost", "127.0.0.1", "::1"}
_METHODS: Final = {"plain", "S256"}


class Authorizations:
    """One per process, safe to use from several threads."""

    def __init__(self, store: Store, clock: Clock, tokens: TokenService, issued: IdentityTokens) -> None:
        self._store = store
        self._clock = clock
        self._tokens = tokens
        self._issued = issued

    def authorize(self, call: Call) -> Result | Change:
        """A code, or why not."""
        state = call.args.get("state") or ""
        try:
            agreed = self._agreed(call, Within(self._store.reader(), call.namespace))
        except OAuthError as error:
            return authorization_error(error, state)
        code = base62(_CODE)

        def write(tx: Transaction) -> Result:
            Writing(tx, call.namespace).insert(CODES, self._tokens.digest_of(KIND, code), agreed)
            answer = authorization({"code": code, "state": state})
            facts = {"client_id": agreed.client_id, "entity": agreed.entity_id}
            return Result(raw=answer.raw, status=answer.status, subject=facts)

        return Change(write)

    def _agreed(self, call: Call, reader: Reader) -> Code:
        args = call.args
        client = self._client(reader, args)
        redirect_uri = args.get("redirect_uri") or ""
        if not redirect_uri:
            raise OAuthError("invalid_request", "redirect_uri parameter is required")
        if not redirects(redirect_uri, client.redirect_uris):
            raise OAuthError("invalid_redirect_uri", "redirect_uri is not allowed for the client")
        provider = provider_of(reader, args["name"])
        if provider is None:
            raise OAuthError("invalid_request", "provider not found")
        if not provider.allows(client.client_id):
            raise OAuthError("unauthorized_client", "client is not authorized to use the provider")
        for name in ("request", "request_uri"):
            if name in call.given:
                raise OAuthError(f"{name}_not_supported", f"{name} parameter is not supported")
        scopes = scopes_of(provider, args.get("scope") or "")
        if scopes is None:
            raise OAuthError("invalid_request", 'scope parameter must contain the "openid" value')
        _demand_code(args.get("response_type") or "")
        standing = self._standing(call, reader, client)
        challenge, method = _challenge(args, client, given="code_challenge" in call.given)
        return Code(
            provider=args["name"],
            client_id=client.client_id,
            entity_id=standing.entity.id,
            redirect_uri=redirect_uri,
            expires_at=self._clock.now() + _CODE_SECONDS,
            scopes=scopes,
            nonce=args.get("nonce") or "",
            challenge=challenge,
            challenge_method=method,
            auth_time=self._auth_time(call),
        )

    @staticmethod
    def _client(reader: Reader, args: dict[str, Any]) -> Client:
        client_id = args.get("client_id") or ""
        if not client_id:
            raise OAuthError("invalid_client_id", "client_id parameter is required")
        client = by_id(reader, client_id)
        if client is None:
            raise OAuthError("invalid_client_id", "client with client_id not found")
        if not client.authorization_code:
            raise OAuthError(
                "invalid_grant", "client not allowed to perform authorization code credential flow"
            )
        return client

    def _standing(self, call: Call, reader: Reader, client: Client) -> Standing:
        standing = self._issued.of_caller(call)
        if standing is None:
            raise OAuthError("access_denied", "identity entity must be associated with the request")
        if not assigned(reader, client, standing):
            raise OAuthError("access_denied", "identity entity not authorized by client assignment")
        return standing

    def _auth_time(self, call: Call) -> int:
        """When the caller logged in, where the client asks how long ago that was; else 0."""
        if "max_age" not in call.given:
            return 0
        most = call.args["max_age"]
        if most < 1:
            raise OAuthError("invalid_request", "max_age must be greater than zero")
        token = self._tokens.own(call.principal)
        if token is None:
            raise OAuthError("access_denied", "token associated with request not found")
        if self._clock.now() - token.created > most:
            raise OAuthError("max_age_violation", "active re-authentication is required by max_age")
        return int(token.created)


def _demand_code(response_type: str) -> None:
    if not response_type:
        raise OAuthError("invalid_request", "response_type parameter is required")
    if response_type != "code":
        raise OAuthError("unsupported_response_type", "unsupported response_type value")


def _challenge(args: dict[str, Any], client: Client, *, given: bool) -> tuple[str, str]:
    """PKCE (RFC 7636 4.3): a public client must use it."""
    if not given:
        if client.public:
            raise OAuthError("invalid_request", "PKCE is required for public clients")
        return "", ""
    challenge, method = args.get("code_challenge") or "", args.get("code_challenge_method") or "plain"
    if method not in _METHODS:
        raise OAuthError("invalid_request", "invalid code_challenge_method")
    if not 43 <= len(challenge) <= 128:
        raise OAuthError("invalid_request", "invalid code_challenge")
    return challenge, method


def redirects(uri: str, allowed: Iterable[str]) -> bool:
    """Whether a code may go to this URI: letter by letter, but for the port of a loopback address (RFC 8252 7.3)."""
    parts = _parts(uri)
    if parts is None:
        return False
    if parts.hostname not in _LOOPBACK:
        return uri in set(allowed)
    bare = _without_port(parts)
    return any(other is not None and _without_port(other) == bare for other in map(_parts, allowed))


def _parts(uri: str) -> SplitResult | None:
    try:
        parts = urlsplit(uri)
        return parts if parts.scheme and (parts.port is None or parts.port) else None
    except ValueError:
        return None


def _without_port(parts: SplitResult) -> tuple[str, ...]:
    user = parts.netloc.rpartition("@")[0]
    return (parts.scheme, user, parts.hostname or "", parts.path, parts.query, parts.fragment)
