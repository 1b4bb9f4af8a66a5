"""Routes below identity/: entities, aliases and groups, with the old names of aliases."""

from __future__ import annotations

from kms.http.vault.route import Rendered, Route
from kms.operation import Result


def _named(what: str) -> tuple[Route, ...]:
    name = f"identity.{what}"
    return (
        Route("POST", what, f"{name}.write"),
        Route("LIST", f"{what}/id", f"{name}.list-ids"),
        Route("GET", f"{what}/id/{{id}}", f"{name}.read-id"),
        Route("POST", f"{what}/id/{{id}}", f"{name}.write"),
        Route("DELETE", f"{what}/id/{{id}}", f"{name}.delete-id"),
        Route("LIST", f"{what}/name", f"{name}.list-names"),
        Route("GET", f"{what}/name/{{name...}}", f"{name}.read-name"),
        Route("POST", f"{what}/name/{{name...}}", f"{name}.write"),
        Route("DELETE", f"{what}/name/{{name...}}", f"{name}.delete-name"),
        Route("POST", f"lookup/{what}", f"{name}.lookup"),
    )


def _aliases(what: str, name: str, write: str = "") -> tuple[Route, ...]:
    return (
        Route("POST", what, write or f"{name}.write"),
        Route("LIST", f"{what}/id", f"{name}.list"),
        Route("GET", f"{what}/id/{{id}}", f"{name}.read"),
        Route("POST", f"{what}/id/{{id}}", write or f"{name}.write"),
        Route("DELETE", f"{what}/id/{{id}}", f"{name}.delete"),
    )


ROUTES: tuple[Route, ...] = (
    *_named("entity"),
    Route("POST", "entity/batch-delete", "identity.entity.batch-delete"),
    Route("POST", "entity/merge", "identity.entity.merge"),
    *_named("group"),
    *_aliases("entity-alias", "identity.entity-alias"),
    *_aliases("group-alias", "identity.group-alias"),
    *_aliases("alias", "identity.entity-alias"),
    # Under this old name the peer writes the entity itself.
    *_aliases("persona", "identity.entity-alias", "identity.persona.write"),
)


def _document(result: Result) -> Rendered:
    """A bare JSON answer, whose code and headers the operation chooses."""
    if result.raw is None:
        raise TypeError("this operation answers a document")
    body, content_type = result.raw
    return Rendered(result.status or 200, body, content_type, result.headers)


def _kept(what: str) -> tuple[Route, ...]:
    name = f"identity.oidc.{what}"
    return (
        Route("LIST", f"oidc/{what}", f"{name}.list"),
        Route("GET", f"oidc/{what}/{{name}}", f"{name}.read"),
        Route("POST", f"oidc/{what}/{{name}}", f"{name}.write"),
        Route("DELETE", f"oidc/{what}/{{name}}", f"{name}.delete"),
    )


TOKENS: tuple[Route, ...] = (
    Route("GET", "oidc/config", "identity.oidc.config.read"),
    Route("POST", "oidc/config", "identity.oidc.config.write"),
    *_kept("key"),
    Route("POST", "oidc/key/{name}/rotate", "identity.oidc.key.rotate"),
    *_kept("role"),
    Route("GET", "oidc/token/{name}", "identity.oidc.token"),
    Route("POST", "oidc/introspect", "identity.oidc.introspect", render=_document),
    Route("GET", "oidc/.well-known/openid-configuration", "identity.oidc.discovery", render=_document),
    Route("GET", "oidc/.well-known/keys", "identity.oidc.keys", render=_document),
)

_AT = "oidc/provider/{name}"
PROVIDER: tuple[Route, ...] = (
    *_kept("assignment"),
    *_kept("scope"),
    *_kept("client"),
    *_kept("provider"),
    Route(
        "GET", f"{_AT}/.well-known/openid-configuration", "identity.oidc.provider.discovery", render=_document
    ),
    Route("GET", f"{_AT}/.well-known/keys", "identity.oidc.provider.keys", render=_document),
    Route("GET", f"{_AT}/authorize", "identity.oidc.provider.authorize", render=_document),
    Route("POST", f"{_AT}/authorize", "identity.oidc.provider.authorize-post", render=_document),
    Route("POST", f"{_AT}/token", "identity.oidc.provider.token", render=_document),
    Route("GET", f"{_AT}/userinfo", "identity.oidc.provider.userinfo", render=_document),
    Route("POST", f"{_AT}/userinfo", "identity.oidc.provider.userinfo-post", render=_document),
)
