"""An act of random requests."""

from __future__ import annotations

import random

from tests.namespaces.play import Play
from tests.namespaces.sides import PLACES

GENERATED = 1_000
SEED = 20_260
ALL, READ = ("GET", "POST", "PUT", "DELETE"), ("GET",)
# Paths, and verbs that both servers know for them and that leave later requests what they are about.
PATHS = {
    "transit/keys/k": READ,
    "transit/keys/nothing": READ,
    "transit/keys": ("LIST",),
    "transit/encrypt/k": ("POST", "PUT"),
    "kid/transit/keys/k": READ,
    "t1/transit/encrypt/k": ("POST",),
    "t1/kid/sys/mounts/transit": READ,
    "sys/mounts/transit": ("GET", "POST"),
    "sys/mounts/nothing": READ,
    "sys/auth/up": ("GET", "POST"),
    "sys/policies/acl/own": READ,
    "sys/policies/acl": ("LIST",),
    "sys/policies/password/nothing": ("GET", "DELETE"),
    "sys/namespaces/kid": READ,
    "sys/namespaces": ("LIST",),
    "sys/leases/lookup/auth": ("LIST",),
    "sys/leases/count?type=irrevocable": READ,
    "sys/internal/ui/resultant-acl": READ,
    "sys/internal/ui/mounts/transit": READ,
    "sys/locked-users": READ,
    "auth/token/lookup-self": READ,
    "auth/token/roles": ("LIST",),
    "auth/token/roles/drawn": ALL,
    "auth/token/accessors": ("LIST",),
    "auth/up/users/ann": READ,
    "auth/up/users": ("LIST",),
    "identity/entity/name/drawn": ALL,
    "identity/entity/id": ("LIST",),
    "identity/group/name/drawn": ALL,
    "identity/group/name": ("LIST",),
    "identity/oidc/key": ("LIST",),
    "identity/oidc/scope/drawn": ALL,
    "identity/mfa/login-enforcement": ("LIST",),
    "cubbyhole/x": ALL,
    "nothing/at/all": ALL,
}
# What is sent with a write; both servers pass over the names that they do not know.
BODIES = {
    "sys/mounts/transit": {"type": "transit"},
    "sys/auth/up": {"type": "userpass"},
    "cubbyhole/x": {"a": "b"},
}
DRAWN = (
    "own",
    "all",
    "default",
    'path "kid/*" { capabilities = ["read", "list"] }',
    'path "+/transit/*" { capabilities = ["read", "list", "update"] }',
    'path "t1/*" { capabilities = ["read", "list"] }\npath "t1/kid/*" { capabilities = ["deny"] }',
    'path "transit/*" { capabilities = ["read"] }\npath "sys/+/transit" { capabilities = ["read", "sudo"] }',
)


def drawn(play: Play) -> None:
    """Random requests: any token, in any namespace, by header, by path or by both."""
    side, chance = play.side, random.Random(SEED)
    tokens: list[tuple[str, str]] = []
    for ns in PLACES:
        for number, policy in enumerate(DRAWN):
            name = policy if " " not in policy else f"drawn-{number}"
            if name != policy:
                side.ok("PUT", f"sys/policies/acl/{name}", {"policy": policy}, ns=ns)
            tokens.append((f"{name} of {ns or '-'}", side.token(ns, name)["client_token"]))
    for _ in range(GENERATED):
        who, token = chance.choice(tokens)
        path, ns = chance.choice([*PATHS]), chance.choice(PLACES)
        verb = chance.choice(PATHS[path])
        header, within = ns, path
        if ns and chance.random() < 0.5:
            header, _, last = ns.rpartition("/")
            within = f"{last}/{path}"
        body = BODIES.get(path, {"plaintext": "YQ=="}) if verb in {"POST", "PUT"} else None
        status, _ = side.call(verb, within, body, token=token, ns=header)
        play.told.append((f"{verb} {within} in {header or '-'} by {who}", status))
