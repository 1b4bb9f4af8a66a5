"""Providers: issuers with their clients and scopes, and the documents that clients fetch from them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from kms.errors import invalid, not_found
from kms.identity.entities.model import Standing
from kms.identity.oidc.model import ANY, CLIENTS, DEFAULT, PROVIDERS, SCOPES, Provider
from kms.identity.oidc.roleadmin import check_issuer
from kms.identity.oidc.shelf import OPENID
from kms.identity.oidc.signing import ALGORITHMS
from kms.identity.oidc.templates import claims_of, names_of
from kms.identity.oidc.tokens import IdentityTokens, document
from kms.identity.within import Within, Writing
from kms.operation import Call, Change, NamespaceRef, Result
from kms.tables import Reader, Store, Transaction

METHODS = ("none", "client_secret_basic", "client_secret_post")


class ScopeConflictError(Exception):
    """Two scopes claim the same; the text says which."""


def provider_of(reader: Reader, name: str) -> Provider | None:
    """A provider; `default` is there before it was ever written."""
    row = reader.get(PROVIDERS, name)
    if row is not None:
        return row.value
    return Provider(allowed_client_ids=(ANY,)) if name == DEFAULT else None


def scopes_of(provider: Provider, asked: str) -> tuple[str, ...] | None:
    """The scopes of a request that the provider has; None unless `openid` is among those asked for."""
    names = set(asked.split(" ")) - {""}
    if OPENID not in names:
        return None
    return tuple(sorted(names & set(provider.scopes_supported) - {OPENID}))


def scope_claims(
    reader: Reader, scopes: Iterable[str], standing: Standing | None, now: float
) -> dict[str, Any]:
    """The claims of several scopes. Raises ScopeConflictError."""
    claims: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for scope in scopes:
        row = reader.get(SCOPES, scope)
        for name, value in (claims_of(row.value.template, standing, now) if row is not None else {}).items():
            if name in sources:
                raise ScopeConflictError(
                    f'found scopes with conflicting top-level claim: claim "{name}" in scopes "{scope}", '
                    f'"{sources[name]}"'
                )
            sources[name] = scope
            claims[name] = value
    return claims


class Providers:
    """One per process, safe to use from several threads.

    Args:
        address: scheme, host and port of this server: the issuer, where a provider has none.
    """

    def __init__(self, store: Store, tokens: IdentityTokens, address: str) -> None:
        self._store = store
        self._tokens = tokens
        self._address = address

    def issuer(self, call: Call, provider: Provider) -> str:
        """The issuer of the tokens of the provider that the call names."""
        return self._issuer(call.namespace, call.args["name"], provider)

    def _issuer(self, namespace: NamespaceRef, name: str, provider: Provider) -> str:
        return f"{provider.issuer or self._address}/v1/{namespace.path}identity/oidc/provider/{name}"

    def exists(self, call: Call) -> bool:
        """Whether the provider is there: creating and updating are different rights."""
        return provider_of(Within(self._store.reader(), call.namespace), call.args["name"]) is not None

    def read(self, call: Call) -> Result:
        """One provider."""
        return Result(data=self._shown(call.namespace, call.args["name"], self._must(call)))

    def _must(self, call: Call) -> Provider:
        held = provider_of(Within(self._store.reader(), call.namespace), call.args["name"])
        if held is None:
            raise not_found()
        return held

    def _shown(self, namespace: NamespaceRef, name: str, provider: Provider) -> dict[str, Any]:
        return {
            "allowed_client_ids": list(provider.allowed_client_ids),
            "issuer": self._issuer(namespace, name, provider),
            "scopes_supported": list(provider.scopes_supported),
        }

    def listing(self, call: Call) -> Result:
        """All providers, or those that a client may use."""
        client_id = call.args.get("allowed_client_id") or ""
        reader = Within(self._store.reader(), call.namespace)
        info = {}
        for name in sorted({*reader.keys(PROVIDERS), DEFAULT}):
            held = provider_of(reader, name)
            if held is not None and (not client_id or held.allows(client_id)):
                info[name] = self._shown(call.namespace, name, held)
        if not info:
            raise not_found()
        return Result(data={"keys": list(info), "key_info": info}, items=len(info))

    def write(self, call: Call) -> Change:
        """Make or change a provider."""
        name = call.args["name"]
        given: dict[str, Any] = {
            field: tuple(sorted(set(call.args[field])))
            for field in ("allowed_client_ids", "scopes_supported")
            if field in call.given
        }
        if "issuer" in call.given:
            given["issuer"] = call.args["issuer"]
        before = provider_of(Within(self._store.reader(), call.namespace), name) or Provider()
        warnings = check_issuer(replace(before, **given).issuer)

        def write(rows: Transaction) -> Result:
            tx = Writing(rows, call.namespace)
            row = tx.get(PROVIDERS, name)
            provider = replace(provider_of(tx, name) or Provider(), **given)
            notes = (*warnings, *_conflicts(tx, provider.scopes_supported))
            if row is None:
                tx.insert(PROVIDERS, name, provider)
            else:
                tx.replace(PROVIDERS, row, provider)
            return Result(warnings=notes, subject={"provider": name})

        return Change(write)

    def delete(self, call: Call) -> Change:
        """Delete a provider."""
        name = call.args["name"]
        if name == DEFAULT:
            raise invalid(f'deletion of OIDC provider "{DEFAULT}" not allowed')

        def write(rows: Transaction) -> Result:
            tx = Writing(rows, call.namespace)
            row = tx.get(PROVIDERS, name)
            if row is not None:
                tx.delete(PROVIDERS, row)
            return Result(subject={"provider": name})

        return Change(write)

    # -- documents ---------------------------------------------------------------------------------------

    def discovery(self, call: Call) -> Result:
        """OpenID Connect Discovery 1.0, section 3."""
        provider = self._must(call)
        issuer = self.issuer(call, provider)
        return document(
            {
                "issuer": issuer,
                "jwks_uri": f"{issuer}/.well-known/keys",
                "authorization_endpoint": f"{issuer}/authorize",
                "token_endpoint": f"{issuer}/token",
                "userinfo_endpoint": f"{issuer}/userinfo",
                "request_parameter_supported": False,
                "request_uri_parameter_supported": False,
                "id_token_signing_alg_values_supported": list(ALGORITHMS),
                "response_types_supported": ["code"],
                "scopes_supported": [*provider.scopes_supported, OPENID],
                "claims_supported": [],
                "subject_types_supported": ["public"],
                "grant_types_supported": ["authorization_code"],
                "code_challenge_methods_supported": ["S256", "plain"],
                "token_endpoint_auth_methods_supported": list(METHODS),
            },
            max_age=3600,
        )

    def keys(self, call: Call) -> Result:
        """The public keys of the clients that may use the provider."""
        provider = self._must(call)
        reader = Within(self._store.reader(), call.namespace)
        names = {row.value.key for row in reader.scan(CLIENTS) if provider.allows(row.value.client_id)}
        return self._tokens.published(reader, names)


def _conflicts(tx: Transaction, scopes: Iterable[str]) -> list[str]:
    notes, sources = [], dict[str, str]()
    for scope in scopes:
        row = tx.get(SCOPES, scope)
        if row is None:
            raise invalid(f'scope "{scope}" does not exist')
        for claim in sorted(names_of(row.value.template)):
            other = sources.setdefault(claim, scope)
            if other != scope:
                notes.append(
                    f'Found scope templates with conflicting top-level keys: conflict "{claim}" in scopes '
                    f'"{scope}", "{other}". This may result in an error if the scopes are requested in an OIDC '
                    "Authentication Request."
                )
    return notes
