"""Where keys and groups come from, at our server and at the real one: `jwks_pairs`, allowed names, `provider_config`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.auth.shapes import form
from tests.auth.sides import both
from tests.differential.rules import Comparison, load
from tests.differential.sides import Request, Side
from tests.harness.dev import DevServer
from tests.harness.issuer import Issuer
from tests.harness.oidc import Liar

ALLOWED = Path(__file__).parent / "jwt_sources_allowed.toml"
ALLOWED_GROUPS = Path(__file__).parent / "oidc_groups_allowed.toml"
HERE = "http://127.0.0.1/cb"
PLACE = "/v1.0/users/ann/getMemberObjects"
JOBS = {"role_type": "jwt", "user_claim": "sub", "groups_claim": "groups", "bound_audiences": "us"}
GROUPS: tuple[Any, ...] = (
    "a,b", "a b", "a", ["a", "b c"], ["a,b"], "a,,b", ",", " a  b ", "", 7, None, {"x": 1}, [1], [],
)  # fmt: skip
PROVIDERS: tuple[dict[str, Any], ...] = (
    {},
    {"x": "y"},
    {"provider": ""},
    {"provider": 7},
    {"provider": "none"},
    {"provider": "AZURE"},
    {"provider": "azure", "extra": "1"},
    {"provider": "gsuite"},
    {"provider": "gsuite", "gsuite_service_account": "{}"},
    {"provider": "kubernetes"},
    {"provider": "ibmisam"},
    {"provider": "secureauth"},
    {"provider": "azure"},
)


@pytest.fixture
def issuers(tmp_path: Path) -> Iterator[tuple[Issuer, Issuer]]:
    """One with a certificate for its address, and one with a certificate for a name."""
    (tmp_path / "plain").mkdir()
    (tmp_path / "named").mkdir()
    made = Issuer(tmp_path / "plain"), Issuer(tmp_path / "named", "keys.example.test")
    for issuer in made:
        issuer.add("one")
    yield made
    for issuer in made:
        issuer.stop()


@pytest.fixture
def liar(tmp_path: Path) -> Iterator[Liar]:
    running = Liar(tmp_path)
    yield running
    running.stop()


def _place(issuer: Issuer) -> dict[str, str]:
    return {"jwks_url": f"{issuer.url}/jwks", "jwks_ca_pem": issuer.ca}


@pytest.mark.slow
def test_sources_get_the_real_servers_answers(server: DevServer, issuers: tuple[Issuer, Issuer]) -> None:
    plain, named = issuers
    compared = Comparison(load(ALLOWED))
    with both(server, "jwt") as (theirs, ours):

        def ask(verb: str, path: str, body: Any = None, what: str = "minimal") -> None:
            request = Request(verb, path, body, what=what)
            answers = [(status, form(found)) for status, found in (theirs.ask(request), ours.ask(request))]
            compared.add(Request(verb, path, what=what), *answers)

        ask("POST", "role/r", JOBS)
        ask("POST", "role/b", {**JOBS, "bound_claims": {"groups": "b"}})
        place = _place(plain)
        ask("POST", "config", {"jwks_pairs": [place]}, "pairs")
        ask("POST", "config", {**place, "jwks_pairs": [_place(named)]}, "pairs and url")
        ask("POST", "config", {"jwks_pairs": [place], "oidc_discovery_url": plain.url}, "pairs and url")
        for what, names in (
            ("name: none", ""),
            ("name: its own", "keys.example.test"),
            ("name: one of two", ["x.test", "KEYS.example.test"]),
            ("name: another", "x.test"),
        ):
            for body in (
                _place(named),
                {"oidc_discovery_url": named.url, "oidc_discovery_ca_pem": named.ca},
                {**_place(named), "jwks_ca_pem": plain.ca},
            ):
                wrong = ", another CA" if body.get("jwks_ca_pem") == plain.ca else ""
                ask("POST", "config", {**body, "override_allowed_server_names": names}, what + wrong)
        ask("POST", "config", {**place, "override_allowed_server_names": "127.0.0.1"}, "name: address")
        ask("GET", "config", what="name: address")
        for given in PROVIDERS:
            shown = f"provider {given}"
            ask("POST", "config", {**place, "provider_config": given}, shown)
        ask("GET", "config", what="provider azure")
        for provider in ("secureauth", "ibmisam", "azure"):
            ask(
                "POST", "config", {**place, "provider_config": {"provider": provider}}, f"provider {provider}"
            )
            for groups in GROUPS:
                claims = {"sub": "x", "aud": "us", "groups": groups}
                if groups is None:
                    del claims["groups"]
                token = plain.sign("one", claims)
                for role in ("r", "b"):
                    ask("POST", "login", {"role": role, "jwt": token}, f"{role}, {provider}: {groups!r}")
    print(compared.report())
    assert not compared.different, "\n".join(compared.different[:40])
    assert not compared.unused, compared.unused
    assert compared.requests >= 110


def _logins(side: Side, liar: Liar) -> Iterator[tuple[str, tuple[int, Any]]]:
    """How people with too many groups fare."""

    def login(role: str) -> tuple[int, Any]:
        begun = side.ask(Request("POST", "oidc/auth_url", {"role": role, "redirect_uri": HERE}))
        state = liar.visit(begun[1]["data"]["auth_url"])
        return side.ask(Request("GET", "oidc/callback", {"state": state, "code": "code"}))

    names = {"_claim_names": {"groups": "src1"}}
    far = {**names, "_claim_sources": {"src1": {"endpoint": f"{liar.url}{PLACE}"}}}
    changes: tuple[tuple[str, dict[str, Any]], ...] = (
        ("in the token", {"groups": ["a", "b"]}),
        ("in Graph", far),
        ("in both", {**far, "groups": ["a"]}),
        ("nowhere", {}),
        ("no source", names),
        ("no endpoint", {**names, "_claim_sources": {"src1": {}}}),
        ("another source", {**names, "_claim_sources": {"src2": {"endpoint": f"{liar.url}{PLACE}"}}}),
    )
    graphs: tuple[tuple[int, Any], ...] = (
        (200, {"value": ["a", "b"]}),
        (200, {"value": []}),
        (200, {"value": [7]}),
        (200, {"value": "a"}),
        (200, b"no JSON"),
        (403, {"error": "no"}),
    )
    for what, change in changes:
        for graph in graphs if what == "in Graph" else graphs[:1]:
            liar.change, liar.graph = change, graph
            for role in ("r", "b"):
                yield f"{role}, {what}, {graph}", login(role)


@pytest.mark.slow
def test_groups_in_graph_get_the_real_servers_answers(server: DevServer, liar: Liar) -> None:
    compared = Comparison(load(ALLOWED_GROUPS))
    role = {"user_claim": "sub", "groups_claim": "groups", "allowed_redirect_uris": [HERE]}
    with both(server, "oidc") as (theirs, ours):
        for side in (theirs, ours):
            config = {"oidc_discovery_url": liar.url, "oidc_discovery_ca_pem": liar.ca}
            client = {"oidc_client_id": "client", "oidc_client_secret": "secret"}
            body = {**config, **client, "provider_config": {"provider": "azure"}}
            assert side.ask(Request("POST", "config", body))[0] == 204
            side.ask(Request("POST", "role/r", role))
            side.ask(Request("POST", "role/b", {**role, "bound_claims": {"groups": "b"}}))
        asked = []
        pairs = []
        for side in (theirs, ours):
            liar.graphed.clear()
            pairs.append(list(_logins(side, liar)))
            asked.append(list(liar.graphed))
        for (what, their_answer), (_, our_answer) in zip(*pairs, strict=True):
            request = Request("GET", "oidc/callback", what=what)
            compared.add(
                request, (their_answer[0], form(their_answer[1])), (our_answer[0], form(our_answer[1]))
            )
    print(compared.report())
    assert asked[0] == asked[1], "both ask Graph the same"
    assert len(asked[0]) == 12
    assert not compared.different, "\n".join(compared.different[:40])
    assert not compared.unused, compared.unused
