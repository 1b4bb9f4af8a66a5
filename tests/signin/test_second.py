"""Signing in for another service with a second factor, from a directory, and in a namespace (T-59b)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pyotp
import pytest
from playwright.sync_api import Page

from tests.entities.test_live import World
from tests.harness.api import Api
from tests.harness.dev import DevServer
from tests.harness.slapd import GROUPS, PEOPLE, SEARCHER, Slapd
from tests.namespaces.tenants import tenant
from tests.namespaces.test_provider import CALLBACK, PASSWORD, Relying
from tests.signin.conftest import Elsewhere
from tests.signin.desk import Desk

METHOD, RULES = "identity/mfa/method/totp", "identity/mfa/login-enforcement"
WRONG = "That is not the code"


@dataclass
class Factor:
    """A second factor that every login of one mount needs; ann has it."""

    desk: Desk
    totp: pyotp.TOTP
    name: str

    def code(self, shift: int = 0) -> str:
        return self.totp.at(int(time.time()) + shift * 30)

    def second(self, browser: httpx.Client, **asked: str) -> tuple[httpx.Response, dict[str, str]]:
        """The second form, and what it says on its own."""
        shown = browser.get(self.desk.place, params=self.desk.asked(**asked))
        form = browser.post(self.desk.place, data=self.desk.filled(shown.text))
        assert form.status_code == 200, form.text
        assert "Code of your second factor" in form.text
        kept = self.desk.filled(form.text)
        for name in ("method", "mount", "username", "secret"):
            del kept[name]
        return form, kept


@pytest.fixture
def factor(server: DevServer, api: Api, elsewhere: Elsewhere) -> Iterator[Factor]:
    desk = Desk.of(World(server, api, secrets.token_hex(4)), f"{elsewhere.url}/callback")
    name = f"totp-{desk.world.word}"
    method = api.ok("POST", METHOD, {"issuer": "Acme", "method_name": name})["method_id"]
    made = api.ok("POST", f"{METHOD}/admin-generate", {"method_id": method, "entity_id": desk.ann.entity})
    rule = {"mfa_method_ids": [method], "auth_method_accessors": [desk.ann.accessor]}
    api.ok("POST", f"{RULES}/{name}", rule)
    totp = pyotp.parse_uri(made["url"])
    assert isinstance(totp, pyotp.TOTP)
    yield Factor(desk, totp, name)
    api.delete(f"{RULES}/{name}")


def _tokens(api: Api, path: str) -> int:
    """How many tokens a login has left behind."""
    keys = api.ok("LIST", "auth/token/accessors")["keys"]
    found = [api.call("POST", "auth/token/lookup-accessor", {"accessor": each}) for each in keys]
    return sum(each.status == 200 and each.data["path"] == path for each in found)


def test_a_person_shows_the_second_factor(
    factor: Factor, server: DevServer, page: Page, elsewhere: Elsewhere
) -> None:
    desk, asked = factor.desk, factor.desk.asked()
    held = _tokens(desk.world.api, f"auth/{desk.ann.mount}/login/ann")
    page.goto(f"{server.address}{desk.url(asked)}")
    page.fill("#mount", desk.ann.mount)
    page.fill("#username", "ann")
    page.fill("#secret", "pw")
    page.click("button")
    page.wait_for_selector("#code0")
    assert factor.name in page.inner_text("label")
    assert page.evaluate("document.scripts.length") == 0
    page.fill("#code0", "000000")
    page.click("button")
    page.wait_for_selector(".said")
    assert WRONG in page.inner_text(".said")
    page.fill("#code0", f"{factor.code()[:3]} {factor.code()[3:]}")
    page.click("button")
    page.wait_for_url(f"{elsewhere.url}/callback?*")
    assert desk.exchange(page.url, asked["code_challenge"])["id_token"]
    assert not page.context.cookies()
    assert _tokens(desk.world.api, f"auth/{desk.ann.mount}/login/ann") == held, "its token is given back"


def test_the_second_form_counts_for_its_own_sign_in_alone(factor: Factor) -> None:
    desk = factor.desk
    with desk.browser() as browser, desk.browser() as other:
        form, kept = factor.second(browser)
        assert "no-store" in form.headers["cache-control"]
        code = {"code0": factor.code()}
        # Not from another browser, nor from one that was shown another form, nor for another request.
        other.get(desk.place, params=desk.asked())
        assert other.post(desk.place, data={**kept, **code}).status_code == 400
        _, theirs = factor.second(other)
        for change in (
            {"waiting": theirs["waiting"]},
            {"waiting": ""},
            {"waiting": secrets.token_hex(16)},
            {"named": "[]"},
            {"named": '[["x", "y"]]'},
            {"state": "other"},
            {"client_id": "other"},
            {"proof": theirs["proof"]},
            {"proof": ""},
        ):
            refused = browser.post(desk.place, data={**kept, **code, **change})
            assert refused.status_code == 400, change
            assert "location" not in refused.headers
        # A proof of the first form is none of the second.
        first = desk.filled(browser.get(desk.place, params=desk.asked()).text)
        stolen = {**first, "waiting": kept["waiting"], "named": kept["named"], **code}
        assert browser.post(desk.place, data=stolen).status_code == 400


def test_a_code_is_good_once_and_guesses_are_counted(factor: Factor) -> None:
    desk = factor.desk
    with desk.browser() as browser:
        _, kept = factor.second(browser)
        code = factor.code()
        done = browser.post(desk.place, data={**kept, "code0": code})
        assert done.status_code == 303, done.text
        _, kept = factor.second(browser)
        again = browser.post(desk.place, data={**kept, "code0": code})
        assert (again.status_code, WRONG in again.text) == (400, True), "it was used"
        for typed in ("", "x", "000000", "999999", "123456", "654321"):
            kept = _kept(desk, again)
            again = browser.post(desk.place, data={**kept, "code0": typed})
            assert again.status_code == 400
            assert WRONG in again.text
        kept = _kept(desk, again)
        last = browser.post(desk.place, data={**kept, "code0": factor.code(1)})
        assert (last.status_code, "location" in last.headers) == (400, False), (
            "after so many none is looked at"
        )


def test_a_login_that_waits_no_more_begins_again(factor: Factor) -> None:
    desk = factor.desk
    with desk.browser() as browser:
        _, kept = factor.second(browser)
        body = {"mfa_request_id": kept["waiting"], "mfa_payload": {factor.name: [factor.code()]}}
        with desk.world.server.api("") as anybody:
            assert anybody.post("sys/mfa/validate", body).status == 200
        over = browser.post(desk.place, data={**kept, "code0": factor.code(1)})
        assert over.status_code == 400
        assert "Sign in again" in over.text
    # Who knows its ID and the code finishes a login: it is written nowhere.
    server = desk.world.server
    for file in (server.output, server.errors, *server.audit.rglob("*")):
        assert not file.is_file() or kept["waiting"].encode() not in file.read_bytes(), file
        assert 'id="secret"' in over.text


def _kept(desk: Desk, shown: httpx.Response) -> dict[str, str]:
    found = desk.filled(shown.text)
    return {
        name: value for name, value in found.items() if name not in {"method", "mount", "username", "secret"}
    }


def test_a_name_that_is_locked_stays_locked_on_the_page(server: DevServer, api: Api) -> None:
    desk = Desk.of(World(server, api, secrets.token_hex(4)))
    with desk.browser() as browser:
        for _ in range(5):
            page = browser.get(desk.place, params=desk.asked()).text
            assert browser.post(desk.place, data=desk.filled(page, secret="wrong")).status_code == 400
        page = browser.get(desk.place, params=desk.asked()).text
        refused = browser.post(desk.place, data=desk.filled(page))
    assert refused.status_code == 400
    assert "That did not work." in refused.text, "and it reads the same"
    assert "ann" in str(api.ok("GET", "sys/locked-users")["by_namespace"])


def test_a_person_of_a_directory(
    server: DevServer, api: Api, elsewhere: Elsewhere, page: Page, tmp_path: Path
) -> None:
    slapd = Slapd(tmp_path)
    desk = Desk.of(World(server, api, secrets.token_hex(4)), f"{elsewhere.url}/callback")
    path = f"ldap-{desk.world.word}"
    api.ok("POST", f"sys/auth/{path}", {"type": "ldap"})
    place = {"url": slapd.url, "userdn": PEOPLE, "groupdn": GROUPS, "userattr": "uid"}
    search = {"binddn": SEARCHER, "bindpass": "searcher-password"}
    api.ok("POST", f"auth/{path}/config", {**place, **search, "token_policies": "default"})
    asked = desk.asked()
    try:
        page.goto(f"{server.address}{desk.url(asked)}")
        for secret in ("bob-password", "", "ann-password"):
            page.select_option("#method", "ldap")
            page.fill("#mount", path)
            page.fill("#username", "ann")
            page.fill("#secret", secret)
            page.click("button")
            if secret != "ann-password":
                page.wait_for_selector(".said")
                assert "That did not work." in page.inner_text(".said")
        page.wait_for_url(f"{elsewhere.url}/callback?*")
        assert desk.exchange(page.url, asked["code_challenge"])["id_token"]
        assert _tokens(api, f"auth/{path}/login/ann") == 0
    finally:
        slapd.stop()


def test_a_person_of_a_namespace(server: DevServer, api: Api, page: Page) -> None:
    here = tenant(api)
    party = Relying(server, here)
    query: dict[str, Any] = {
        "client_id": party.client_id,
        "redirect_uri": CALLBACK,
        "response_type": "code",
        "scope": "openid",
        "state": "s",
    }
    page.route(f"{CALLBACK}*", lambda route: route.fulfill(body="back"))
    page.goto(f"{party.metadata['authorization_endpoint']}?{urlencode(query)}")
    assert f"/ui/vault/{here.path}/identity/oidc/provider/p/authorize" in page.url
    page.fill("#mount", "up")
    page.fill("#username", "ann")
    page.fill("#secret", PASSWORD)
    page.click("button")
    page.wait_for_url(f"{CALLBACK}?*")
    code = page.url.partition("code=")[2].partition("&")[0]
    assert party.verified(party.exchange(code).json()["id_token"])["sub"]
    held = here.ok("LIST", "auth/token/accessors")["keys"]
    paths = {here.ok("POST", "auth/token/lookup-accessor", {"accessor": each})["path"] for each in held}
    assert "auth/up/login/ann" not in paths, "its token is given back"
    assert paths, "what is left is the client's access token"
