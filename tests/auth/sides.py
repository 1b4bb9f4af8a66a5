"""An auth mount on each of two servers, to send the same requests to."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.differential.sides import Side, theirs
from tests.harness.dev import DevServer


@contextmanager
def both(server: DevServer, kind: str) -> Iterator[tuple[Side, Side]]:
    """(theirs, ours), each with a new mount of the method."""
    headers = {"X-Vault-Token": server.token}
    with (
        theirs("kv") as their_kv,
        httpx.Client(
            base_url=f"{server.address}/v1/", headers=headers, trust_env=False, timeout=60
        ) as client,
    ):
        yield _side(their_kv.client, kind), _side(client, kind)


def _side(client: httpx.Client, kind: str) -> Side:
    path = f"{kind}-{secrets.token_hex(3)}"
    side = Side(client, f"auth/{path}")
    side.system("POST", f"sys/auth/{path}", {"type": kind})
    side.system("POST", "sys/policies/acl/nothing", {"policy": 'path "none" { capabilities = ["read"] }'})
    token = {"policies": ["nothing"], "no_default_policy": True}
    side.denied = side.system("POST", "auth/token/create", token)["auth"]["client_token"]
    return side
