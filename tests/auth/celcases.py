"""Programs for roles of jwt, and tokens under them."""

from __future__ import annotations

from typing import Any

ALIAS = "alias: logical.Alias{name: claims.sub}"
IN = f"pb.Auth{{{ALIAS}}}"


def program(expression: str, **variables: str) -> dict[str, Any]:
    """A role's body."""
    made: dict[str, Any] = {"expression": expression}
    if variables:
        made["variables"] = [{"name": name, "expression": text} for name, text in variables.items()]
    return {"cel_program": made}


def auth(members: str) -> str:
    """An expression that lets the subject in, with these members more."""
    return f"pb.Auth{{{members}, {ALIAS}}}"


WRITTEN: list[dict[str, Any]] = [
    program("true"),
    {},
    {"cel_program": {}},
    program(""),
    program("((("),
    program("nosuch"),
    program("entity_id"),
    program("claims.nosuch"),
    program("pb.Auth{bogus: 1}"),
    program("claims.sub == 'x' ? pb.Auth{} : 'no'"),
    program("a", a="claims.nosuch"),
    program("true", claims="1"),
    {**program("true"), "bound_audiences": "a,b", "message": "m", "clock_skew_leeway": 5, "expiration_leeway": -1},
    {**program("true"), "not_before_leeway": "10s", "expiration_leeway": "1m"},
    {**program("true"), "expiration_leeway": "zz"},
    {**program("true"), "unknown": 1},
    program(IN),
]  # fmt: skip
PATCHED: list[dict[str, Any]] = [
    {},
    {"message": "n"},
    program("false"),
    {"bound_audiences": "z"},
    {"cel_program": {"variables": [{"name": "q", "expression": "1"}]}},
    program("((("),
]
LOGINS: list[str] = [
    "true",
    "false",
    "'no'",
    "1",
    "1.5",
    "null",
    "[1]",
    "{'a': 1}",
    "now",
    "logical.Alias{name: 'x'}",
    "pb.Auth{}",
    IN,
    auth("policies: ['p1', 'root']"),
    auth("policies: [' ROOT ']"),
    auth("policies: ['p1', 'default', 'P2'], metadata: {'a': claims.sub}"),
    auth("token_policies: ['tp']"),
    auth("identity_policies: ['ip']"),
    auth("client_token: 's.x'"),
    auth("entity_id: 'e'"),
    auth("period: 60000000000, num_uses: 3"),
    auth("num_uses: -1"),
    auth("token_type: 1u"),
    auth("token_type: 2u"),
    auth("token_type: 9u"),
    auth("bound_cidrs: ['10.0.0.0/8']"),
    auth("bound_cidrs: ['bogus']"),
    auth("bound_cidrs: ['127.0.0.1']"),
    auth("explicit_max_ttl: 600000000000, no_default_policy: true, policies: ['x']"),
    auth("lease_options: pb.LeaseOptions{TTL: 600000000000, renewable: true, issue_time: now}"),
    auth("lease_options: pb.LeaseOptions{TTL: 600000000000, issue_time: now}"),
    auth("group_aliases: [logical.Alias{name: 'g'}]"),
    "pb.Auth{alias: logical.Alias{name: 'n', metadata: {'m': 'v'}, mount_accessor: 'zz', ID: 'id1'}}",
    "pb.Auth{alias: logical.Alias{name: ''}}",
    "claims.nosuch",
    "1 / 0",
    "has(claims.nosuch) ? 'y' : 'n'",
    "type(claims.n) == double ? 'd' : 'i'",
    "string(claims.n)",
    "claims.n == 5 ? 'y' : 'n'",
    "claims.groups[1]",
    "claims.groups[7]",
    "claims.deep.x",
    "claims.nul == null ? 'y' : 'n'",
    "operation",
    "now > timestamp(int(claims.iat) - 60) ? 'y' : 'n'",
    "regex.replace('abc', 'b', 'x') + 'a,b'.split(',')[0]",
    "encode_json({'a': claims.n})",
    "claims.groups.exists(g, g == 'a') ? " + IN + " : 'not in'",
    "claims.groups.exists(g, g == 'z') ? " + IN + " : 'not in'",
]
