"""Groups that providers say in ways of their own (`provider_config`), and where an access token never goes (T-48, T-49)."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kms.errors import KmsError
from kms.identity.jwt.grouping import graph_place
from kms.identity.jwt.store import JwtConfig
from tests.harness.api import Answer, Api
from tests.harness.dev import DevServer
from tests.harness.https import Https
from tests.harness.issuer import Issuer
from tests.harness.oidc import Liar

HERE = "http://localhost/oidc/callback"
PEOPLE = {
    "role_type": "oidc",
    "user_claim": "sub",
    "groups_claim": "groups",
    "allowed_redirect_uris": [HERE],
    "bound_claims": {"groups": ["ops"]},
}
JOBS = {"role_type": "jwt", "user_claim": "sub", "groups_claim": "groups", "bound_audiences": "us"}
PLACE = "/v1.0/users/ann/getMemberObjects"


@pytest.fixture
def liar(tmp_path: Path) -> Iterator[Liar]:
    running = Liar(tmp_path)
    yield running
    running.stop()


@pytest.fixture
def issuer(tmp_path: Path) -> Iterator[Issuer]:
    (tmp_path / "issuer").mkdir()
    running = Issuer(tmp_path / "issuer")
    running.add("one")
    yield running
    running.stop()


class Method:
    """The method at a new path, with roles for people and jobs."""

    def __init__(self, api: Api, server: DevServer, config: dict[str, Any]) -> None:
        self.api, self.server, self.path = api, server, f"oidc-{secrets.token_hex(4)}"
        api.ok("POST", f"sys/auth/{self.path}", {"type": "oidc"})
        self.config = config
        self.configure()
        api.ok("POST", f"auth/{self.path}/role/people", PEOPLE)
        api.ok("POST", f"auth/{self.path}/role/jobs", JOBS)

    def configure(self, **more: Any) -> None:
        self.api.ok("POST", f"auth/{self.path}/config", {**self.config, **more})

    def job(self, token: str, role: str = "jobs") -> Answer:
        with self.server.api("") as anybody:
            return anybody.post(f"auth/{self.path}/login", {"role": role, "jwt": token})

    def person(self, liar: Liar) -> Answer:
        """Ann logs in with a browser."""
        with self.server.api("") as anybody:
            body = {"role": "people", "redirect_uri": HERE}
            url = anybody.post(f"auth/{self.path}/oidc/auth_url", body).data["auth_url"]
            return anybody.get(f"auth/{self.path}/oidc/callback?state={liar.visit(url)}&code=code")


@pytest.fixture
def azure(api: Api, server: DevServer, liar: Liar) -> Method:
    config = {"oidc_client_id": "client", "oidc_client_secret": "secret"}
    place = {"oidc_discovery_url": liar.url, "oidc_discovery_ca_pem": liar.ca}
    return Method(api, server, {**config, **place, "provider_config": {"provider": "azure"}})


def _overage(endpoint: Any, **more: Any) -> dict[str, Any]:
    sources = {"src1": {"endpoint": endpoint}}
    return {"_claim_names": {"groups": "src1"}, "_claim_sources": sources, **more}


def test_who_has_too_many_groups_for_a_token_has_them_from_graph(azure: Method, liar: Liar) -> None:
    assert azure.api.get(f"auth/{azure.path}/config").data["provider_config"] == {"provider": "azure"}
    liar.change = _overage(f"{liar.url}{PLACE}")
    liar.graph = (200, {"value": ["dev", "ops"]})
    assert azure.person(liar).status == 200
    assert liar.graphed == [(f"POST {PLACE}", "Bearer access", b'{"securityEnabledOnly": false}')]
    liar.graph = (200, {"value": ["dev"]})
    assert "does not match any associated bound claim values" in azure.person(liar).errors[0]
    liar.change = {"groups": ["ops"]}
    assert azure.person(liar).status == 200
    assert len(liar.graphed) == 2, "a token that has them is enough"
    azure.configure(provider_config={})
    liar.change = _overage(f"{liar.url}{PLACE}")
    assert azure.person(liar).status == 400
    assert len(liar.graphed) == 2, "nobody asks where it is not configured"


def test_what_graph_says_is_checked(azure: Method, liar: Liar) -> None:
    liar.change = _overage(f"{liar.url}{PLACE}")
    for answer, text in (
        ((403, {"error": "secret-text"}), "answers 403"),
        ((302, {}), "answers 302"),
        ((200, {}), "has no groups"),
        ((200, {"value": "ops"}), "has no groups"),
        ((200, ["ops"]), "not a JSON object"),
        ((200, b"ops"), "not JSON"),
        ((200, {"value": ["ops", 7]}), "could not be parsed as string"),
        ((200, {"value": ["ops"] * 1001}), "could not be converted"),
        ((200, {"value": ["ops", "x" * 1_100_000]}), "too long"),
    ):
        liar.graph = answer
        refused = azure.person(liar)
        assert refused.status == 400, answer
        assert text in refused.errors[0], refused.errors
        assert b"secret-text" not in refused.content


def test_the_access_token_goes_nowhere_else(azure: Method, liar: Liar, tmp_path: Path) -> None:
    caught: list[str] = []
    (tmp_path / "thief").mkdir()

    def steal(_method: str, path: str, _headers: Any, _body: bytes) -> tuple[int, Any]:
        caught.append(path)
        return 200, {"value": ["ops"]}

    thief = Https(tmp_path / "thief", steal)
    # One that the discovery's authority does vouch for would be asked, were it not for the host.
    azure.configure(oidc_discovery_ca_pem=liar.ca + thief.ca)
    try:
        for place in (
            f"{thief.url}{PLACE}",
            f"{liar.url}@{thief.url.removeprefix('https://')}{PLACE}",
            f"{thief.url}/?{liar.url}",
            "http://192.0.2.1/v1.0/x",
            "file:///etc/passwd",
            "https://graph.microsoft.com.evil.test/v1.0/x",
            "",
            7,
            None,
        ):
            liar.change = _overage(place)
            refused = azure.person(liar)
            assert refused.status == 400, place
            assert "unable to get claim sources" in refused.errors[0], refused.errors
        for change in (
            {},
            {"_claim_names": "x"},
            {"_claim_names": {"groups": 7}},
            {"_claim_names": {"groups": "src2"}, "_claim_sources": {"src1": {"endpoint": liar.url}}},
            {"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": liar.url}},
        ):
            liar.change = change
            assert "unable to get claim sources" in azure.person(liar).errors[0]
        # What userinfo says is not signed, and may point no further.
        liar.change, liar.userinfo = {}, {"sub": "ann", **_overage(f"{thief.url}{PLACE}")}
        assert azure.person(liar).status == 400
    finally:
        thief.stop()
    assert not caught
    assert not liar.graphed


def test_graphs_own_hosts() -> None:
    config = JwtConfig(oidc_discovery_url="https://login.microsoftonline.com/tenant/v2.0")
    moved = "https://graph.microsoft.com/v1.0/tenant/users/u/getMemberObjects"
    for said, asked in (
        ("https://graph.windows.net/tenant/users/u/getMemberObjects", moved),
        (moved, moved),
        ("https://graph.microsoftazure.us/t/u", "https://graph.microsoft.us/v1.0/t/u"),
        ("https://login.microsoftonline.com/x", "https://login.microsoftonline.com/x"),
    ):
        assert graph_place(said, config) == asked
    for said in (
        "http://graph.microsoft.com/x",
        "https://graph.microsoft.com:8443/x",
        "https://login.microsoftonline.com:444/x",
        "https://graph.windows.net.evil.test/x",
        "https://u:p@graph.windows.net/x",
    ):
        with pytest.raises(KmsError):
            graph_place(said, config)


@pytest.mark.parametrize(("provider", "said"), [("secureauth", "dev,ops,,a b"), ("ibmisam", "dev ops  a,b")])
def test_groups_in_one_text(api: Api, server: DevServer, issuer: Issuer, provider: str, said: str) -> None:
    place = {"jwks_url": f"{issuer.url}/jwks", "jwks_ca_pem": issuer.ca}
    method = Method(api, server, {**place, "provider_config": {"provider": provider}})
    api.ok("POST", f"auth/{method.path}/role/ops", {**JOBS, "bound_claims": {"groups": "ops"}})
    deep = {**JOBS, "groups_claim": "/deep/0/groups", "bound_claims": {"/deep/0/groups": "ops"}}
    api.ok("POST", f"auth/{method.path}/role/deep", deep)
    group = api.ok("POST", "identity/group", {"type": "external", "policies": ["of-ops"]})["id"]
    accessor = api.get("sys/auth").data[f"{method.path}/"]["accessor"]
    alias = {"name": "ops", "mount_accessor": accessor, "canonical_id": group}
    api.ok("POST", "identity/group-alias", alias)

    def claims(groups: Any) -> str:
        body = {"sub": f"{provider}-job", "aud": "us", "groups": groups, "deep": [{"groups": groups}]}
        return issuer.sign("one", body)

    for role in ("ops", "jobs", "deep"):
        answer = method.job(claims(said), role)
        assert answer.status == 200, answer.content
        assert answer.json["auth"]["identity_policies"] == ["of-ops"]
    for other in ("opsx", ["dev,ops a"], [said], ""):
        assert method.job(claims(other), "ops").status == 400
        assert "of-ops" not in str(method.job(claims(other)).content)
    assert method.job(claims(7)).status == 400
    method.configure(provider_config={})
    assert method.job(claims(said), "ops").status == 400, "one group of a long name"


def test_a_job_has_no_access_token(api: Api, server: DevServer, issuer: Issuer) -> None:
    place = {"oidc_discovery_url": issuer.url, "oidc_discovery_ca_pem": issuer.ca}
    method = Method(api, server, {**place, "provider_config": {"provider": "azure"}})
    asked = len(issuer.asked)
    body = {"sub": "job", "aud": "us", **_overage(f"{issuer.url}{PLACE}")}
    assert "token unavailable to call Microsoft Graph API" in method.job(issuer.sign("one", body)).errors[0]
    assert PLACE not in issuer.asked[asked:]


def test_providers_are_checked(api: Api, azure: Method) -> None:
    path = f"auth/{azure.path}/config"
    before = api.get(path).data
    for given, text in (
        ({"x": "y"}, "'provider' field not found"),
        ({"provider": 7}, "'provider' field not found"),
        ({"provider": ""}, 'provider "" not found'),
        ({"provider": "AZURE"}, 'provider "AZURE" not found'),
        ({"provider": "okta"}, 'provider "okta" not found'),
        ({"provider": "gsuite", "fetch_groups": True}, "failed to find application default credentials"),
        ({"provider": "kubernetes"}, "exactly one of"),
        ({"provider": "azure", "graph": "https://x.test"}, 'unknown member "graph"'),
    ):
        answer = api.post(path, {**azure.config, "provider_config": given})
        assert answer.status == 400, given
        assert text in answer.errors[0], answer.errors
    assert api.get(path).data == before
