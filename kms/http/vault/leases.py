"""Routes below sys/leases/."""

from __future__ import annotations

from kms.http.vault.route import Route

_ID = frozenset({"url_lease_id"})

ROUTES: tuple[Route, ...] = (
    Route("POST", "leases/lookup", "sys.leases.lookup"),
    Route("LIST", "leases/lookup", "sys.leases.list"),
    Route("LIST", "leases/lookup/{prefix...}", "sys.leases.list"),
    Route("POST", "leases/renew", "sys.leases.renew"),
    Route("POST", "leases/renew/{url_lease_id...}", "sys.leases.renew", free=_ID),
    Route("POST", "leases/revoke", "sys.leases.revoke"),
    Route("POST", "leases/revoke/{url_lease_id...}", "sys.leases.revoke", free=_ID),
    Route("POST", "leases/revoke-prefix/{prefix...}", "sys.leases.revoke_prefix"),
    Route("POST", "leases/revoke-force/{prefix...}", "sys.leases.revoke_force"),
    Route("POST", "leases/tidy", "sys.leases.tidy", status=202),
    Route("GET", "leases/count", "sys.leases.count"),
    Route("GET", "leases", "sys.leases"),
)
