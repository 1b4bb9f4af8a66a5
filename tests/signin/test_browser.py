"""T-59b in a headless Chromium: nothing of a stranger's ever runs, no frame shows the page, and a person gets through."""

from __future__ import annotations

import secrets
from typing import Any
from urllib.parse import urlencode, urlsplit

from playwright.sync_api import Page

from tests.entities.test_live import World
from tests.harness.api import Api
from tests.harness.dev import DevServer
from tests.signin.conftest import Elsewhere
from tests.signin.desk import Desk
from tests.signin.test_page import CORPUS


def _desk(server: DevServer, api: Api, elsewhere: Elsewhere) -> Desk:
    return Desk.of(World(server, api, secrets.token_hex(4)), f"{elsewhere.url}/callback")


def _ran(page: Page) -> Any:
    return page.evaluate("window.pwned")


def test_a_person_gets_through(server: DevServer, api: Api, elsewhere: Elsewhere, page: Page) -> None:
    desk = _desk(server, api, elsewhere)
    asked = desk.asked()
    elsewhere.pages["/"] = (
        f'<a id="in" href="{desk.party.metadata["authorization_endpoint"]}?{urlencode(asked)}">in</a>'
    )
    page.goto(f"{elsewhere.url}/")
    page.click("#in")
    assert urlsplit(page.url).path == desk.place
    page.fill("#mount", desk.ann.mount)
    page.fill("#username", "ann")
    page.fill("#secret", "wrong")
    page.click("button")
    page.wait_for_selector(".said")
    page.fill("#secret", "pw")
    page.click("button")
    page.wait_for_url(f"{elsewhere.url}/callback?*")
    assert desk.exchange(page.url, asked["code_challenge"])["id_token"]
    assert not page.context.cookies(), "nothing is left of the sign-in"


def test_nothing_of_a_stranger_runs(server: DevServer, api: Api, elsewhere: Elsewhere, page: Page) -> None:
    desk = _desk(server, api, elsewhere)
    address = server.address
    for word in CORPUS:
        asked = desk.asked(client_id=word, scope=f"openid {word}", state=word, nonce=word)
        page.goto(f"{address}{desk.url({**asked, 'error_description': word, 'error': word})}")
        assert page.is_visible("form")
        assert _ran(page) is None
        assert (
            page.inner_text("p b") == word.replace("\u2028", "\n").strip()
            or word in page.content()
            or page.is_visible("b")
        )
        page.fill("#username", word)
        page.fill("#mount", "userpass")
        page.fill("#secret", "x")
        page.click("button")
        page.wait_for_selector(".said")
        assert page.input_value("#username") == word.replace("\u2028", "\u2028")
        assert _ran(page) is None
        assert page.evaluate("document.scripts.length") == 0
        # Pages of the method oidc that a browser sees: what a provider calls an error is not repeated.
        page.goto(
            f"{address}/v1/auth/none/oidc/callback?{urlencode({'state': word, 'error_description': word})}"
        )
        assert _ran(page) is None


def test_an_injected_script_would_not_run(
    server: DevServer, api: Api, elsewhere: Elsewhere, page: Page
) -> None:
    """The second wall: even markup that got into the page does nothing."""
    desk = _desk(server, api, elsewhere)
    page.goto(f"{server.address}{desk.url(desk.asked())}")
    page.evaluate(
        """() => {
            const holder = document.createElement("div");
            document.body.append(holder);
            holder.innerHTML = '<img src=x onerror="window.pwned=1"><svg onload="window.pwned=1"></svg>';
            const script = document.createElement("script");
            script.textContent = "window.pwned=1";
            holder.append(script);
            const style = document.createElement("style");
            style.textContent = "body { display: none }";
            holder.append(style);
        }"""
    )
    page.wait_for_timeout(300)
    assert _ran(page) is None
    assert page.is_visible("form")


def test_no_frame_shows_it_and_no_page_elsewhere_posts_it(
    server: DevServer, api: Api, elsewhere: Elsewhere, page: Page
) -> None:
    desk = _desk(server, api, elsewhere)
    place = f"{server.address}{desk.url(desk.asked())}"
    elsewhere.pages["/frame"] = f'<iframe src="{place.replace("&", "&amp;")}"></iframe>'
    page.goto(f"{elsewhere.url}/frame")
    frames = [frame for frame in page.frames if frame is not page.main_frame]
    assert frames
    assert not frames[0].query_selector("form")
    # The attacker has a good form of his own, with his own password, and makes the victim's browser send it.
    with desk.browser() as browser:
        form = desk.filled(browser.get(desk.place, params=desk.asked()).text)
    inputs = "".join(f'<input name="{name}" value="{value}">' for name, value in form.items())
    elsewhere.pages["/csrf"] = (
        f'<form id="f" method="post" action="{server.address}{desk.place}">{inputs}</form>'
        '<script>document.getElementById("f").submit()</script>'
    )
    page.goto(place)  # the victim's browser has a cookie of this site
    elsewhere.seen.clear()
    page.goto(f"{elsewhere.url}/csrf")
    page.wait_for_selector(".said")
    assert "by another page" in page.inner_text(".said")
    assert not [path for path in elsewhere.seen if path.startswith("/callback")]
