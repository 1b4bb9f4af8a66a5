"""Logins with tokens that a CI system signed: GitHub's and GitLab's forms, a real HTTPS issuer, and every lie."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import hvac
import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from tests.harness.api import Answer, Api
from tests.harness.bao import Bao
from tests.harness.dev import DevServer
from tests.harness.issuer import Issuer

AUDIENCE = "https://keystead.example.test"
GITHUB = {
    "sub": "repo:octo-org/octo-repo:ref:refs/heads/main",
    "aud": AUDIENCE,
    "ref": "refs/heads/main",
    "repository": "octo-org/octo-repo",
    "repository_owner": "octo-org",
    "run_id": "42",
    "runner_environment": "github-hosted",
}
GITLAB = {
    "sub": "project_path:my-group/my-project:ref_type:branch:ref:main",
    "aud": AUDIENCE,
    "project_path": "my-group/my-project",
    "namespace_id": "72",
    "ref": "main",
    "ref_protected": "true",
    "user_login": "sample-user",
}
ROLE = {
    "role_type": "jwt",
    "user_claim": "sub",
    "bound_audiences": AUDIENCE,
    "bound_claims": {"repository": "octo-org/octo-repo", "ref": ["refs/heads/main", "refs/heads/next"]},
    "claim_mappings": {"run_id": "run"},
    "token_policies": "deploy",
    "token_ttl": "10m",
}


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuer]:
    running = Issuer(tmp_path_factory.mktemp("issuer"))
    running.add("one")
    yield running
    running.stop()


@dataclass
class Method:
    """The method, mounted and configured for the issuer by discovery."""

    api: Api
    server: DevServer
    path: str

    def login(self, token: str, role: str = "ci") -> Answer:
        with self.server.api("") as anybody:
            return anybody.post(f"auth/{self.path}/login", {"role": role, "jwt": token})

    def refused(self, token: str, text: str, role: str = "ci") -> None:
        answer = self.login(token, role)
        assert answer.status == 400, answer.content
        assert text in answer.errors[0]


@pytest.fixture
def method(api: Api, server: DevServer, issuer: Issuer) -> Method:
    path = f"jwt-{secrets.token_hex(4)}"
    api.ok("POST", f"sys/auth/{path}", {"type": "jwt"})
    config = {
        "oidc_discovery_url": issuer.url,
        "oidc_discovery_ca_pem": issuer.ca,
        "bound_issuer": issuer.url,
        "default_role": "ci",
    }
    api.ok("POST", f"auth/{path}/config", config)
    api.ok("POST", f"auth/{path}/role/ci", ROLE)
    return Method(api, server, path)


def test_a_github_job_logs_in_with_hvac_and_bao(
    method: Method, issuer: Issuer, server: DevServer, bao: Bao
) -> None:
    client = hvac.Client(url=server.address)
    auth = client.auth.jwt.jwt_login("ci", issuer.sign("one", GITHUB), path=method.path)["auth"]
    assert (auth["policies"], auth["metadata"], auth["lease_duration"], auth["orphan"]) == (
        ["default", "deploy"],
        {"role": "ci", "run": "42"},
        600,
        True,
    )
    client.token = auth["client_token"]
    assert client.lookup_token()["data"]["display_name"] == f"{method.path}-{GITHUB['sub']}"
    assert client.auth.token.renew_self()["auth"]["lease_duration"] == 600
    client.adapter.close()
    told = bao("write", "-format=json", f"auth/{method.path}/login", f"jwt={issuer.sign('one', GITHUB)}")
    assert json.loads(told)["auth"]["metadata"]["role"] == "ci", "the default role"


def test_a_gitlab_job_logs_in_by_globs_and_pointers(method: Method, issuer: Issuer) -> None:
    role = {
        "role_type": "jwt",
        "user_claim": "user_login",
        "bound_audiences": [AUDIENCE],
        "bound_claims_type": "glob",
        "bound_claims": {"project_path": "my-group/*", "/nested/env": "prod*"},
    }
    method.api.ok("POST", f"auth/{method.path}/role/lab", role)
    good = {**GITLAB, "nested": {"env": "production"}}
    assert method.login(issuer.sign("one", good), "lab").status == 200
    method.refused(issuer.sign("one", GITLAB), 'claim "/nested/env" is missing', "lab")
    other = {**good, "project_path": "another/my-group/x"}
    method.refused(issuer.sign("one", other), "does not match any associated bound claim", "lab")


def test_what_the_claims_must_be(method: Method, issuer: Issuer) -> None:
    now = int(time.time())
    for changes, text in (
        ({"aud": "somebody else"}, "audience claim does not match"),
        ({"aud": [1, None]}, "audience claim does not match"),
        ({"aud": None}, "audience claim does not match"),
        ({"iss": "https://evil.example.test"}, "invalid issuer"),
        ({"exp": now - 300}, "token is expired"),
        ({"nbf": now + 3600}, "not yet valid"),
        ({"iat": now + 3600}, "not yet valid"),
        ({"exp": "soon"}, "not a number"),
        ({"exp": True}, "not a number"),
        ({"ref": "refs/heads/evil"}, "does not match any associated bound claim"),
        ({"ref": None}, 'claim "ref" is missing'),
        ({"sub": ""}, "could not be converted"),
        ({"sub": 7}, "the sub claim is not a string"),
        ({"run_id": 42}, "error converting claim"),
    ):
        method.refused(issuer.sign("one", {**GITHUB, **changes}), text)
    assert method.login(issuer.sign("one", {**GITHUB, "aud": ["x", AUDIENCE]})).status == 200
    bare = {name: value for name, value in GITHUB.items() if name != "sub"}
    method.refused(issuer.sign("one", bare), 'claim "sub" not found in token')


def _forged(header: dict[str, Any], claims: str, key: bytes = b"") -> str:
    def text(raw: bytes) -> str:
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    signed = f"{text(json.dumps(header).encode())}.{text(claims.encode())}"
    return f"{signed}.{text(hmac.digest(key, signed.encode(), 'sha256') if key else b'')}"


def test_every_lie_about_the_signature(method: Method, issuer: Issuer) -> None:
    claims = json.dumps({**GITHUB, "iss": issuer.url, "exp": int(time.time()) + 300})
    public = issuer.keys["one"].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    good = issuer.sign("one", GITHUB)
    head, body, signature = good.split(".")
    other = json.dumps({**json.loads(claims), "ref": "refs/heads/next"})
    moved = base64.urlsafe_b64encode(other.encode()).rstrip(b"=").decode()
    stranger = Issuer.__new__(Issuer)
    stranger.keys, stranger.url = {}, issuer.url
    stranger.add("one")
    twice = claims[:-1] + ', "ref": "refs/heads/main"}'
    for token in (
        _forged({"alg": "none"}, claims),
        _forged({"alg": "HS256", "kid": "one"}, claims, pem),
        _forged({"alg": "RS256", "kid": "one"}, claims),
        stranger.sign("one", GITHUB),
        f"{head}.{moved}.{signature}",
        f"{head}.{body}.{signature[:-4]}AAAA",
        f"{head}.{body}",
        f"{head}.{body}.{signature}.x",
        issuer.sign("one", GITHUB, crit=["b64"], b64=False),
        "x" * 17_000,
        jwt.api_jws.PyJWS().encode(twice.encode(), issuer.keys["one"], "RS256", {"kid": "one"}),
    ):
        method.refused(token, "error validating token: error verifying token signature")
    assert method.login(good).status == 200
    assert method.login(good).status == 200, "a token is good until it expires, as on the peer"


def test_new_keys_of_the_issuer_are_found_and_old_ones_forgotten(
    method: Method, issuer: Issuer, server: DevServer
) -> None:
    del server
    issuer.add("fresh")
    try:
        asked = len(issuer.asked)
        deadline = time.monotonic() + 30
        while method.login(issuer.sign("fresh", GITHUB)).status != 200:
            assert time.monotonic() < deadline, "each worker asks again after ten seconds"
            time.sleep(0.5)
        assert len(issuer.asked) - asked < 20, "and not for each token"
    finally:
        del issuer.keys["fresh"]


def test_where_keys_are_fetched(method: Method, issuer: Issuer, api: Api) -> None:
    config = f"auth/{method.path}/config"
    for body, text in (
        ({}, "exactly one of"),
        ({"jwks_url": issuer.url, "jwt_validation_pubkeys": ["x"]}, "exactly one of"),
        ({"jwks_url": "http://192.0.2.1/jwks"}, "no https URL"),
        ({"jwks_url": "file:///etc/passwd"}, "no https URL"),
        ({"jwks_url": "https://a@127.0.0.1/"}, "no https URL"),
        ({"jwks_url": f"{issuer.url}/jwks"}, "error checking"),
        ({"jwks_url": f"{issuer.url}/none", "jwks_ca_pem": issuer.ca}, "error checking"),
        ({"oidc_discovery_url": f"{issuer.url}/", "oidc_discovery_ca_pem": issuer.ca}, "another issuer"),
        ({"jwt_validation_pubkeys": ["no key"]}, "error parsing public key"),
        ({"jwks_url": issuer.url, "jwt_supported_algs": ["HS256"]}, "unsupported signing algorithm"),
        ({"jwks_url": issuer.url, "oidc_client_id": "x"}, "both 'oidc_client_id' and"),
        (
            {"jwks_url": issuer.url, "provider_config": {"provider": "gsuite"}},
            "failed to find application default credentials",
        ),
    ):
        answer = api.post(config, body)
        assert answer.status == 400, body
        assert text in answer.errors[0], answer.errors
    issuer.redirect = f"{issuer.url}/jwks"
    try:
        moved = api.post(config, {"jwks_url": f"{issuer.url}/moved", "jwks_ca_pem": issuer.ca})
    finally:
        issuer.redirect = ""
    assert moved.status == 400
    assert method.login(issuer.sign("one", GITHUB)).status == 200, "nothing of it was kept"
    public = issuer.keys["one"].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    api.ok("POST", config, {"jwt_validation_pubkeys": [pem.decode()], "jwt_supported_algs": ["RS256"]})
    assert method.login(issuer.sign("one", GITHUB)).status == 200, "without asking anybody"


def test_roles_are_checked(method: Method, api: Api) -> None:
    role = f"auth/{method.path}/role/other"
    for changes, text in (
        ({"role_type": "oidc"}, "'allowed_redirect_uris' must be set"),
        ({"user_claim": ""}, "a user claim must be defined"),
        ({"bound_audiences": "", "bound_claims": {}}, "at least one bound constraint"),
        ({"bound_claims": {"a": {"b": 1}}}, "must be a text"),
        ({"bound_claims_type": "regex"}, "invalid 'bound_claims_type'"),
        ({"claim_mappings": {"a": "x", "b": "x"}}, "each metadata key"),
        ({"token_policies": "root"}, "cannot create root tokens"),
    ):
        answer = api.post(role, {**ROLE, **changes})
        assert answer.status == 400, changes
        assert text in answer.errors[0]
    assert api.get(role).status == 404
    assert api.list(f"auth/{method.path}/role").data["keys"] == ["ci"]
    assert api.get(f"auth/{method.path}/role/ci").data["bound_claims"]["repository"] == "octo-org/octo-repo"
    api.ok("DELETE", f"auth/{method.path}/role/ci")
    method.refused("x.y.z", 'role "ci" could not be found')
