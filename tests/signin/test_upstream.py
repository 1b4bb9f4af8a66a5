"""Signing in for another service at yet another provider: there, back, and what must not come back (T-59b)."""

from __future__ import annotations

import html
import re
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pyotp
import pytest
from playwright.sync_api import Page

from kms.clock import SystemClock
from kms.http.signin import SignIn
from kms.http.vault.route import Rendered
from kms.sensitive import Sensitive
from tests.entities.test_live import World
from tests.harness.api import Api
from tests.harness.dev import DevServer
from tests.harness.oidc import Authlib, Liar
from tests.namespaces.tenants import tenant
from tests.namespaces.test_provider import Relying, code_of
from tests.signin.conftest import Elsewhere
from tests.signin.desk import Desk

_ONWARD = re.compile(r'<a id="onward" rel="noreferrer" href="([^"]*)">')
OVER = "is over, or began in another browser"


@pytest.fixture
def liar(tmp_path: Path) -> Iterator[Liar]:
    running = Liar(tmp_path)
    yield running
    running.stop()


@dataclass
class Trip:
    """A person's way, without a browser: the desk, and the method `oidc` with the liar behind it."""

    desk: Desk
    liar: Liar
    mount: str
    role: dict[str, Any]

    def configure(self, **more: Any) -> None:
        client = {"oidc_client_id": "client", "oidc_client_secret": "secret", "default_role": "people"}
        config = {"oidc_discovery_url": self.liar.url, "oidc_discovery_ca_pem": self.liar.ca, **client}
        self.desk.world.api.ok("POST", f"auth/{self.mount}/config", {**config, **more})

    def set_role(self, **more: Any) -> None:
        self.desk.world.api.ok("POST", f"auth/{self.mount}/role/people", {**self.role, **more})

    @property
    def callback(self) -> str:
        return f"/ui/vault/auth/{self.mount}/oidc/callback"

    def sent(self, browser: httpx.Client, **change: str) -> httpx.Response:
        """The answer to the form."""
        page = browser.get(self.desk.place, params=self.desk.asked()).text
        form = {"method": "oidc", "mount": self.mount, "username": "", "secret": "", **change}
        return browser.post(self.desk.place, data=self.desk.filled(page, **form))

    def begun(self, browser: httpx.Client, **change: str) -> str:
        """The state that went to the provider."""
        answer = self.sent(browser, **change)
        assert answer.status_code == 200, answer.text
        return self.liar.visit(onward(answer))

    def exchanges(self) -> int:
        """How many codes the provider was shown."""
        return self.liar.exchanges

    def back(self, browser: httpx.Client, **query: str) -> httpx.Response:
        return browser.get(self.callback, params=query)


def onward(answer: httpx.Response) -> str:
    """Where the page leads."""
    found = _ONWARD.search(answer.text)
    assert found, answer.text
    return html.unescape(found[1])


@pytest.fixture
def trip(server: DevServer, api: Api, liar: Liar) -> Trip:
    desk = Desk.of(World(server, api, secrets.token_hex(4)))
    mount = f"oidc-{desk.world.word}"
    api.ok("POST", f"sys/auth/{mount}", {"type": "oidc"})
    here = f"{server.address}/ui/vault/auth/{mount}/oidc/callback"
    made = Trip(
        desk, liar, mount, {"user_claim": "sub", "allowed_redirect_uris": [here], "token_policies": "default"}
    )
    made.configure()
    made.set_role()
    return made


def test_a_person_goes_there_and_comes_back(
    server: DevServer, api: Api, elsewhere: Elsewhere, page: Page, tmp_path: Path
) -> None:
    """By another name of this machine, so that the provider is another site and its answer comes from there."""
    upstream = Authlib(tmp_path)
    desk = Desk.of(World(server, api, secrets.token_hex(4)), f"{elsewhere.url}/callback")
    address = server.address.replace("127.0.0.1", "localhost")
    mount = f"oidc-{desk.world.word}"
    api.ok("POST", f"sys/auth/{mount}", {"type": "oidc"})
    client = {"oidc_client_id": "client", "oidc_client_secret": "secret"}
    api.ok("POST", f"auth/{mount}/config", {"oidc_discovery_url": upstream.url, **client})
    here = f"{address}/ui/vault/auth/{mount}/oidc/callback"
    role = {"user_claim": "sub", "allowed_redirect_uris": [here], "token_policies": "default"}
    api.ok("POST", f"auth/{mount}/role/people", role)
    api.ok("POST", f"identity/oidc/provider/{desk.party.name}", {"issuer": address})
    asked = desk.asked()
    try:
        page.goto(f"{address}{desk.url(asked)}")
        page.select_option("#method", "oidc")
        page.fill("#mount", mount)
        page.fill("#username", "people")
        page.click("button")
        page.wait_for_selector("#onward")
        assert urlsplit(upstream.url).netloc == page.inner_text("p b")
        assert page.evaluate("document.scripts.length") == 0
        page.click("#onward")
        page.wait_for_url(f"{upstream.url}/**")
        query = parse_qs(urlsplit(page.url).query)
        assert query["code_challenge_method"] == ["S256"]
        assert query["redirect_uri"] == [here]
        assert len(query["state"][0]) > 40
        assert "ann" not in page.url
        page.fill("input[name=sub]", "ann")
        page.click("button[type=submit], input[type=submit]")
        page.wait_for_url(f"{elsewhere.url}/callback?*")
        assert f"state={asked['state']}" in page.url
        found = httpx.post(
            f"{server.address}/v1/identity/oidc/provider/{desk.party.name}/token",
            data={
                "grant_type": "authorization_code",
                "code": parse_qs(urlsplit(page.url).query)["code"][0],
                "redirect_uri": desk.party.callback,
                "client_id": desk.party.client_id,
                "client_secret": desk.party.secret,
                "code_verifier": asked["code_challenge"],
            },
            trust_env=False,
            timeout=30,
        )
        assert found.status_code == 200, found.text
        assert not [each for each in page.context.cookies() if "keystead" in each.get("name", "")]
    finally:
        upstream.stop()


def test_an_answer_counts_once_and_in_the_browser_that_began(trip: Trip) -> None:
    desk = trip.desk
    with desk.browser() as browser, desk.browser() as other:
        state = trip.begun(browser)
        # Another browser has no trip, or another one: its person would be signed in as somebody else.
        assert OVER in trip.back(other, state=state, code="code").text
        theirs = trip.begun(other)
        assert OVER in trip.back(other, state=state, code="code").text
        assert OVER in trip.back(browser, state=theirs, code="code").text
        for wrong in ({}, {"state": ""}, {"state": "st_x", "code": "code"}, {"code": "code"}):
            answer = trip.back(browser, **wrong)
            assert (answer.status_code, OVER in answer.text) == (400, True)
            assert "set-cookie" not in answer.headers, "a stranger's answer does not end the trip"
        assert (
            browser.get(trip.callback.replace(trip.mount, "other"), params={"state": state}).status_code
            == 400
        )
        assert browser.post(trip.callback, data={"state": state, "code": "code"}).status_code == 404
        assert trip.exchanges() == 0
        browser.cookies.clear()
        state = trip.begun(browser)
        kept = dict(browser.cookies)
        done = trip.back(browser, state=state, code="code")
        assert done.status_code == 303, done.text
        assert done.headers["location"].startswith(f"{desk.party.callback}?code=")
        assert done.headers["location"].endswith("&state=the-state")
        assert not browser.cookies, "nothing is left"
        assert trip.exchanges() == 1
        # The same once more, cookie and all.
        for name, value in kept.items():
            browser.cookies.set(name, value)
        again = trip.back(browser, state=state, code="code")
        assert (again.status_code, "location" in again.headers) == (400, False)
        assert trip.exchanges() == 1


def test_of_many_at_once_one_gets_through(trip: Trip) -> None:
    """The same answer with the same cookie, over connections of their own and so over all workers."""
    with trip.desk.browser() as browser:
        state = trip.begun(browser)
        kept = dict(browser.cookies)

    def back(_: int) -> int:
        with trip.desk.browser() as one:
            one.cookies.update(kept)
            return trip.back(one, state=state, code="code").status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(back, range(24)))
    assert statuses == [303] + [400] * 23
    assert trip.exchanges() == 1


def test_the_cookie_is_believed_for_its_mac_alone(trip: Trip) -> None:
    with trip.desk.browser() as browser:
        answer = trip.sent(browser)
        state = trip.liar.visit(onward(answer))
        header = next(each for each in answer.headers.get_list("set-cookie") if "upstream" in each)
        for part in ("HttpOnly", "SameSite=Lax", "Path=/;", "Max-Age=600"):
            assert part in header
        name, value = next((name, value) for name, value in browser.cookies.items() if "upstream" in name)
        text, _, mac = value.partition(".")
        for changed in (
            f"{text}x.{mac}",
            f"{text}.{mac[:-1]}",
            f"{text}.",
            f".{mac}",
            "",
            "x",
            f"{text[:-4]}AAAA.{mac}",
        ):
            browser.cookies.clear()
            browser.cookies.set(name, changed)
            assert OVER in trip.back(browser, state=state, code="code").text, changed
        assert trip.exchanges() == 0


def test_an_old_trip_is_over() -> None:
    class Door:
        def handle(self, method: str, raw_path: bytes, *_: object) -> Rendered:
            if method == "GET" and b"well-known" in raw_path:
                return Rendered(200, b'{"authorization_endpoint": "https://k.test/v1/x"}', "application/json")
            asked.append(method)
            url = "https://up.test/?state=st_1&redirect_uri=https%3A%2F%2Fk.test%2Fui%2Fvault%2Fauth%2Foidc%2Foidc%2Fcallback"
            return Rendered(200, f'{{"data": {{"auth_url": "{url}"}}}}'.encode(), "application/json")

    class Moved(SystemClock):
        ahead = 0.0

        def now(self) -> float:
            return super().now() + self.ahead

    asked: list[str] = []
    clock = Moved()
    page = SignIn(Door(), lambda: Sensitive(b"k" * 32), clock)
    place = b"/ui/vault/identity/oidc/provider/default/authorize"
    wanted = {"client_id": "c", "redirect_uri": "https://app.test/cb"}

    def cookies(answer: Rendered) -> list[tuple[bytes, bytes]]:
        held = [value.partition(";")[0] for name, value in answer.headers if name == "Set-Cookie"]
        return [(b"cookie", "; ".join(each for each in held if not each.endswith("=")).encode())]

    shown = page.handle("GET", place, urlencode(wanted).encode(), [], b"", "127.0.0.1", secure=True)
    proof = re.search(r'name="proof" value="([^"]*)"', shown.body.decode())
    assert proof
    form = urlencode({**wanted, "method": "oidc", "mount": "oidc", "proof": proof[1]}).encode()
    kind = [(b"content-type", b"application/x-www-form-urlencoded")]
    sent = page.handle("POST", place, b"", [*kind, *cookies(shown)], form, "127.0.0.1", secure=True)
    assert (sent.status, asked) == (200, ["POST"]), sent.body
    assert any(value.startswith("__Host-keystead-upstream=") for _, value in sent.headers)
    back = b"/ui/vault/auth/oidc/oidc/callback"
    for ahead, over in ((599.0, False), (601.0, True), (-60.0, True)):
        clock.ahead = ahead
        answer = page.handle("GET", back, b"state=st_1&code=c", cookies(sent), b"", "127.0.0.1", secure=True)
        assert (OVER in answer.body.decode()) == over, ahead
    assert asked == ["POST", "GET"], "an old answer is shown to nobody"
    clock.ahead = 0.0
    long = {**wanted, "state": "s" * 4000}
    shown = page.handle("GET", place, urlencode(long).encode(), [], b"", "127.0.0.1", secure=True)
    proof = re.search(r'name="proof" value="([^"]*)"', shown.body.decode())
    assert proof
    form = urlencode({**long, "method": "oidc", "mount": "oidc", "proof": proof[1]}).encode()
    sent = page.handle("POST", place, b"", [*kind, *cookies(shown)], form, "127.0.0.1", secure=True)
    assert b"too long for this way" in sent.body


def test_whoever_the_provider_does_not_vouch_for_gets_nowhere(trip: Trip) -> None:
    with trip.desk.browser() as browser:
        for wrong in ({"error": "access_denied"}, {"code": "wrong"}, {}, {"code": ""}):
            answer = trip.back(browser, state=trip.begun(browser), **wrong)
            assert (answer.status_code, "That did not work." in answer.text) == (400, True), wrong
            assert "location" not in answer.headers
        for change in ({"nonce": "other"}, {"aud": "other"}, {"exp": int(time.time()) - 600}, {"sub": None}):
            trip.liar.change = change
            answer = trip.back(browser, state=trip.begun(browser), code="code")
            assert (answer.status_code, "location" in answer.headers) == (400, False), change
        trip.liar.change = {}
        # What a role or a mount does not allow leads nowhere, and says one thing.
        trip.set_role(allowed_redirect_uris=["https://else.example.test/cb"])
        assert "That did not work." in trip.sent(browser).text
        trip.set_role()
        for change in ({"mount": "none"}, {"username": "nobody"}, {"mount": trip.desk.ann.mount}):
            assert "That did not work." in trip.sent(browser, **change).text
        trip.configure(oidc_response_mode="form_post")
        assert "does not come back to this page" in trip.sent(browser).text
        trip.configure()
        trip.set_role(callback_mode="direct", oidc_disable_confirmation=True)
        answer = trip.back(browser, state=trip.begun(browser), code="code")
        assert (answer.status_code, "location" in answer.headers) == (400, False)
        trip.set_role()
        # A form that another page posts begins nothing.
        assert browser.post(trip.desk.place, data={**trip.desk.asked(), "method": "oidc"}).status_code == 400
        # And the client is looked at when the person is known, as ever: nobody is sent to a stranger.
        page = browser.get(trip.desk.place, params=trip.desk.asked(redirect_uri="https://evil.example.test/"))
        form = trip.desk.filled(page.text, method="oidc", mount=trip.mount, username="", secret="")
        state = trip.liar.visit(onward(browser.post(trip.desk.place, data=form)))
        answer = trip.back(browser, state=state, code="code")
        assert (answer.status_code, "may not send you back" in answer.text) == (400, True)
        assert "location" not in answer.headers


def test_a_second_factor_after_the_other_provider(trip: Trip) -> None:
    api, word = trip.desk.world.api, trip.desk.world.word
    with trip.desk.browser() as browser:
        assert trip.back(browser, state=trip.begun(browser), code="code").status_code == 303
        accessor = api.ok("GET", "sys/auth")[f"{trip.mount}/"]["accessor"]
        body = {"alias_name": "ann", "alias_mount_accessor": accessor}
        entity = api.ok("POST", "identity/lookup/entity", body)["id"]
        method = api.ok("POST", "identity/mfa/method/totp", {"issuer": "Acme"})["method_id"]
        made = api.ok(
            "POST", "identity/mfa/method/totp/admin-generate", {"method_id": method, "entity_id": entity}
        )
        rule = {"mfa_method_ids": [method], "auth_method_accessors": [accessor]}
        api.ok("POST", f"identity/mfa/login-enforcement/{word}", rule)
        try:
            form = trip.back(browser, state=trip.begun(browser), code="code")
            assert (form.status_code, "Code of your second factor" in form.text) == (200, True)
            totp = pyotp.parse_uri(made["url"])
            assert isinstance(totp, pyotp.TOTP)
            sent = {**trip.desk.filled(form.text), "code0": totp.now()}
            assert browser.post(trip.desk.place, data=sent).status_code == 303
        finally:
            api.delete(f"identity/mfa/login-enforcement/{word}")


@pytest.mark.parametrize("in_state", [True, False])
def test_from_a_namespace_and_back_to_it(server: DevServer, api: Api, liar: Liar, *, in_state: bool) -> None:
    here = tenant(api)
    party = Relying(server, here)
    here.ok("POST", "sys/auth/oidc", {"type": "oidc"})
    client = {"oidc_client_id": "client", "oidc_client_secret": "secret", "default_role": "r"}
    config = {"oidc_discovery_url": liar.url, "oidc_discovery_ca_pem": liar.ca, **client}
    here.ok("POST", "auth/oidc/config", {**config, "namespace_in_state": in_state})
    back = f"{server.address}/ui/vault/auth/oidc/oidc/callback"
    listed = back if in_state else f"{back}?namespace={here.path}"
    role = {"user_claim": "sub", "allowed_redirect_uris": [listed], "token_policies": "people"}
    here.ok("POST", "auth/oidc/role/r", role)
    with httpx.Client(base_url=server.address, trust_env=False, timeout=30) as browser:
        asked = {"client_id": party.client_id, "redirect_uri": "https://app.example.test/callback"}
        asked |= {"response_type": "code", "scope": "openid", "state": "s"}
        place = f"/ui/vault/{here.path}/identity/oidc/provider/p/authorize"
        page = browser.get(place, params=asked).text
        hidden = dict(re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page))
        form = {html.unescape(name): html.unescape(value) for name, value in hidden.items()}
        sent = browser.post(place, data={**form, "method": "oidc", "mount": "oidc"})
        url = onward(sent)
        assert parse_qs(urlsplit(url).query)["redirect_uri"] == [listed]
        state = liar.visit(url)
        assert state.endswith(f",ns={here.path}") == in_state
        query = {"state": state, "code": "code", **({} if in_state else {"namespace": here.path})}
        done = browser.get(back, params=query)
        assert done.status_code == 303, done.text
    claims = party.verified(party.exchange(code_of(done)).json()["id_token"])
    assert claims["namespace"] == api.ok("GET", f"sys/namespaces/{here.path}")["id"]
