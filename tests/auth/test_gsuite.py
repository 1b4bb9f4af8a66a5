"""`provider_config` gsuite: groups and schemas of Google Workspace, asked of a Google that judges each assertion (T-48, T-49)."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.harness.api import Answer, Api
from tests.harness.dev import DevServer
from tests.harness.google import ACCOUNT, ADMIN, SCOPES, Google
from tests.harness.issuer import Issuer
from tests.harness.oidc import Liar

ANN, HERE = "ann@example.test", "http://localhost/oidc/callback"
ROLE = {"role_type": "jwt", "user_claim": "email", "groups_claim": "groups", "bound_audiences": "us"}
OPS, DEV, ALL, FAR = "ops@example.test", "dev@example.test", "all@example.test", "far@other.test"


@pytest.fixture(scope="module")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Google]:
    running = Google(tmp_path_factory.mktemp("google"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuer]:
    running = Issuer(tmp_path_factory.mktemp("issuer"))
    running.add("one")
    yield running
    running.stop()


class Method:
    """The method at a new path, whose people are those of a Workspace."""

    def __init__(self, api: Api, server: DevServer, google: Google, issuer: Issuer) -> None:
        self.api, self.server, self.google, self.issuer = api, server, google, issuer
        self.path = f"jwt-{secrets.token_hex(4)}"
        api.ok("POST", f"sys/auth/{self.path}", {"type": "jwt"})
        self.role("r")

    def role(self, name: str, **more: Any) -> None:
        body = {key: value for key, value in {**ROLE, **more}.items() if value is not None}
        self.api.ok("POST", f"auth/{self.path}/role/{name}", body)

    def config(self, **settings: Any) -> dict[str, Any]:
        given = {
            "provider": "gsuite",
            "gsuite_service_account": self.google.account(),
            "gsuite_admin_impersonate": ADMIN,
            "directory_url": self.google.directory,
            **settings,
        }
        return {
            "jwks_url": f"{self.issuer.url}/jwks",
            "jwks_ca_pem": self.issuer.ca,
            "oidc_discovery_ca_pem": self.google.ca,
            "provider_config": {name: value for name, value in given.items() if value is not None},
        }

    def set(self, **settings: Any) -> None:
        self.api.ok("POST", f"auth/{self.path}/config", self.config(**settings))
        self.google.clear()

    def login(self, role: str = "r", **claims: Any) -> Answer:
        token = self.issuer.sign("one", {"email": ANN, "sub": "1", "aud": "us", **claims})
        with self.server.api("") as anybody:
            return anybody.post(f"auth/{self.path}/login", {"role": role, "jwt": token})

    def bound(self, group: str) -> bool:
        """Whether ann is in a group, as a role that wants it says."""
        name = f"b{secrets.token_hex(3)}"
        self.role(name, bound_claims={"groups": [group]})
        answer = self.login(name)
        assert answer.status == 200 or "does not match any associated bound claim" in answer.errors[0]
        return answer.status == 200


@pytest.fixture
def method(api: Api, server: DevServer, google: Google, issuer: Issuer) -> Method:
    google.groups = {ANN: [OPS, DEV, "x@example.test", FAR], OPS: [ALL], DEV: [], ALL: [OPS], FAR: []}
    google.groups["x@example.test"] = []
    google.schemas = {
        ANN: {"Job": {"title": "payments", "level": 7}, "sub": {"x": "y"}, "Hidden": {"a": "b"}}
    }
    google.answers, google.admin = {}, ADMIN
    return Method(api, server, google, issuer)


def test_groups_come_from_google_by_pages(method: Method, google: Google) -> None:
    method.set(fetch_groups=True)
    group = method.api.ok("POST", "identity/group", {"type": "external", "policies": ["of-ops"]})["id"]
    accessor = method.api.get("sys/auth").data[f"{method.path}/"]["accessor"]
    alias = {"name": OPS, "mount_accessor": accessor, "canonical_id": group}
    method.api.ok("POST", "identity/group-alias", alias)
    answer = method.login(groups=["what the token says does not count"])
    assert answer.status == 200, answer.content
    assert answer.json["auth"]["identity_policies"] == ["of-ops"]
    asked = [place for place, _ in google.asked]
    assert asked == ["POST /token", "GET /admin/directory/v1/groups", "GET /admin/directory/v1/groups"]
    assert [each.get("pageToken") for _, each in google.asked[1:]] == [None, "2"]
    assert all(each["userKey"] == ANN for _, each in google.asked[1:])
    (said,) = google.assertions
    assert said["iss"] == ACCOUNT
    assert said["sub"] == ADMIN
    assert said["aud"] == google.token_uri
    assert said["scope"].split(" ") == list(SCOPES)
    assert said["exp"] - said["iat"] == 3600
    assert abs(said["iat"] - time.time()) < 30
    assert method.bound(OPS)
    assert method.bound(FAR), "of the second page"
    assert not method.bound(ALL), "groups of groups are not asked for"


def test_groups_of_groups_as_deep_as_is_configured(method: Method, google: Google) -> None:
    chain = [f"g{number}@example.test" for number in range(5)]
    google.groups = {
        ANN: [chain[0]],
        **{each: [after] for each, after in pairwise(chain)},
    }
    google.groups[chain[-1]] = [chain[0]]
    for depth in (0, 1, 3, 9):
        method.set(fetch_groups=True, groups_recurse_max_depth=depth)
        assert [method.bound(each) for each in chain] == [at <= depth for at in range(5)]
    google.clear()
    assert method.login().status == 200
    assert len(google.asked) == 1 + 1 + 5, "a circle is walked once"
    # Also what is near by one way and far by another.
    google.groups = {
        ANN: ["a@x.test", "z@x.test", "b@x.test"],
        "a@x.test": ["b@x.test"],
        "b@x.test": ["c@x.test"],
    }
    google.groups |= {"z@x.test": [], "c@x.test": []}
    method.set(fetch_groups=True, groups_recurse_max_depth=1)
    assert method.bound("c@x.test")


def test_of_one_domain_alone(method: Method, google: Google) -> None:
    method.set(fetch_groups=True, domain="other.test")
    assert method.bound(FAR)
    assert not method.bound(OPS)
    assert {each.get("domain") for place, each in google.asked if place.startswith("GET")} == {"other.test"}


def test_custom_schemas_become_claims(method: Method, google: Google) -> None:
    plain = {"groups_claim": None, "claim_mappings": {"/Job/title": "title"}}
    method.role("plain", **plain)
    method.role("paid", **plain, bound_claims={"/Job/title": "payments"})
    method.role("other", **plain, bound_claims={"/Job/title": "sales"})
    method.role("hidden", **plain, bound_claims={"/Hidden/a": "b"})
    method.role("subject", groups_claim=None, bound_claims={"sub": "1"})
    method.set(fetch_user_info=True, user_custom_schemas="Job,sub")
    answer = method.login("paid")
    assert answer.status == 200, answer.content
    assert answer.json["auth"]["metadata"]["title"] == "payments"
    assert google.asked[1] == (
        f"GET /admin/directory/v1/users/{ANN}",
        {"projection": "custom", "customFieldMask": "Job,sub", "fields": "customSchemas"},
    )
    assert method.login("other").status == 400
    assert method.login("hidden").status == 400, "a schema that is not configured"
    assert method.login("subject").status == 200, "what is signed is not replaced"
    assert method.login("r").status == 400, "groups are not fetched, and those of a token do not count"
    method.set(fetch_user_info=True, user_custom_schemas="Job", fetch_groups=True)
    assert method.login("r").status == 200
    assert [place.rpartition("/")[2] for place, _ in google.asked] == ["token", ANN, "groups", "groups"]
    for settings in ({"fetch_user_info": True}, {"user_custom_schemas": "Job"}, {"fetch_groups": True}, {}):
        method.set(**settings)
        assert method.login("plain").status == 200
        assert not google.asked, "nobody is asked for what no role and no setting wants"
    # Whoever the token says it is, it is one name in one place.
    method.set(fetch_user_info=True, user_custom_schemas="Job")
    google.schemas = {"../groups?x=": {"Job": {"title": "t"}}}
    assert method.login("plain", email="../groups?x=").json["auth"]["metadata"]["title"] == "t"


def test_assertions_that_google_refuses(method: Method, google: Google) -> None:
    other = rsa.generate_private_key(65537, 2048)
    pem = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    for account, admin in (
        (google.account(private_key=pem), ADMIN),
        (google.account(private_key_id="key-2"), ADMIN),
        (google.account(client_email="else@project.iam.gserviceaccount.com"), ADMIN),
        (google.account(token_uri=f"{google.token_uri}?other"), ADMIN),
        (google.account(), "else@example.test"),
        (google.account(), None),
    ):
        method.set(fetch_groups=True, gsuite_service_account=account, gsuite_admin_impersonate=admin)
        refused = method.login()
        assert refused.status == 400
        assert refused.errors == ["failed to fetch groups: Google's token endpoint answers 400"]
        assert len(google.asked) == 1, "without an access token nothing is asked"


@pytest.mark.parametrize(
    "place", ["POST /token", "GET /admin/directory/v1/groups", "GET /admin/directory/v1/users"]
)
def test_what_google_says_is_checked(method: Method, google: Google, place: str) -> None:
    method.set(fetch_groups=True, fetch_user_info=True, user_custom_schemas="Job")
    assert method.login().status == 200
    answers: list[tuple[int, Any]] = [
        (403, {"error": "secret-text"}),
        (302, {}),
        (500, b""),
        (200, b"secret-text"),
        (200, ["secret-text"]),
        (200, b"x" * 1_100_000),
        (200, {"groups": "secret-text", "customSchemas": "secret-text", "access_token": 7}),
        (200, {"groups": [7], "customSchemas": {"Job": "secret-text"}, "access_token": ""}),
        (200, {"groups": [{"email": 7}], "customSchemas": [], "access_token": "x\r\nX-Evil: 1"}),
        (200, {"groups": [], "nextPageToken": 7, "customSchemas": 7}),
        (200, {"groups": [{"email": "g@x.test"}], "nextPageToken": "1", "customSchemas": {"Job": 7}}),
        (200, {"groups": [{"email": f"g{at}@x.test"} for at in range(1001)], "customSchemas": True}),
    ]
    for answer in answers:
        google.answers = {place: answer}
        google.clear()
        refused = method.login()
        if place.endswith("users") and answer[1] == answers[8][1]:
            assert refused.status == 200, "an empty list of schemas is none"
            continue
        assert refused.status == 400, answer
        assert b"secret-text" not in refused.content
        assert len(google.asked) <= 202
    google.answers = {
        place: (200, {"groups": [{}, {"email": ""}], "access_token": f"access-{google._given}"})
    }
    assert method.login().status == 200, "a group without an address is none, nor is a person without schemas"
    google.answers = {}
    assert method.login(email="nobody@example.test").status == 400
    assert method.login(email=7).status == 400
    assert method.login(email=None).status == 400
    assert method.login().status == 200


def test_nobody_of_another_name_is_asked(api: Api, method: Method, google: Google, issuer: Issuer) -> None:
    """TLS is verified, by the authority that is configured."""
    body = {**method.config(fetch_groups=True), "oidc_discovery_ca_pem": issuer.ca}
    api.ok("POST", f"auth/{method.path}/config", body)
    google.clear()
    refused = method.login()
    assert "unable to call Google's token endpoint: its certificate does not verify" in refused.errors[0]
    assert not google.asked
    pem = issuer.keys["one"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    keys = {"jwks_url": "", "jwks_ca_pem": "", "jwt_validation_pubkeys": [pem.decode()]}
    for name, status in (("127.0.0.1", 200), ("x.test", 400)):
        body = {**method.config(fetch_groups=True), **keys, "override_allowed_server_names": name}
        api.ok("POST", f"auth/{method.path}/config", body)
        answer = method.login()
        assert answer.status == status
    assert "its certificate is for none of the names that are allowed" in answer.errors[0]


def test_people_with_a_browser(
    api: Api, server: DevServer, google: Google, method: Method, tmp_path: Path
) -> None:
    liar = Liar(tmp_path)
    path = f"oidc-{secrets.token_hex(4)}"
    try:
        api.ok("POST", f"sys/auth/{path}", {"type": "oidc"})
        config = {"oidc_discovery_url": liar.url, "oidc_discovery_ca_pem": liar.ca + google.ca}
        client = {"oidc_client_id": "client", "oidc_client_secret": "secret"}
        settings = method.config(fetch_groups=True)["provider_config"]
        api.ok("POST", f"auth/{path}/config", {**config, **client, "provider_config": settings})
        bounds = {"groups_claim": "groups", "bound_claims": {"groups": [OPS]}}
        api.ok(
            "POST",
            f"auth/{path}/role/people",
            {"user_claim": "email", "allowed_redirect_uris": [HERE], **bounds},
        )
        for email, status in ((ANN, 200), ("bob@example.test", 400)):
            liar.change = {"email": email}
            google.groups["bob@example.test"] = [DEV]
            with server.api("") as anybody:
                body = {"role": "people", "redirect_uri": HERE}
                url = anybody.post(f"auth/{path}/oidc/auth_url", body).data["auth_url"]
                answer = anybody.get(f"auth/{path}/oidc/callback?state={liar.visit(url)}&code=code")
            assert answer.status == status, answer.content
    finally:
        liar.stop()


def test_settings_are_checked_and_the_key_is_never_shown(
    api: Api, server: DevServer, method: Method, google: Google
) -> None:
    path = f"auth/{method.path}/config"
    method.set(fetch_groups=True, groups_recurse_max_depth=2, domain="example.test")
    shown = api.get(path)
    assert shown.data["provider_config"] == {
        "provider": "gsuite",
        "gsuite_admin_impersonate": ADMIN,
        "directory_url": google.directory,
        "fetch_groups": True,
        "groups_recurse_max_depth": 2,
        "domain": "example.test",
    }
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505  (which is refused)
    curve = ec.generate_private_key(ec.SECP256R1())
    pems = [
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode() for key in (weak, curve)
    ]
    here = str(Path(__file__))
    for settings, text in (
        ({"gsuite_service_account": None}, "'gsuite_admin_impersonate' has no effect without"),
        (
            {"gsuite_service_account": None, "gsuite_admin_impersonate": None},
            "failed to find application default credentials",
        ),
        ({"gsuite_service_account": None, "impersonate_principal": "x"}, "failed to impersonate principal"),
        ({"iam_credentials_url": "http://192.0.2.1/"}, "is no https URL"),
        ({"impersonate_principal": "x"}, "has no effect beside"),
        ({"gsuite_service_account": here}, "no file is read"),
        ({"gsuite_service_account": "[]"}, "no JSON object"),
        ({"gsuite_service_account": google.account(type="authorized_user")}, '(expected "service_account")'),
        ({"gsuite_service_account": google.account(client_email=None)}, "client_email"),
        ({"gsuite_service_account": google.account(client_email=7)}, "are texts"),
        ({"gsuite_service_account": google.account(private_key="junk")}, "no private key in PEM"),
        ({"gsuite_service_account": google.account(private_key=pems[0])}, "no RSA key from 2048 bits on"),
        ({"gsuite_service_account": google.account(private_key=pems[1])}, "no RSA key from 2048 bits on"),
        ({"gsuite_service_account": google.account(token_uri="http://192.0.2.1/")}, "is no https URL"),
        ({"gsuite_service_account": {"type": "service_account"}}, "expected type 'string'"),
        ({"directory_url": "http://192.0.2.1/"}, "is no https URL"),
        ({"fetch_groups": "true"}, "'fetch_groups' expected type 'bool'"),
        ({"fetch_user_info": 1}, "'fetch_user_info' expected type 'bool'"),
        ({"groups_recurse_max_depth": -1}, "'gsuite_recurse_max_depth' must be a positive integer"),
        ({"groups_recurse_max_depth": "5"}, "'groups_recurse_max_depth' expected type 'int'"),
        ({"groups_recurse_max_depth": 1.5}, "'groups_recurse_max_depth' expected type 'int'"),
        ({"groups_recurse_max_depth": True}, "'groups_recurse_max_depth' expected type 'int'"),
        ({"user_custom_schemas": ["A"]}, "'user_custom_schemas' expected type 'string'"),
        ({"FETCH_GROUPS": True}, 'unknown member "FETCH_GROUPS"'),
    ):
        answer = api.post(path, method.config(**settings))
        assert answer.status == 400, settings
        assert text in answer.errors[0], answer.errors
        assert b"PRIVATE KEY" not in answer.content
    assert api.get(path).data == shown.data
    assert method.login().status == 200
    kept = json.loads(google.account())["private_key"].splitlines()[1]
    for file in (server.output, server.errors, *server.audit.rglob("*")):
        if file.is_file():
            assert kept.encode() not in file.read_bytes()
    assert kept.encode() not in shown.content
