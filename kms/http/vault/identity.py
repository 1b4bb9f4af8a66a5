"""Routes below identity/: entities, aliases and groups, with the old names of aliases."""

from __future__ import annotations

from kms.http.vault.route import Route


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
