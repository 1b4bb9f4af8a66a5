"""Routes below sys/ for policies and capabilities, the current and the old spelling."""

from __future__ import annotations

from kms.http.vault.route import Route

ROUTES: tuple[Route, ...] = (
    Route("LIST", "policies/acl", "policy.list"),
    Route("LIST", "policies/acl/{folder...}", "policy.list"),
    Route("GET", "policies/acl/{name...}", "policy.read"),
    Route("POST", "policies/acl/{name...}", "policy.write"),
    Route("PATCH", "policies/acl/{name...}", "policy.patch", envelope=True),
    Route("DELETE", "policies/acl/{name...}", "policy.delete"),
    Route("LIST", "policies/detailed/acl", "policy.list_detailed"),
    Route("LIST", "policies/detailed/acl/{folder...}", "policy.list_detailed"),
    Route("LIST", "policies/password", "policy.password.list"),
    Route("GET", "policies/password/{name...}", "policy.password.read"),
    Route("POST", "policies/password/{name...}", "policy.password.write"),
    Route("DELETE", "policies/password/{name...}", "policy.password.delete"),
    Route("GET", "policies/password/{name...}/generate", "policy.password.generate"),
    Route("GET", "policy", "policy.index_old", inject=True),
    Route("LIST", "policy", "policy.list_old", inject=True),
    Route("LIST", "policy/{folder...}", "policy.list_old", inject=True),
    Route("GET", "policy/{name...}", "policy.read_old", inject=True),
    Route("POST", "policy/{name...}", "policy.write_old"),
    Route("DELETE", "policy/{name...}", "policy.delete"),
    Route("POST", "capabilities", "policy.capabilities", inject=True),
    Route("POST", "capabilities-self", "policy.capabilities_self", inject=True),
    Route("POST", "capabilities-accessor", "policy.capabilities_accessor", inject=True),
)

CONTROL_GROUP: tuple[Route, ...] = (
    Route("POST", "control-group/request", "sys.control_group.request"),
    Route("LIST", "control-group/request", "sys.control_group.list"),
    Route("POST", "control-group/authorize", "sys.control_group.authorize"),
)

EXPLAIN: tuple[Route, ...] = (
    Route("POST", "policies/explain", "policy.explain"),
    Route("POST", "policies/explain-self", "policy.explain_self"),
    Route("POST", "policies/who", "policy.who"),
    Route("POST", "policies/grants", "policy.grants"),
    Route("LIST", "evidence", "sys.evidence.list"),
    Route("GET", "evidence/{path...}", "sys.evidence.read"),
)
