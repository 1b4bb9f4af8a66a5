"""The fields that say what a login's tokens are like, in every method, under the names of before as well."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.auth.papers import Papers
from tests.differential.sides import Request, Side, theirs
from tests.harness.api import Api
from tests.harness.dev import DevServer

OLD: tuple[dict[str, Any], ...] = (
    {"policies": "a,b"},
    {"ttl": "1h"},
    {"max_ttl": "2h"},
    {"bound_cidrs": "10.0.0.0/8"},
    {"policies": "old", "token_policies": "new"},
)
NEW: tuple[dict[str, Any], ...] = (
    {"token_bound_cidrs": ["10.1.2.3", "10.1.2.4/32", "::1", "10.0.0.0/8", "2001:db8::/64"]},
    {"token_strictly_bind_ip": True},
    {"token_bound_cidrs": [], "token_strictly_bind_ip": True},
    {"token_bound_cidrs": "10.0.0.1"},
    {"token_bound_cidrs": "10.0.0.1", "token_strictly_bind_ip": False},
    {"token_num_uses": -1},
    {"token_type": "bogus"},
    {"token_ttl": "3h"},
)
NEVER = {"approle": {"bound_cidrs", "ttl", "max_ttl"}}
"""Old names that the method did not have."""
ROLES: dict[str, tuple[str, dict[str, Any]]] = {
    "approle": ("role/r", {}),
    "userpass": ("users/r", {"password": "a long enough one"}),
    "kubernetes": ("role/r", {"bound_service_account_names": "a", "bound_service_account_namespaces": "b"}),
    "jwt": ("role/r", {"role_type": "jwt", "user_claim": "sub", "bound_audiences": "x"}),
    "cert": ("certs/r", {}),
}


@pytest.fixture(scope="module")
def sides(server: DevServer) -> Iterator[tuple[Side, Side]]:
    headers = {"X-Vault-Token": server.token}
    with (
        theirs("kv") as real,
        httpx.Client(
            base_url=f"{server.address}/v1/", headers=headers, trust_env=False, timeout=60
        ) as client,
    ):
        yield real, Side(client, "")


@pytest.mark.parametrize("kind", ROLES)
def test_every_name_means_what_it_means_to_the_real_server(
    kind: str, sides: tuple[Side, Side], papers: Papers
) -> None:
    path, fields = ROLES[kind]
    if kind == "cert":
        fields = {"certificate": papers.root.pem}
    steps = [one for one in OLD if not set(one) & NEVER.get(kind, set())]
    seen = [_walk(side, kind, path, fields, (*steps, *NEW)) for side in sides]
    for step, there, here in zip((*steps, *NEW), *seen, strict=True):
        assert here == there, f"{kind} {step}"
    assert any(shown.get("token_policies") == ["a", "b"] for _, shown in seen[1]), "the old name was heard"


def _walk(
    side: Side, kind: str, path: str, fields: dict[str, Any], steps: tuple[dict[str, Any], ...]
) -> list[tuple[int, dict[str, Any]]]:
    """(status, what the role then says of its tokens) of each step."""
    side.mount = f"auth/{kind}-{secrets.token_hex(3)}"
    side.system("POST", f"sys/{side.mount}", {"type": kind})
    seen = []
    for step in steps:
        status, _ = side.ask(Request("POST", path, {**fields, **step}))
        _, answer = side.ask(Request("GET", path))
        data = answer["data"] or {}
        seen.append((status, {name: data[name] for name in sorted(data) if name.startswith("token_")}))
    return seen


@pytest.mark.parametrize("name", ["bound_cidrs", "token_bound_cidrs"])
def test_a_network_by_its_old_name_binds(name: str, api: Api, server: DevServer) -> None:
    path = f"auth/bound-{secrets.token_hex(3)}"
    api.ok("POST", f"sys/{path}", {"type": "userpass"})
    for network, status in (("10.0.0.0/8", 403), ("127.0.0.0/8", 200)):
        api.ok("POST", f"{path}/users/ann", {"password": "p", name: network})
        with server.api("") as anybody:
            assert anybody.post(f"{path}/login/ann", {"password": "p"}).status == status
    api.ok("DELETE", f"sys/{path}")
