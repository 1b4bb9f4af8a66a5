"""Routes below auth/token/, of a cubbyhole, and below sys/wrapping/."""

from __future__ import annotations

from kms.http.vault.route import Route

ROUTES: tuple[Route, ...] = (
    Route("POST", "create", "token.create"),
    Route("POST", "create-orphan", "token.create_orphan"),
    Route("POST", "create/{role_name}", "token.create_with_role"),
    Route("POST", "lookup", "token.lookup"),
    Route("GET", "lookup", "token.lookup_get"),
    Route("GET", "lookup-self", "token.lookup_self"),
    Route("POST", "lookup-self", "token.lookup_self_post"),
    Route("POST", "lookup-accessor", "token.lookup_accessor"),
    Route("LIST", "accessors", "token.accessors"),
    Route("POST", "renew", "token.renew"),
    Route("POST", "renew-self", "token.renew_self"),
    Route("POST", "renew-accessor", "token.renew_accessor"),
    Route("POST", "revoke", "token.revoke"),
    Route("POST", "revoke-self", "token.revoke_self"),
    Route("POST", "revoke-accessor", "token.revoke_accessor"),
    Route("POST", "revoke-orphan", "token.revoke_orphan"),
    Route("POST", "tidy", "token.tidy", status=202),
    Route("LIST", "roles", "token.role.list"),
    Route("GET", "roles/{role_name}", "token.role.read"),
    Route("POST", "roles/{role_name}", "token.role.write"),
    Route("DELETE", "roles/{role_name}", "token.role.delete"),
)

CUBBYHOLE: tuple[Route, ...] = (
    Route("LIST", "", "cubbyhole.list"),
    Route("LIST", "{path...}", "cubbyhole.list"),
    Route("GET", "{path...}", "cubbyhole.read"),
    Route("POST", "{path...}", "cubbyhole.write"),
    Route("DELETE", "{path...}", "cubbyhole.delete"),
)

WRAPPING: tuple[Route, ...] = (
    Route("POST", "wrapping/wrap", "sys.wrapping.wrap"),
    Route("GET", "wrapping/lookup", "sys.wrapping.lookup"),
    Route("POST", "wrapping/lookup", "sys.wrapping.lookup"),
    Route("POST", "wrapping/unwrap", "sys.wrapping.unwrap"),
    Route("POST", "wrapping/rewrap", "sys.wrapping.rewrap"),
)
