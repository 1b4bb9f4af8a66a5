"""The OpenID Connect provider, driven by a relying party of Authlib's, and everything that it must refuse."""

from __future__ import annotations

import base64
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import hvac
import pytest
from authlib.integrations.requests_client import OAuth2Session
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.jwk import KeySet

from tests.entities.test_live import Person, World
from tests.harness.api import Answer, Api
from tests.harness.dev import DevServer

CALLBACK = "https://app.example.test/callback"
SCOPES = "openid profile groups"


@dataclass
class Party:
    """A client of a provider of its own, on the shared server."""

    world: World
    public: bool = False
    callback: str = CALLBACK
    algorithm: str = "ES256"
    metadata: dict[str, Any] = field(default_factory=dict)
    client_id: str = ""
    secret: str = ""

    @property
    def name(self) -> str:
        return f"p-{self.world.word}"

    def register(self, assignment: str = "allow_all", **more: object) -> Party:
        """Key, scopes, client and provider, as an operator makes them."""
        api, name = self.world.api, self.name
        key = {"algorithm": self.algorithm, "allowed_client_ids": "*"}
        api.ok("POST", f"identity/oidc/key/{name}", key)
        profile = '{"name": {{identity.entity.name}}, "team": {{identity.entity.metadata.team}}}'
        api.ok("POST", f"identity/oidc/scope/profile-{self.world.word}", {"template": profile})
        groups = '{"groups": {{identity.entity.groups.names}}}'
        api.ok("POST", f"identity/oidc/scope/groups-{self.world.word}", {"template": groups})
        client = {"key": name, "redirect_uris": [self.callback], "assignments": [assignment], **more}
        kind = "public" if self.public else "confidential"
        api.ok("POST", f"identity/oidc/client/{name}", {**client, "client_type": kind})
        held = api.ok("GET", f"identity/oidc/client/{name}")
        self.client_id, self.secret = held["client_id"], held.get("client_secret", "")
        provider = {
            "allowed_client_ids": [self.client_id],
            "scopes_supported": [f"profile-{self.world.word}", f"groups-{self.world.word}"],
        }
        api.ok("POST", f"identity/oidc/provider/{name}", provider)
        issuer = f"{self.world.server.address}/v1/identity/oidc/provider/{name}"
        discovered = httpx.get(f"{issuer}/.well-known/openid-configuration", trust_env=False)
        self.metadata = discovered.json()
        assert self.metadata["issuer"] == issuer
        return self

    @property
    def scopes(self) -> str:
        return f"openid profile-{self.world.word} groups-{self.world.word} unknown"

    def client(self) -> OAuth2Session:
        """A session of the relying party."""
        method = "none" if self.public else "client_secret_basic"
        session = OAuth2Session(
            self.client_id,
            self.secret or None,
            scope=self.scopes,
            redirect_uri=self.callback,
            code_challenge_method="S256",
            token_endpoint_auth_method=method,
        )
        session.trust_env = False
        return session

    def agree(self, token: str, url: str, **change: object) -> Answer:
        """What a person's agent does with the URL that it was sent to: it asks the provider, with its token."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        path = urlsplit(url).path.removeprefix("/v1/")
        with self.world.server.api(token) as mine:
            return mine.get(f"{path}?{urlencode({**query, **change})}")

    def code(self, token: str, **change: object) -> dict[str, str]:
        """A code by hand, and the fields of a good exchange."""
        verifier = secrets.token_urlsafe(48)
        asked: dict[str, Any] = {
            "client_id": self.client_id, "redirect_uri": self.callback, "response_type": "code",
            "scope": "openid", "code_challenge": verifier, "code_challenge_method": "plain", **change,
        }  # fmt: skip
        with self.world.server.api(token) as mine:
            answer = mine.post(f"identity/oidc/provider/{self.name}/authorize", asked)
        assert answer.status == 200, answer.content
        return {
            "code": answer.json["code"], "code_verifier": verifier, "redirect_uri": self.callback,
            "grant_type": "authorization_code", "client_id": self.client_id, "client_secret": self.secret,
        }  # fmt: skip

    def exchange(self, fields: dict[str, str]) -> httpx.Response:
        """One try at the token endpoint, on a connection of its own."""
        return httpx.post(self.metadata["token_endpoint"], data=fields, trust_env=False, timeout=30)


@pytest.fixture
def world(server: DevServer, api: Api) -> World:
    return World(server, api, secrets.token_hex(4))


@pytest.fixture
def bob(world: World) -> Person:
    person = world.person("bob")
    world.api.ok("POST", f"identity/entity/id/{person.entity}", {"metadata": {"team": "blue"}})
    return person


def verified(party: Party, token: dict[str, Any], nonce: str, code: str) -> dict[str, Any]:
    """The ID token's claims, as OIDC Core 3.1.3.7 wants them checked, by Authlib and joserfc."""
    keys = KeySet.import_key_set(httpx.get(party.metadata["jwks_uri"], trust_env=False).json())
    decoded = jwt.decode(token["id_token"], keys, algorithms=[party.algorithm])
    options: Any = {"iss": {"value": party.metadata["issuer"]}, "aud": {"value": party.client_id}}
    params = {
        "nonce": nonce,
        "access_token": token["access_token"],
        "client_id": party.client_id,
        "code": code,
    }
    claims = CodeIDToken(decoded.claims, decoded.header, options, params)
    claims.validate()
    return dict(claims)


@pytest.mark.parametrize("public", [False, True], ids=["confidential", "public"])
@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "ES384", "RS512"])
def test_a_relying_party_runs_the_code_flow_with_pkce(
    world: World, bob: Person, algorithm: str, *, public: bool
) -> None:
    team = f"team-{world.word}"
    world.api.ok("POST", "identity/group", {"name": team, "member_entity_ids": [bob.entity]})
    party = Party(world, public=public, algorithm=algorithm).register()
    with party.client() as client:
        verifier, nonce = secrets.token_urlsafe(48), secrets.token_hex(8)
        url, state = client.create_authorization_url(
            party.metadata["authorization_endpoint"], code_verifier=verifier, nonce=nonce
        )
        answer = party.agree(bob.token, url)
        assert answer.status == 200, answer.content
        assert answer.json["state"] == state
        redirected = f"{CALLBACK}?{urlencode(answer.json)}"
        token = client.fetch_token(
            party.metadata["token_endpoint"],
            authorization_response=redirected,
            state=state,
            code_verifier=verifier,
        )
        assert (token["token_type"], token["expires_in"]) == ("Bearer", 86_400)
        claims = verified(party, token, nonce, answer.json["code"])
        known = {"sub": bob.entity, "team": "blue", "groups": [team]}
        assert known.items() <= claims.items()
        shown = client.get(party.metadata["userinfo_endpoint"])
        assert shown.status_code == 200
        assert known.items() <= shown.json().items()
        # What it says is as it is now.
        world.api.ok("POST", f"identity/entity/id/{bob.entity}", {"metadata": {"team": "red"}})
        assert client.get(party.metadata["userinfo_endpoint"]).json()["team"] == "red"
        # The access token is good for this provider's userinfo, and for nothing else.
        with world.server.api(token["access_token"]) as held:
            for path in (
                "auth/token/lookup-self",
                "sys/mounts",
                f"identity/entity/id/{bob.entity}",
                "identity/oidc/token/x",
            ):
                assert held.get(path).status == 403
            elsewhere = held.get("identity/oidc/provider/default/userinfo")
            assert (elsewhere.status, elsewhere.json["error"]) == (401, "invalid_token")
        world.api.ok("POST", f"identity/entity/id/{bob.entity}", {"disabled": True})
        assert client.get(party.metadata["userinfo_endpoint"]).status_code == 403


def test_a_code_is_good_once_whoever_is_asked(world: World, bob: Person) -> None:
    party = Party(world).register()
    for _ in range(3):
        fields = party.code(bob.token)
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _: party.exchange(fields), range(32)))  # noqa: B023  (ends in the loop)
        assert sorted(answer.status_code for answer in answers) == [200] + [400] * 31
        refused = [answer.json() for answer in answers if answer.status_code == 400]
        assert {one["error"] for one in refused} == {"invalid_grant"}


@pytest.mark.parametrize(
    ("change", "status", "error"),
    [
        ({"code_verifier": "x" * 43}, 400, "invalid_grant"),
        ({"code_verifier": ""}, 400, "invalid_request"),
        ({"redirect_uri": "https://evil.example.test/"}, 400, "invalid_grant"),
        ({"redirect_uri": ""}, 400, "invalid_request"),
        ({"client_secret": "hvo_secret_x"}, 401, "invalid_client"),
        ({"client_secret": ""}, 401, "invalid_client"),
        ({"client_id": "nobody"}, 401, "invalid_client"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"code": "A" * 32}, 400, "invalid_grant"),
    ],
)
def test_a_bad_exchange_gets_no_token(
    world: World, bob: Person, change: dict[str, str], status: int, error: str
) -> None:
    party = Party(world).register()
    fields = party.code(bob.token)
    answer = party.exchange({**fields, **change})
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert answer.headers["cache-control"] == "no-store"
    # A client that proved itself and failed has spent the code; whoever did not, has not.
    spent = change.keys() <= {"code_verifier", "redirect_uri"}
    assert party.exchange(fields).status_code == (400 if spent else 200)


def test_a_code_is_for_its_client_and_its_provider(world: World, bob: Person) -> None:
    party = Party(world).register()
    other = Party(World(world.server, world.api, secrets.token_hex(4))).register()
    stolen = {**party.code(bob.token), "client_id": other.client_id, "client_secret": other.secret}
    answer = other.exchange(stolen)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    # The client may not use the other's provider at all.
    assert (
        httpx.post(other.metadata["token_endpoint"], data=party.code(bob.token), trust_env=False).status_code
        == 401
    )


def test_who_is_not_assigned_gets_no_code_and_no_token(world: World, bob: Person) -> None:
    name = f"a-{world.word}"
    team = world.api.ok(
        "POST", "identity/group", {"name": f"t-{world.word}", "member_entity_ids": [bob.entity]}
    )
    inner = {"name": f"o-{world.word}", "member_group_ids": [team["id"]]}
    outer = world.api.ok("POST", "identity/group", inner)["id"]
    world.api.ok("POST", f"identity/oidc/assignment/{name}", {"group_ids": [outer]})
    party = Party(world).register(name)
    eve = world.person("eve")
    asked = {
        "client_id": party.client_id,
        "redirect_uri": CALLBACK,
        "response_type": "code",
        "scope": "openid",
    }
    path = f"identity/oidc/provider/{party.name}/authorize"
    with world.server.api(eve.token) as hers:
        refused = hers.post(path, {**asked, "state": "s"})
        assert (refused.status, refused.json["error"], refused.json["state"]) == (400, "access_denied", "s")
    fields = party.code(bob.token)
    access = party.exchange(fields).json()["access_token"]
    again = party.code(bob.token)
    world.api.ok("POST", f"identity/group/id/{team['id']}", {"member_entity_ids": []})
    assert party.exchange(again).json()["error"] == "invalid_request"
    with world.server.api(access) as held:
        assert held.get(f"identity/oidc/provider/{party.name}/userinfo").status == 403


def test_redirects_are_compared_letter_by_letter_but_for_loopback_ports(world: World, bob: Person) -> None:
    party = Party(world).register(redirect_uris=[CALLBACK, "http://127.0.0.1/cb?x=1"])
    path = f"identity/oidc/provider/{party.name}/authorize"
    asked = {"client_id": party.client_id, "response_type": "code", "scope": "openid"}
    with world.server.api(bob.token) as mine:
        for uri, good in (
            (CALLBACK, True), (f"{CALLBACK}/", False), (f"{CALLBACK}?a=b", False), (CALLBACK.upper(), False),
            ("https://app.example.test:443/callback", False), ("https://app.example.test@evil.test/callback", False),
            ("http://127.0.0.1:8765/cb?x=1", True), ("http://127.0.0.1:8765/cb", False),
            ("https://127.0.0.1:8765/cb?x=1", False), ("http://localhost:8765/cb?x=1", False),
            ("http://user@127.0.0.1:1/cb?x=1", False), ("http://127.0.0.1.evil.test/cb?x=1", False),
            ("javascript:alert(1)", False), ("http://[::1/cb", False),
        ):  # fmt: skip
            assert mine.post(path, {**asked, "redirect_uri": uri}).status == (200 if good else 400), uri


def test_a_public_client_must_use_pkce_and_has_no_tokens_of_its_own(world: World, bob: Person) -> None:
    party = Party(world, public=True).register(client_credentials=True)
    path = f"identity/oidc/provider/{party.name}/authorize"
    asked = {
        "client_id": party.client_id,
        "redirect_uri": CALLBACK,
        "response_type": "code",
        "scope": "openid",
    }
    with world.server.api(bob.token) as mine:
        answer = mine.post(path, asked)
    assert (answer.status, answer.json["error_description"]) == (400, "PKCE is required for public clients")
    own = party.exchange(
        {"grant_type": "client_credentials", "client_id": party.client_id, "scope": "openid"}
    )
    assert (own.status_code, own.json()["error"]) == (401, "invalid_client")


def test_a_client_gets_a_token_for_itself(world: World) -> None:
    party = Party(world).register(client_credentials=True)
    with party.client() as client:
        token = client.fetch_token(
            party.metadata["token_endpoint"], grant_type="client_credentials", scope="openid"
        )
    keys = KeySet.import_key_set(httpx.get(party.metadata["jwks_uri"], trust_env=False).json())
    claims = jwt.decode(token["access_token"], keys, algorithms=["ES256"]).claims
    assert (claims["sub"], claims["aud"]) == (party.client_id, party.client_id)
    assert "id_token" not in token


def test_max_age_asks_how_long_ago_the_login_was(world: World, bob: Person) -> None:
    party = Party(world).register()
    fields = party.code(bob.token, max_age=3600)
    payload = party.exchange(fields).json()["id_token"].split(".")[1]
    assert b'"auth_time":' in base64.urlsafe_b64decode(payload + "==")


def test_a_removed_client_is_nobody(world: World, bob: Person) -> None:
    party = Party(world).register()
    fields = party.code(bob.token)
    access = party.exchange(fields).json()["access_token"]
    pending = party.code(bob.token)
    world.api.ok("DELETE", f"identity/oidc/client/{party.name}")
    assert party.exchange(pending).json()["error"] == "invalid_client"
    with world.server.api(access) as held:
        assert held.get(f"identity/oidc/provider/{party.name}/userinfo").status == 403


def test_hvac_reads_what_a_provider_publishes(world: World, root: hvac.Client) -> None:
    party = Party(world).register()
    base = f"/v1/identity/oidc/provider/{party.name}/.well-known"
    assert root.adapter.get(f"{base}/openid-configuration")["issuer"] == party.metadata["issuer"]
    assert len(root.adapter.get(f"{base}/keys")["keys"]) == 2
