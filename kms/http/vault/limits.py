"""Routes below sys/ of what bounds callers: locked names, quotas."""

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
    Route("GET", "quotas/config", "sys.quotas.settings"),
    Route("POST", "quotas/config", "sys.quotas.configure"),
    Route("LIST", "quotas/rate-limit", "sys.quotas.list"),
    Route("GET", "quotas/rate-limit/{name}", "sys.quotas.read"),
    Route("POST", "quotas/rate-limit/{name}", "sys.quotas.write"),
    Route("DELETE", "quotas/rate-limit/{name}", "sys.quotas.delete"),
)
