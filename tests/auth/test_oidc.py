"""Logins with a browser: real providers, the real command with its local callback, four workers, and every lie."""

from __future__ import annotations

import base64
import hmac
import json
import re
import secrets
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.harness.api import Answer, Api
from tests.harness.bao import BAO, Bao
from tests.harness.dev import DevServer
from tests.harness.oidc import USER, Authlib, BaoProvider, Liar
from tests.harness.processes import free_port

HERE = "http://localhost/oidc/callback"
ROLE = {
    "role_type": "oidc",
    "user_claim": "sub",
    "allowed_redirect_uris": [HERE],
    "token_policies": "people",
    "token_ttl": "1h",
}
XSS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "';alert(1)//",
    "<svg/onload=alert(1)>",
    "javascript:alert(1)",
    "</title><script>alert(1)</script>",
    "\u003cscript\u003e",
    "<iframe srcdoc='<script>1</script>'>",
)


@pytest.fixture(scope="module")
def authlib(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authlib]:
    running = Authlib(tmp_path_factory.mktemp("authlib"))
    yield running
    running.stop()


@pytest.fixture
def liar(tmp_path: Path) -> Iterator[Liar]:
    running = Liar(tmp_path)
    yield running
    running.stop()


@dataclass
class Method:
    """The method, mounted as `oidc` and configured for a provider."""

    api: Api
    server: DevServer
    path: str

    def role(self, name: str = "people", **fields: Any) -> None:
        self.api.ok("POST", f"auth/{self.path}/role/{name}", {**ROLE, **fields})

    def begin(self, role: str = "people", redirect: str = HERE, **more: str) -> dict[str, Any]:
        body = {"role": role, "redirect_uri": redirect, **more}
        with self.server.api("") as anybody:
            return anybody.post(f"auth/{self.path}/oidc/auth_url", body).data

    def callback(self, **query: str) -> Answer:
        with self.server.api("") as anybody:
            return anybody.get(f"auth/{self.path}/oidc/callback?{httpx.QueryParams(query)}")


def _mounted(api: Api, server: DevServer, config: dict[str, Any]) -> Method:
    path = f"oidc-{secrets.token_hex(4)}"
    api.ok("POST", f"sys/auth/{path}", {"type": "oidc"})
    both = {"oidc_client_id": "client", "oidc_client_secret": "secret", "default_role": "people"}
    api.ok("POST", f"auth/{path}/config", {**both, **config})
    made = Method(api, server, path)
    made.role()
    return made


@pytest.fixture
def real(api: Api, server: DevServer, authlib: Authlib) -> Method:
    return _mounted(api, server, {"oidc_discovery_url": authlib.url})


@pytest.fixture
def lied(api: Api, server: DevServer, liar: Liar) -> Method:
    return _mounted(api, server, {"oidc_discovery_url": liar.url, "oidc_discovery_ca_pem": liar.ca})


def _query(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


# -- as its users use it -----------------------------------------------------------------------------------


def test_bao_logs_in_with_its_local_callback(
    real: Method, authlib: Authlib, server: DevServer, tmp_path: Path
) -> None:
    real.role(
        oidc_scopes="email",
        groups_claim="groups",
        claim_mappings={"department": "dept"},
        bound_claims={"department": ["payments"]},
        allowed_redirect_uris=["http://127.0.0.1/oidc/callback"],
    )
    port = free_port()
    command = [
        str(BAO),
        "login",
        "-method=oidc",
        f"-path={real.path}",
        "-no-store",
        "-format=json",
        "role=people",
    ]
    command += ["skip_browser=true", f"port={port}", "listenaddress=127.0.0.1", "callbackhost=127.0.0.1"]
    environment = Bao(server.address, "", tmp_path).environment
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
    ) as running:
        assert running.stderr is not None
        url = ""
        for line in running.stderr:
            found = re.search(r"https?://\S+", line)
            if found:
                url = found[0]
            if "Waiting" in line:
                break
        page = httpx.get(authlib.visit(url), trust_env=False, timeout=60)
        assert page.is_success
        out, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    auth = json.loads(out)["auth"]
    assert auth["metadata"] == {"dept": "payments", "role": "people"}
    assert (auth["token_policies"], auth["lease_duration"]) == (["default", "people"], 3600)
    with server.api(auth["client_token"]) as owner:
        assert owner.get("auth/token/lookup-self").data["display_name"] == f"{real.path}-ann"
        assert owner.post("auth/token/renew-self").status == 200


def test_this_server_is_a_provider_for_this_server(api: Api, server: DevServer) -> None:
    """Both halves of the protocol, each of which other implementations have tried by themselves."""
    headers = {"X-Vault-Token": server.token}
    with httpx.Client(
        base_url=f"{server.address}/v1/", headers=headers, trust_env=False, timeout=60
    ) as client:
        provider = BaoProvider(client, [HERE])
        keys = {"oidc_client_id": provider.id, "oidc_client_secret": provider.secret}
        made = _mounted(api, server, {"oidc_discovery_url": provider.url, **keys})
        made.role(user_claim="username", oidc_scopes="user")
        code, state = provider.visit(made.begin()["auth_url"])
        auth = made.callback(state=state, code=code).json["auth"]
        assert auth["metadata"] == {"role": "people"}
        code, _ = provider.visit(made.begin()["auth_url"])
        _, state = provider.visit(made.begin()["auth_url"])
        assert made.callback(state=state, code=code).status == 400, "a code of another attempt: PKCE"


def test_a_state_is_answered_once_by_four_workers(real: Method, authlib: Authlib) -> None:
    nonce = "my-nonce"
    back = _query(authlib.visit(real.begin(client_nonce=nonce)["auth_url"]))
    barrier = threading.Barrier(20)

    def one(_number: int) -> Answer:
        barrier.wait(30)
        return real.callback(state=back["state"], code=back["code"], client_nonce=nonce)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(one, range(20)))
    assert [answer.status for answer in answers].count(200) == 1
    assert {answer.status for answer in answers} == {200, 400}
    assert real.callback(state=back["state"], code=back["code"], client_nonce=nonce).errors == [
        "OpenBao login failed. Expired or missing OAuth state."
    ]


def test_a_failed_answer_spends_the_state_too(real: Method, authlib: Authlib) -> None:
    back = _query(authlib.visit(real.begin(client_nonce="mine")["auth_url"]))
    wrong = real.callback(state=back["state"], code=back["code"], client_nonce="other")
    assert (wrong.status, wrong.errors) == (400, ["invalid client_nonce"])
    assert real.callback(state=back["state"], code=back["code"], client_nonce="mine").status == 400
    back = _query(authlib.visit(real.begin()["auth_url"]))
    assert real.callback(state=back["state"], code="guessed").status == 400
    assert real.callback(state=back["state"], code=back["code"]).status == 400
    denied = _query(authlib.visit(real.begin()["auth_url"], deny=True))
    assert denied["error"] == "access_denied"


def test_a_code_belongs_to_its_attempt(real: Method, authlib: Authlib) -> None:
    """Somebody else's code in one's own attempt: another nonce."""
    theirs = _query(authlib.visit(real.begin()["auth_url"]))
    mine = _query(real.begin()["auth_url"])
    answer = real.callback(state=mine["state"], code=theirs["code"])
    assert (answer.status, answer.errors) == (400, ["Token verification failed. invalid ID token nonce."])


def test_direct_mode_confirms_and_is_fetched_once(real: Method, authlib: Authlib, server: DevServer) -> None:
    back_here = f"{server.address}/v1/auth/{real.path}/oidc/callback"
    real.role(callback_mode="direct", allowed_redirect_uris=[back_here], poll_interval=1)
    assert _errors(real, {"role": "people", "redirect_uri": back_here}) == ["missing client_nonce"]
    begun = real.begin(redirect=back_here, client_nonce="mine")
    assert begun["poll_interval"] == "1"

    def poll(nonce: str = "mine") -> Answer:
        with server.api("") as anybody:
            body = {"state": begun["state"], "client_nonce": nonce}
            return anybody.post(f"auth/{real.path}/oidc/poll", body)

    assert poll().errors == ["authorization_pending"]
    place = authlib.visit(begun["auth_url"])
    asks = httpx.get(place, trust_env=False, timeout=60)
    assert "Confirm your login" in asks.text
    assert "127.0.0.1" in asks.text
    assert "default-src 'none'" in asks.headers["content-security-policy"]
    assert poll().errors == ["authorization_pending"]
    done = httpx.get(f"{place}&confirmation=yes", trust_env=False, timeout=60)
    assert "Signed in" in done.text, done.text
    assert poll("other").errors == ["invalid client_nonce"]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: poll(), range(8)))
    assert [answer.status for answer in answers].count(200) == 1
    auth = next(answer.json["auth"] for answer in answers if answer.status == 200)
    assert auth["metadata"] == {"role": "people"}
    assert httpx.get(f"{place}&confirmation=yes", trust_env=False, timeout=60).status_code == 400


def test_form_post_goes_through_the_server(api: Api, server: DevServer, liar: Liar) -> None:
    config = {
        "oidc_discovery_url": liar.url,
        "oidc_discovery_ca_pem": liar.ca,
        "oidc_response_mode": "form_post",
    }
    for kinds in ([], ["id_token"]):
        made = _mounted(api, server, {**config, "oidc_response_types": kinds})
        url = made.begin()["auth_url"]
        assert _query(url)["response_mode"] == "form_post"
        assert ("code_challenge" in _query(url)) is not bool(kinds)
        state = liar.visit(url)
        place = f"{server.address}/v1/auth/{made.path}/oidc/callback"
        form = {"state": state, "id_token": liar.id_token()} if kinds else {"state": state, "code": "code"}
        page = httpx.post(place, data=form, trust_env=False, timeout=60)
        assert "Answer received" in page.text, page.text
        assert httpx.post(place, data=form, trust_env=False, timeout=60).status_code == 400
        assert made.callback(state=state, code="no_code").status == 200
        assert made.callback(state=state, code="no_code").status == 400
    plain = _mounted(api, server, {"oidc_discovery_url": liar.url, "oidc_discovery_ca_pem": liar.ca})
    place = f"{server.address}/v1/auth/{plain.path}/oidc/callback"
    assert httpx.post(place, data={"state": "x", "code": "y"}, trust_env=False, timeout=60).status_code == 405


# -- lies --------------------------------------------------------------------------------------------------


def _try(method: Method, liar: Liar, **fields: Any) -> Answer:
    liar.change, liar.token, liar.answer, liar.userinfo = {}, None, None, {}
    for name, value in fields.items():
        setattr(liar, name, value)
    state = liar.visit(method.begin()["auth_url"])
    return method.callback(state=state, code="code")


def test_every_lie_of_the_id_token(lied: Method, liar: Liar) -> None:
    assert _try(lied, liar).status == 200
    now = int(time.time())
    at_hash = "somebody else's"
    for change in (
        {"nonce": "another"},
        {"nonce": None},
        {"iss": "https://other.test"},
        {"aud": "another"},
        {"aud": None},
        {"aud": [1, None]},
        {"aud": ["client", "other"]},
        {"aud": ["client", "other"], "azp": "other"},
        {"azp": "other"},
        {"exp": now - 300},
        {"exp": None},
        {"exp": "soon"},
        {"exp": True},
        {"iat": now + 3600},
        {"iat": None},
        {"nbf": now + 3600},
        {"at_hash": at_hash},
        {"sub": None},
        {"sub": ""},
    ):
        answer = _try(lied, liar, change=change)
        assert answer.status == 400, change
    assert _try(lied, liar, change={"aud": ["client", "other"], "azp": "client"}).status == 200


def test_every_lie_of_the_signature(lied: Method, liar: Liar, tmp_path: Path) -> None:
    (tmp_path / "stranger").mkdir()
    stranger = Liar(tmp_path / "stranger")
    public = liar.keys["one"].public_key()

    def none(claims: dict[str, Any]) -> str:
        parts = [{"alg": "none"}, {**claims, "iat": 1, "exp": 9999999999}]
        return ".".join([*(_part(json.dumps(each)) for each in parts), ""])

    def twice(claims: dict[str, Any]) -> str:
        text = json.dumps({**claims, "iat": 1, "exp": 9999999999})[:-1] + ', "sub": "root"}'
        return jwt.api_jws.PyJWS().encode(text.encode(), liar.keys["one"], "RS256", {"kid": "one"})

    def symmetric(claims: dict[str, Any]) -> str:
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        head = _part(json.dumps({"alg": "HS256", "kid": "one"}))
        signed = f"{head}.{_part(json.dumps({**claims, 'iat': 1, 'exp': 9999999999}))}"
        return f"{signed}.{_part(hmac.digest(pem, signed.encode(), 'sha256'))}"

    def foreign(claims: dict[str, Any]) -> str:
        body = {**claims, "iat": int(time.time()), "exp": int(time.time()) + 60}
        return jwt.encode(body, stranger.keys["one"], "RS256", {"kid": "one"})

    def traversing(claims: dict[str, Any]) -> str:
        body = {**claims, "iat": int(time.time()), "exp": int(time.time()) + 60}
        return jwt.encode(body, stranger.keys["one"], "RS256", {"kid": "../../../dev/null"})

    try:
        for token in (
            none,
            twice,
            symmetric,
            foreign,
            traversing,
            lambda _claims: "x.y.z",
            lambda _claims: "",
        ):
            answer = _try(lied, liar, token=token)
            assert answer.status == 400, token
            assert "auth" not in answer.json
    finally:
        stranger.stop()
    assert _try(lied, liar).status == 200


def _part(text: str | bytes) -> str:
    raw = text.encode() if isinstance(text, str) else text
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def test_every_answer_of_the_token_endpoint(lied: Method, liar: Liar) -> None:
    answers: tuple[tuple[int, Any], ...] = (
        (500, {}),
        (302, {}),
        (200, b"no json"),
        (200, []),
        (200, {}),
        (200, b"x" * 300_000),
    )
    for answer in answers:
        assert _try(lied, liar, answer=answer).status == 400, answer
    exchanges = liar.exchanges
    state = liar.visit(lied.begin()["auth_url"])
    assert lied.callback(state=state, error="access_denied", code="code").errors == [
        "OpenBao login failed. access_denied"
    ]
    assert liar.exchanges == exchanges


def test_userinfo_adds_and_replaces_nothing(lied: Method, liar: Liar) -> None:
    lied.role(claim_mappings={"team": "team", "level": "level"})
    more = {"sub": "ann", "team": "red", "level": "root", "aud": "x"}
    good = _try(lied, liar, userinfo=more, change={"level": "low"})
    assert good.json["auth"]["metadata"] == {"role": "people", "team": "red", "level": "low"}
    other = _try(lied, liar, userinfo={**more, "sub": "eve"}, change={"level": "low"})
    assert "team" not in other.json["auth"]["metadata"]


def test_what_the_role_binds(lied: Method, liar: Liar) -> None:
    now = int(time.time())
    lied.role(max_age=60)
    assert _query(lied.begin()["auth_url"])["max_age"] == "60"
    assert _try(lied, liar, change={"auth_time": now}).status == 200
    assert _try(lied, liar, change={"auth_time": now - 600}).status == 400
    assert _try(lied, liar).status == 400
    lied.role(max_age=0, bound_subject="eve")
    assert _try(lied, liar).status == 400
    lied.role(bound_subject="", bound_claims={"team": "red"})
    assert _try(lied, liar, change={"team": "blue"}).status == 400
    assert _try(lied, liar, change={"team": "red"}).status == 200
    lied.role(bound_claims={}, bound_audiences="second")
    assert _try(lied, liar).status == 400
    assert _try(lied, liar, change={"aud": ["client", "second"], "azp": "client"}).status == 200
    lied.role(bound_audiences="", token_bound_cidrs="10.0.0.0/8")
    assert _try(lied, liar).status == 403


def test_where_the_browser_may_be_sent(lied: Method) -> None:
    lied.role(allowed_redirect_uris=["http://127.0.0.1/cb", "https://app.example.test/cb"])
    for uri, good in (
        ("http://127.0.0.1:8250/cb", True),
        ("https://app.example.test/cb", True),
        ("http://127.0.0.1:8250/cb/x", False),
        ("http://127.0.0.1:8250/cb?x=1", False),
        ("https://app.example.test:444/cb", False),
        ("https://app.example.test.evil.test/cb", False),
        ("http://u@127.0.0.1/cb", False),
        ("http://127.0.0.1:x/cb", False),
        ("http://localhost/cb", False),
        ("javascript:alert(1)", False),
    ):
        assert bool(lied.begin(redirect=uri)["auth_url"]) is good, uri
    assert _errors(lied, {"role": "people"}) == ["missing redirect_uri"]
    assert _errors(lied, {"role": "none", "redirect_uri": HERE}) == ['role "none" could not be found']


def _errors(method: Method, body: dict[str, str]) -> list[str]:
    with method.server.api("") as anybody:
        return anybody.post(f"auth/{method.path}/oidc/auth_url", body).errors


def test_nothing_that_was_sent_becomes_markup(lied: Method, liar: Liar, server: DevServer) -> None:
    """CVE-2026-33758 and its kin: error texts are never repeated, and what a page shows is escaped."""
    place = f"{server.address}/v1/auth/{lied.path}/oidc/callback"
    lied.role("direct", callback_mode="direct", allowed_redirect_uris=[place])
    for text in XSS:
        state = liar.visit(lied.begin()["auth_url"])
        answer = lied.callback(state=state, error=text, error_description=text, error_uri=text, code=text)
        assert (answer.status, answer.headers["content-type"]) == (400, "application/json")
        assert b"<" not in answer.content
        assert text.encode() not in answer.content
        state = liar.visit(lied.begin("direct", place, client_nonce="n")["auth_url"])
        asks = httpx.get(
            place, params={"state": state, "code": text, "error": text}, trust_env=False, timeout=60
        )
        assert asks.headers["content-type"] == "text/html; charset=utf-8"
        assert "script" not in asks.headers["content-security-policy"].replace("default-src 'none'", "")
        if "<" in text or '"' in text:
            assert text not in asks.text
        assert asks.headers["x-frame-options"] == "DENY"


def test_configuration_and_roles_are_checked(api: Api, lied: Method, liar: Liar) -> None:
    config = f"auth/{lied.path}/config"
    good = {"oidc_discovery_url": liar.url, "oidc_discovery_ca_pem": liar.ca}
    for body, text in (
        ({"oidc_client_id": "x"}, "both 'oidc_client_id' and"),
        ({"oidc_response_mode": "fragment"}, "invalid response_mode"),
        ({"oidc_response_types": "token"}, "invalid response_types"),
        ({"oidc_response_types": "id_token"}, "query response_mode may not"),
        ({"provider_config": {"provider": "gsuite"}}, "failed to find application default credentials"),
    ):
        answer = api.post(config, {**good, **body})
        assert answer.status == 400, body
        assert text in answer.errors[0]
    shown = api.get(config).data
    assert shown["oidc_client_id"] == "client"
    assert "secret" not in json.dumps(shown)
    role = f"auth/{lied.path}/role/x"
    for change, text in (
        ({"allowed_redirect_uris": ""}, "'allowed_redirect_uris' must be set"),
        ({"callback_mode": "x"}, "invalid 'callback_mode'"),
        ({"role_type": "saml"}, "invalid 'role_type'"),
    ):
        answer = api.post(role, {**ROLE, **change})
        assert answer.status == 400, change
        assert text in answer.errors[0]
    with lied.server.api("") as anybody:
        used = anybody.post(f"auth/{lied.path}/login", {"role": "people", "jwt": "x.y.z"})
    assert used.errors == ["role with oidc role_type is not allowed"]
    assert USER["sub"] == "ann"
