"""The OpenID Connect provider of a namespace: a relying party that knows its issuer alone, and a person with a browser."""

from __future__ import annotations

import html
import re
import secrets
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest

from tests.harness.api import Api
from tests.harness.dev import DevServer
from tests.namespaces.tenants import Tenant, tenant

CALLBACK = "https://app.example.test/callback"
PASSWORD = "correct horse 5"
_HIDDEN = re.compile(r'<input type="hidden" name="([^"]*)" value="([^"]*)">')


@pytest.fixture
def red(api: Api) -> Tenant:
    return tenant(api)


@pytest.fixture
def blue(api: Api) -> Tenant:
    return tenant(api)


class Relying:
    """A client, and ann with a password, of a provider in a namespace. All else it has from discovery."""

    def __init__(self, server: DevServer, here: Tenant) -> None:
        self.here = here
        here.ok("POST", "sys/auth/up", {"type": "userpass"})
        policy = 'path "identity/oidc/provider/+/authorize" { capabilities = ["read", "update"] }'
        here.ok("POST", "sys/policies/acl/people", {"policy": policy})
        here.ok("POST", "auth/up/users/ann", {"password": PASSWORD, "token_policies": "people"})
        here.ok("POST", "identity/oidc/key/k", {"algorithm": "ES256", "allowed_client_ids": "*"})
        client = {"key": "k", "redirect_uris": [CALLBACK], "assignments": ["allow_all"]}
        here.ok("POST", "identity/oidc/client/app", client)
        held = here.ok("GET", "identity/oidc/client/app")
        self.client_id, self.secret = held["client_id"], held["client_secret"]
        here.ok("POST", "identity/oidc/provider/p", {"allowed_client_ids": [self.client_id]})
        self.issuer = f"{server.address}/v1/{here.path}/identity/oidc/provider/p"
        self.metadata = httpx.get(f"{self.issuer}/.well-known/openid-configuration", trust_env=False).json()

    def sign_in(self, server: DevServer, **typed: str) -> httpx.Response:
        """As a browser that was sent to the authorization endpoint; the answer to the form."""
        asked = {
            "client_id": self.client_id,
            "redirect_uri": CALLBACK,
            "response_type": "code",
            "scope": "openid",
            "state": "s",
            "nonce": "n",
        }
        with httpx.Client(base_url=server.address, trust_env=False, timeout=30) as browser:
            sent = browser.get(
                self.metadata["authorization_endpoint"], params=asked, headers={"Accept": "text/html"}
            )
            assert sent.status_code == 303, sent.text
            place = sent.headers["location"]
            assert place.startswith(f"/ui/vault/{self.here.path}/identity/oidc/provider/p/authorize?")
            shown = browser.get(place)
            hidden = {
                html.unescape(name): html.unescape(value) for name, value in _HIDDEN.findall(shown.text)
            }
            form = {"method": "userpass", "mount": "up", "username": "ann", "secret": PASSWORD}
            return browser.post(urlsplit(place).path, data={**hidden, **form, **typed})

    def exchange(self, code: str, endpoint: str = "") -> httpx.Response:
        """What the relying party does with a code."""
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "client_id": self.client_id,
            "client_secret": self.secret,
        }
        return httpx.post(
            endpoint or self.metadata["token_endpoint"], data=fields, trust_env=False, timeout=30
        )

    def verified(self, token: str) -> dict[str, Any]:
        """The claims, by the keys that the issuer publishes."""
        keys = httpx.get(self.metadata["jwks_uri"], trust_env=False).json()
        key = jwt.PyJWKSet.from_dict(keys)[jwt.get_unverified_header(token)["kid"]]
        claims: dict[str, Any] = jwt.decode(
            token, key, algorithms=["ES256"], audience=self.client_id, issuer=self.issuer
        )
        return claims


def code_of(answer: httpx.Response) -> str:
    return parse_qs(urlsplit(answer.headers["location"]).query)["code"][0]


def test_a_person_of_a_team_signs_in_at_the_teams_own_issuer(
    server: DevServer, red: Tenant, blue: Tenant, api: Api
) -> None:
    party, other = Relying(server, red), Relying(server, blue)
    assert party.metadata["issuer"] == party.issuer
    done = party.sign_in(server)
    assert done.status_code == 303, done.text
    assert done.headers["location"].startswith(f"{CALLBACK}?code=")
    # A code of one namespace is good for nothing at the other's endpoint, and is not spent there.
    elsewhere = party.exchange(code_of(done), other.metadata["token_endpoint"])
    assert (elsewhere.status_code, elsewhere.json()["error"]) == (401, "invalid_client")
    tokens = party.exchange(code_of(done)).json()
    claims = party.verified(tokens["id_token"])
    made = api.ok("GET", f"sys/namespaces/{red.path}")
    assert claims["namespace"] == made["id"]
    assert claims["sub"].endswith(f".{made['id']}")
    people = red.ok("LIST", "identity/entity/id")["keys"]
    assert claims["sub"] in people
    # The access token is the client's for this namespace: its userinfo, and no other's.
    bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
    mine = httpx.get(party.metadata["userinfo_endpoint"], headers=bearer, trust_env=False)
    assert mine.json()["sub"] == claims["sub"]
    theirs = httpx.get(other.metadata["userinfo_endpoint"], headers=bearer, trust_env=False)
    assert theirs.status_code in {401, 403}
    assert "sub" not in theirs.json()


def test_somebody_of_another_namespace_cannot_sign_in(
    server: DevServer, red: Tenant, blue: Tenant, api: Api
) -> None:
    party, other = Relying(server, red), Relying(server, blue)
    blue.ok("POST", "auth/up/users/only-blue", {"password": PASSWORD, "token_policies": "people"})
    assert party.sign_in(server, username="only-blue").status_code == 400
    token = blue.call("POST", "auth/up/login/ann", {"password": PASSWORD}, token="").json["auth"][
        "client_token"
    ]
    assert party.sign_in(server, method="token", secret=token).status_code == 400
    assert other.sign_in(server, method="token", secret=token).status_code == 303
    # Somebody from above has a right to the path, and no entity here.
    name = f"boss-{secrets.token_hex(4)}"
    api.ok("POST", f"sys/auth/{name}", {"type": "userpass"})
    reach = f'path "{red.path}/identity/oidc/provider/+/authorize" {{ capabilities = ["update"] }}'
    api.ok("POST", f"sys/policies/acl/{name}", {"policy": reach})
    api.ok("POST", f"auth/{name}/users/boss", {"password": PASSWORD, "token_policies": name})
    boss = api.call("POST", f"auth/{name}/login/boss", {"password": PASSWORD}).json["auth"]["client_token"]
    refused = party.sign_in(server, method="token", secret=boss)
    assert refused.status_code == 400
    assert "may not sign in to this service" in refused.text


def test_an_identity_token_counts_at_its_own_issuer_alone(
    server: DevServer, red: Tenant, blue: Tenant
) -> None:
    party, _ = Relying(server, red), Relying(server, blue)
    red.ok("POST", "identity/oidc/role/r", {"key": "k"})
    red.ok(
        "POST",
        "sys/policies/acl/people",
        {"policy": 'path "identity/oidc/token/r" { capabilities = ["read"] }'},
    )
    auth = red.call("POST", "auth/up/login/ann", {"password": PASSWORD}, token="").json["auth"]
    token = red.call("GET", "identity/oidc/token/r", token=auth["client_token"]).data["token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["iss"] == f"{server.address}/v1/{red.path}/identity/oidc"
    published = httpx.get(f"{claims['iss']}/.well-known/openid-configuration", trust_env=False).json()
    keys = httpx.get(published["jwks_uri"], trust_env=False).json()
    key = jwt.PyJWKSet.from_dict(keys)[jwt.get_unverified_header(token)["kid"]]
    jwt.decode(token, key, algorithms=["ES256"], audience=claims["aud"], issuer=published["issuer"])
    assert red.call("POST", "identity/oidc/introspect", {"token": token}).json["active"] is True
    for elsewhere in (blue, Tenant(red.api, "root")):
        assert elsewhere.call("POST", "identity/oidc/introspect", {"token": token}).json["active"] is False
    assert party.client_id
