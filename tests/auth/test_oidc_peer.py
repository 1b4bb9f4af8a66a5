"""Logins with a browser at our server and at the real one, both by the provider that is inside the real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.auth.shapes import form
from tests.auth.sides import both
from tests.differential.rules import Comparison, load
from tests.differential.sides import DENIED, Request, Side
from tests.harness.dev import DevServer
from tests.harness.oidc import BaoProvider

ALLOWED = Path(__file__).parent / "oidc_allowed.toml"
HERE = "http://127.0.0.1/cb"
THERE = "https://app.example.test/cb"
ROLE: dict[str, Any] = {
    "user_claim": "username",
    "allowed_redirect_uris": [HERE, THERE],
    "oidc_scopes": "user",
}


def _configs(url: str, client: str, secret: str) -> Iterator[dict[str, Any]]:
    good = {"oidc_discovery_url": url, "oidc_client_id": client, "oidc_client_secret": secret}
    yield from ({}, {"oidc_client_id": "x"}, {**good, "oidc_client_secret": ""})
    yield {**good, "jwks_url": "https://x.test"}
    yield {"jwks_url": "https://127.0.0.1:1/x", "oidc_client_id": "x", "oidc_client_secret": "y"}
    for more in (
        {"oidc_response_mode": "x"},
        {"oidc_response_types": "x"},
        {"oidc_response_types": "id_token"},
        {"oidc_discovery_url": f"{url}/none"},
        {"oidc_discovery_url": f"{url}/none", "skip_jwks_validation": True},
        {"jwt_supported_algs": "HS256"},
        {"jwt_supported_algs": "RS256,ES256", "default_role": "People"},
    ):
        yield {**good, **more}
    yield {**good, "default_role": "people"}


ROLES: tuple[dict[str, Any], ...] = (
    {},
    {"user_claim": "sub"},
    {**ROLE, "user_claim": ""},
    {**ROLE, "role_type": "x"},
    {**ROLE, "role_type": "jwt"},
    {**ROLE, "callback_mode": "x"},
    {**ROLE, "bound_claims_type": "x"},
    {**ROLE, "claim_mappings": {"a": "role"}},
    {**ROLE, "token_ttl": "2h", "token_max_ttl": "1h"},
    {**ROLE, "max_age": "1h", "poll_interval": 3, "verbose_oidc_logging": True},
    {**ROLE, "max_age": 0, "poll_interval": 0, "verbose_oidc_logging": False, "token_policies": "p"},
)


def _shape(document: Any) -> Any:
    """`form`, and of an authorization URL what is asked there."""
    if isinstance(document, dict) and (document.get("data") or {}).get("auth_url"):
        asked = parse_qs(urlsplit(document["data"]["auth_url"]).query)
        varying = {"state", "nonce", "code_challenge"}
        shown = {name: "..." if name in varying else values for name, values in sorted(asked.items())}
        shown["scope"] = sorted(asked["scope"][0].split())
        document = {**document, "data": {**document["data"], "auth_url": shown}}
        if "state" in document["data"]:
            document["data"]["state"] = "..."
    return form(document)


def _logins(side: Side, provider: BaoProvider) -> Iterator[tuple[str, tuple[int, Any]]]:
    """What each way to finish an attempt is answered."""

    def begin(role: str = "people", **more: str) -> tuple[str, str]:
        request = Request("POST", "oidc/auth_url", {"role": role, "redirect_uri": HERE, **more})
        return provider.visit(side.ask(request)[1]["data"]["auth_url"])

    def finish(**query: str) -> tuple[int, Any]:
        return side.ask(Request("GET", "oidc/callback", query))

    code, state = begin()
    yield "good", finish(code=code, state=state)
    yield "again", finish(code=code, state=state)
    code, state = begin()
    yield "other code", finish(code="guessed", state=state)
    code, state = begin(client_nonce="mine")
    yield "no nonce", finish(code=code, state=state)
    code, state = begin(client_nonce="mine")
    yield "other nonce", finish(code=code, state=state, client_nonce="x")
    code, state = begin(client_nonce="mine")
    yield "nonce", finish(code=code, state=state, client_nonce="mine")
    code, _ = begin()
    _, state = begin()
    yield "other attempt's code", finish(code=code, state=state)
    for error in ("access_denied", "ACCESS_DENIED ", "<script>"):
        _, state = begin()
        yield error, finish(error=error, error_description="<b>", state=state)
    _, state = begin()
    yield "nothing", finish(state=state)
    code, state = begin("mapped")
    yield "mapped", finish(code=code, state=state)
    code, state = begin("bound")
    yield "bound", finish(code=code, state=state)
    code, state = begin("missing")
    yield "missing", finish(code=code, state=state)
    yield "form_post", side.ask(Request("POST", "oidc/callback", {"state": state, "code": code}))
    yield "poll", side.ask(Request("POST", "oidc/poll", {"state": state}))


@pytest.mark.slow
def test_requests_get_the_real_servers_answers(server: DevServer) -> None:
    compared = Comparison(load(ALLOWED))
    with both(server, "oidc") as (theirs, ours):
        provider = BaoProvider(theirs.client, [HERE, THERE])

        def ask(verb: str, path: str, body: Any = None, what: str = "minimal", token: str = "") -> None:
            request = Request(verb, path, body, what=what, token=token)
            answers = [(status, _shape(found)) for status, found in (theirs.ask(request), ours.ask(request))]
            compared.add(request, *answers)

        ask("POST", "oidc/auth_url", {"role": "x", "redirect_uri": HERE})
        ask("GET", "oidc/callback", {"state": "x"})
        for body in _configs(provider.url, provider.id, provider.secret):
            ask("POST", "config", body)
        ask("GET", "config")
        ask("GET", "config", token=DENIED)
        for body in ROLES:
            ask("POST", "role/people", body)
            ask("GET", "role/people")
        for name, more in (
            ("mapped", {"claim_mappings": {"username": "who"}}),
            ("bound", {"bound_claims": {"username": "eve"}}),
            ("missing", {"user_claim": "none"}),
            ("direct", {"callback_mode": "direct", "poll_interval": 7}),
            ("aged", {"max_age": 90, "oidc_scopes": "user,openid"}),
        ):
            ask("POST", f"role/{name}", {**ROLE, **more})
        for body in (
            {},
            {"role": "none", "redirect_uri": HERE},
            {"redirect_uri": HERE},
            {"role": "PEOPLE", "redirect_uri": "http://127.0.0.1:9/cb"},
            {"role": "people", "redirect_uri": "http://127.0.0.1:9/cb/"},
            {"role": "people", "redirect_uri": THERE},
            {"role": "people", "redirect_uri": "https://app.example.test:1/cb"},
            {"role": "direct", "redirect_uri": HERE},
            {"role": "direct", "redirect_uri": HERE, "client_nonce": "n"},
            {"role": "aged", "redirect_uri": HERE},
        ):
            ask("POST", "oidc/auth_url", body)
        ask("POST", "login", {"role": "people", "jwt": "x.y.z"})
        pairs = zip(_logins(theirs, provider), _logins(ours, provider), strict=True)
        for (what, (their_status, their_body)), (_, (our_status, our_body)) in pairs:
            request = Request("GET", "oidc/callback", what=what)
            compared.add(request, (their_status, _shape(their_body)), (our_status, _shape(our_body)))
    print(compared.report())
    assert not compared.different, "\n".join(compared.different[:20])
    assert not compared.unused, compared.unused
    assert compared.requests >= 60
    assert json.dumps(ROLE)
