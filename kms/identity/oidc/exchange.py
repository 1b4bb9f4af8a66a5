"""The token endpoint: a client proves who it is, and gets tokens for a code, or for itself.

The ID token is signed before the transaction that spends the code, because the key may be in the HSM; whoever loses the
race for the code has signed in vain, and its token goes nowhere. A try that fails spends the code as well.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Any, Final

from kms.clock import Clock
from kms.errors import KmsError
from kms.identity.entities.standing import Directory
from kms.identity.keys import new_accessor, new_token
from kms.identity.model import Token
from kms.identity.oidc.answers import OAuthError, token, token_error
from kms.identity.oidc.authorize import KIND
from kms.identity.oidc.clients import assigned, by_id
from kms.identity.oidc.keyadmin import named
from kms.identity.oidc.model import CODES, Client, Code, OidcKey, Provider
from kms.identity.oidc.providers import Providers, ScopeConflictError, provider_of, scope_claims, scopes_of
from kms.identity.oidc.signing import SigningKeys, digest_name
from kms.identity.service import TokenService
from kms.identity.within import Within, Writing
from kms.ids import new_uuid
from kms.operation import Call, Change, Result
from kms.policy import OIDC_ACCESS
from kms.tables import Reader, Row, Store, Transaction

CODE: Final = "authorization_code"
CREDENTIALS: Final = "client_credentials"
CLIENT: Final = "client_id"
SCOPES: Final = "scopes"
PROVIDER: Final = "provider"
_MAX_VERIFIER: Final = 128
_SPENT: Final = "authorization grant is invalid or expired"
_AUTHENTICATION: Final = "client failed to authenticate"


class Exchange:
    """One per process, safe to use from several threads."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        tokens: TokenService,
        directory: Directory,
        signing: SigningKeys,
        providers: Providers,
    ) -> None:
        self._store = store
        self._clock = clock
        self._tokens = tokens
        self._directory = directory
        self._signing = signing
        self._providers = providers

    def exchange(self, call: Call) -> Result | Change:
        """Tokens, or why not."""
        try:
            return self._granted(call, Within(self._store.reader(), call.namespace))
        except OAuthError as error:
            return token_error(error)

    def _granted(self, call: Call, reader: Within) -> Result | Change:
        provider = provider_of(reader, call.args["name"])
        if provider is None:
            raise OAuthError("invalid_request", "provider not found")
        client, key = self._client(call, reader, provider)
        grant = call.args.get("grant_type") or ""
        if grant not in {CODE, CREDENTIALS}:
            raise OAuthError("unsupported_grant_type", "unsupported grant_type or parameter is empty value")
        if not (client.authorization_code if grant == CODE else client.client_credentials):
            raise OAuthError("invalid_grant", "client is not authorized to use given credentials flow")
        if grant == CREDENTIALS:
            return self._for_itself(call, reader, provider, client, key)
        return self._for_code(call, reader, provider, client, key)

    def _client(self, call: Call, reader: Reader, provider: Provider) -> tuple[Client, OidcKey]:
        client_id, secret = _credentials(call)
        client = by_id(reader, client_id)
        if client is None:
            raise OAuthError("invalid_client", _AUTHENTICATION)
        if not client.public and not hmac.compare_digest(client.secret.encode(), secret.encode()):
            raise OAuthError("invalid_client", _AUTHENTICATION)
        if not provider.allows(client.client_id):
            raise OAuthError("invalid_client", "client is not authorized to use the provider")
        key = named(reader, client.key)
        if key is None:
            raise OAuthError("server_error", f'client key "{client.key}" not found')
        if not key.allows(client.client_id):
            raise OAuthError("invalid_client", "client is not authorized to use the key")
        return client, key

    # -- for itself ------------------------------------------------------------------------------------------

    def _for_itself(
        self, call: Call, reader: Within, provider: Provider, client: Client, key: OidcKey
    ) -> Result:
        if client.public:
            raise OAuthError("invalid_client", _AUTHENTICATION)
        scopes = scopes_of(provider, call.args.get("scope") or "")
        if scopes is None:
            raise OAuthError("invalid_request", 'scope parameter must contain the "openid" value')
        now = self._clock.now()
        try:
            claims = scope_claims(reader, scopes, None, now)
        except ScopeConflictError as error:
            raise OAuthError("invalid_request", str(error)) from None
        claims |= {
            "iss": self._providers.issuer(call, provider),
            "namespace": reader.shown_id,
            "sub": client.client_id,
            "aud": client.client_id,
            "exp": int(now) + client.id_token_ttl,
            "iat": int(now),
            "jti": new_uuid(),
        }
        signed = self._signing.sign(key, claims)
        answer = token({"token_type": "Bearer", "access_token": signed, "expires_in": client.id_token_ttl})
        return Result(
            raw=answer.raw,
            status=answer.status,
            headers=answer.headers,
            subject={"client_id": client.client_id},
        )

    # -- for a code ------------------------------------------------------------------------------------------

    def _for_code(
        self, call: Call, reader: Within, provider: Provider, client: Client, key: OidcKey
    ) -> Change:
        code = call.args.get("code") or ""
        if not code:
            raise OAuthError("invalid_request", "code parameter is required")
        row = reader.get(CODES, self._tokens.digest_of(KIND, code))
        if row is None or row.value.expires_at <= self._clock.now():
            raise OAuthError("invalid_grant", _SPENT)
        try:
            self._check(call, reader, row.value, client)
            return self._tokens_of(call, reader, provider, client, key, row, code)
        except OAuthError as error:
            refusal = token_error(error)

        def spend(rows: Transaction) -> Result:
            tx = Writing(rows, call.namespace)
            held = tx.get(CODES, row.key)
            if held is not None:
                tx.delete(CODES, held)
            return refusal

        return Change(spend)

    def _check(self, call: Call, reader: Reader, code: Code, client: Client) -> None:
        args = call.args
        if code.client_id != client.client_id:
            raise OAuthError("invalid_grant", "authorization code was not issued to the client")
        if code.provider != args["name"]:
            raise OAuthError("invalid_grant", "authorization code was not issued by the provider")
        redirect_uri = args.get("redirect_uri") or ""
        if not redirect_uri:
            raise OAuthError("invalid_request", "redirect_uri parameter is required")
        if code.redirect_uri != redirect_uri:
            raise OAuthError(
                "invalid_grant",
                "redirect_uri does not match the redirect_uri used in the authorization request",
            )
        standing = self._directory.standing(code.entity_id)
        if standing is None:
            raise OAuthError("invalid_request", "identity entity associated with the request not found")
        if not assigned(reader, client, standing):
            raise OAuthError("invalid_request", "identity entity not authorized by client assignment")
        _check_verifier(code, client, args.get("code_verifier") or "")

    def _tokens_of(
        self,
        call: Call,
        reader: Within,
        provider: Provider,
        client: Client,
        key: OidcKey,
        row: Row[Code],
        code: str,
    ) -> Change:
        agreed, now = row.value, self._clock.now()
        access = new_token(call.namespace.id)
        standing = self._directory.standing(agreed.entity_id)
        if standing is None:
            raise OAuthError("invalid_request", "identity entity associated with the request not found")
        try:
            claims = scope_claims(reader, agreed.scopes, standing, now)
        except ScopeConflictError as error:
            raise OAuthError("invalid_request", str(error)) from None
        claims |= {
            "iss": self._providers.issuer(call, provider),
            "namespace": reader.shown_id,
            "sub": agreed.entity_id,
            "aud": client.client_id,
            "exp": int(now) + client.id_token_ttl,
            "iat": int(now),
            "at_hash": _half_hash(key.algorithm, access),
            "c_hash": _half_hash(key.algorithm, code),
        }
        claims |= {"nonce": agreed.nonce} if agreed.nonce else {}
        claims |= {"auth_time": agreed.auth_time} if agreed.auth_time else {}
        signed = self._signed(key, claims)
        born = self._access_token(call, client, agreed, now)
        answer = token(
            {
                "token_type": "Bearer",
                "access_token": access,
                "id_token": signed,
                "expires_in": client.access_token_ttl,
            }
        )

        def write(rows: Transaction) -> Result:
            tx = Writing(rows, call.namespace)
            held = tx.get(CODES, row.key)
            if held is None or held.revision != row.revision:
                return token_error(OAuthError("invalid_grant", _SPENT))
            tx.delete(CODES, held)
            self._tokens.adopt(rows, born, access)
            return Result(
                raw=answer.raw,
                status=answer.status,
                headers=answer.headers,
                subject={
                    "client_id": client.client_id,
                    "entity": agreed.entity_id,
                    "accessor": born.accessor,
                },
            )

        return Change(write)

    def _signed(self, key: OidcKey, claims: dict[str, Any]) -> str:
        try:
            return self._signing.sign(key, claims)
        except KmsError as error:
            raise OAuthError("server_error", error.detail) from error

    @staticmethod
    def _access_token(call: Call, client: Client, code: Code, now: float) -> Token:
        return Token(
            accessor=new_accessor(call.namespace.id),
            namespace=call.namespace.id,
            parent="",
            expires_at=now + client.access_token_ttl,
            policies=(OIDC_ACCESS,),
            path=call.path,
            display_name=f"oidc-{client.name}",
            created=now,
            meta={"oidc_token_type": "access token"},
            creation_ttl=client.access_token_ttl,
            lease_ttl=client.access_token_ttl,
            entity_id=code.entity_id,
            bare=True,
            internal={CLIENT: client.client_id, SCOPES: " ".join(code.scopes), PROVIDER: code.provider},
        )


def _credentials(call: Call) -> tuple[str, str]:
    """Who the client says it is, and its proof: of the header, else of the body. Raises OAuthError."""
    if call.basic:
        try:
            text = base64.b64decode(call.basic, validate=True).decode("utf-8")
        except (binascii.Error, ValueError):
            raise OAuthError("invalid_client", _AUTHENTICATION) from None
        name, _, secret = text.partition(":")
        return name, secret
    client_id = call.args.get("client_id") or ""
    if not client_id:
        raise OAuthError("invalid_request", "client_id parameter is required")
    return client_id, call.args.get("client_secret") or ""


def _check_verifier(code: Code, client: Client, verifier: str) -> None:
    """PKCE (RFC 7636 4.6). Raises OAuthError."""
    if not code.challenge:
        if client.public:
            raise OAuthError("invalid_request", "PKCE is required for public clients")
        if verifier:
            raise OAuthError("invalid_request", "unexpected code_verifier for token exchange")
        return
    if not verifier:
        raise OAuthError("invalid_request", "expected code_verifier for token exchange")
    made = verifier[: _MAX_VERIFIER + 1]
    if code.challenge_method == "S256":
        digest = hashlib.sha256(verifier.encode("utf-8", "surrogatepass")).digest()
        made = base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
    if not hmac.compare_digest(made.encode("utf-8", "surrogatepass"), code.challenge.encode("utf-8")):
        raise OAuthError("invalid_grant", "invalid code_verifier for token exchange")


def _half_hash(algorithm: str, text: str) -> str:
    """OIDC Core 3.1.3.6: the left half of the hash that goes with the algorithm."""
    digest = hashlib.new(digest_name(algorithm), text.encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode("ascii")
