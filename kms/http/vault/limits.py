"""Routes below sys/ of what bounds callers: locked names."""

from __future__ import annotations

from kms.http.vault.route import Route

ROUTES: tuple[Route, ...] = (
    Route("GET", "locked-users", "sys.locked_users.list"),
    Route(
        "POST",
        "locked-users/{mount_accessor}/unlock/{alias_identifier}",
        "sys.locked_users.unlock",
        free=frozenset({"alias_identifier"}),
    ),
)
