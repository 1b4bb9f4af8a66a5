"""Signing in for another service, as a browser does it and as one must not be able to."""

from __future__ import annotations

import secrets
import time
from urllib.parse import urlencode

import pytest

from kms.clock import SystemClock
from kms.http.signin import SignIn
from kms.http.vault.route import Rendered
from kms.sensitive import Sensitive
from tests.entities.test_live import World
from tests.harness.api import Api
from tests.harness.dev import DevServer
from tests.signin.desk import Desk

CORPUS = (
    "<script>window.pwned=1</script>",
    '"><img src=x onerror="window.pwned=1">',
    "'><svg onload=window.pwned=1>",
    "</style><script>window.pwned=1</script>",
    "{{7*7}}{% for x in y %}",
    "javascript:window.pwned=1",
    "\u2028\u202e<b>",
)


@pytest.fixture
def desk(server: DevServer, api: Api) -> Desk:
    return Desk.of(World(server, api, secrets.token_hex(4)))


def test_a_person_signs_in_and_the_service_learns_who_it_is(desk: Desk) -> None:
    asked = desk.asked()
    with desk.browser() as browser:
        # Where discovery sends the browser: without a token, that is the page.
        endpoint = desk.party.metadata["authorization_endpoint"]
        sent = browser.get(endpoint, params=asked, headers={"Accept": "text/html,*/*"})
        assert sent.status_code == 303
        shown = browser.get(sent.headers["location"])
        assert shown.status_code == 200, shown.text
        assert shown.headers["cache-control"] == "no-store"
        done = browser.post(desk.place, data=desk.filled(shown.text))
        assert done.status_code == 303, done.text
        assert done.headers["location"].startswith(f"{desk.party.callback}?code=")
        assert done.headers["location"].endswith("&state=the-state")
        assert "Max-Age=0" in done.headers["set-cookie"]
    tokens = desk.exchange(done.headers["location"], asked["code_challenge"])
    assert {"id_token", "access_token"} <= set(tokens)
    # The token of the sign-in is given back: none of ann's is left but the one that she had before.
    accessors = desk.world.api.ok("LIST", "auth/token/accessors")["keys"]
    held = [
        accessor
        for accessor in accessors
        if desk.world.api.ok("POST", "auth/token/lookup-accessor", {"accessor": accessor})["path"]
        == f"auth/{desk.ann.mount}/login/ann"
    ]
    assert len(held) == 1


def test_an_api_client_is_no_browser(desk: Desk) -> None:
    with desk.browser() as browser:
        endpoint = desk.party.metadata["authorization_endpoint"]
        for headers in ({"Accept": "application/json"}, {"Accept": "text/html", "X-Vault-Token": "x"}):
            assert browser.get(endpoint, params=desk.asked(), headers=headers).status_code in {400, 403}


def test_a_token_signs_in_and_stays(desk: Desk) -> None:
    with desk.browser() as browser:
        page = browser.get(desk.place, params=desk.asked()).text
        form = desk.filled(page, method="token", mount="", username="", secret=desk.ann.token)
        assert browser.post(desk.place, data=form).status_code == 303
    with desk.world.server.api(desk.ann.token) as mine:
        assert mine.get("auth/token/lookup-self").status == 200


@pytest.mark.parametrize(
    "change",
    [
        {"secret": "wrong"},
        {"username": "nobody"},
        {"username": "../../sys/seal"},
        {"username": ""},
        {"mount": "none"},
        {"method": "token", "secret": "hvs.nothing"},
    ],
)
def test_a_failed_sign_in_says_one_thing(desk: Desk, change: dict[str, str]) -> None:
    with desk.browser() as browser:
        page = browser.get(desk.place, params=desk.asked()).text
        answer = browser.post(desk.place, data=desk.filled(page, **change))
        assert answer.status_code == 400
        assert "That did not work." in answer.text
        assert 'value="pw"' not in answer.text
        assert "location" not in answer.headers
        # The form that comes with it is a new one, and works.
        assert browser.post(desk.place, data=desk.filled(answer.text)).status_code == 303


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"client_id": "nobody"}, "is not known"),
        ({"redirect_uri": "https://evil.example.test/"}, "may not send you back"),
        ({"redirect_uri": "javascript:alert(1)"}, "runs as a program"),
        ({"redirect_uri": "https://a b/"}, "no address"),
        ({"redirect_uri": "https://user@app.example.test/callback"}, "no address"),
        ({"redirect_uri": "https://x; script-src *"}, "no address"),
        ({"redirect_uri": ""}, "did not say its redirect_uri"),
        ({"response_type": "token"}, "not possible"),
        ({"scope": "profile"}, "not possible"),
        ({"request": "x"}, "not possible"),
    ],
)
def test_a_wrong_request_goes_nowhere(desk: Desk, change: dict[str, str], said: str) -> None:
    with desk.browser() as browser:
        shown = browser.get(desk.place, params=desk.asked(**change))
        answer = shown if shown.status_code != 200 else browser.post(desk.place, data=desk.filled(shown.text))
        assert answer.status_code == 400
        assert said in answer.text
        assert "location" not in answer.headers


def test_a_form_counts_only_from_the_browser_that_was_shown_it(desk: Desk) -> None:
    with desk.browser() as browser, desk.browser() as other:
        form = desk.filled(browser.get(desk.place, params=desk.asked()).text)
        assert other.post(desk.place, data=form).status_code == 400, (
            "no cookie: another page, another browser"
        )
        other.get(desk.place, params=desk.asked())
        assert other.post(desk.place, data=form).status_code == 400, "the cookie of another form"
        for change in (
            {"client_id": "other"},
            {"state": "x"},
            {"proof": ""},
            {"proof": "1.x"},
            {"scope": "openid a"},
        ):
            assert browser.post(desk.place, data={**form, **change}).status_code == 400, change
        old = int(time.time()) - 3600
        assert (
            browser.post(
                desk.place, data={**form, "proof": f"{old}.{form['proof'].partition('.')[2]}"}
            ).status_code
            == 400
        )
        elsewhere = desk.place.replace(desk.party.name, "default")
        assert browser.post(elsewhere, data=form).status_code == 400
        assert browser.post(desk.place, json=form).status_code == 400
        assert browser.post(desk.place, data=form).status_code == 303, "and it is good where it belongs"


def test_headers_keep_script_and_frames_away(desk: Desk) -> None:
    with desk.browser() as browser:
        shown = browser.get(desk.place, params=desk.asked())
        stopped = browser.get(desk.place)
        missing = browser.get("/ui/nothing")
        done = browser.post(desk.place, data=desk.filled(shown.text))
    assert (stopped.status_code, missing.status_code) == (400, 404)
    for answer in (shown, stopped, missing, done):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "script" not in answer.text.lower()
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert "form-action 'self' https://app.example.test;" in shown.headers["content-security-policy"]
    cookie = shown.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    nonces = {page.headers["content-security-policy"] for page in (shown, stopped, missing)}
    assert len(nonces) == 3


@pytest.mark.parametrize("word", CORPUS)
def test_words_of_strangers_are_text(desk: Desk, word: str) -> None:
    with desk.browser() as browser:
        asked = desk.asked(client_id=word, scope=f"openid {word}", state=word, nonce=word)
        shown = browser.get(desk.place, params={**asked, "error_description": word, "error": word})
        assert shown.status_code == 200
        again = browser.post(desk.place, data=desk.filled(shown.text, username=word, secret=""))
        for page in (shown.text, again.text):
            for raw in ("<script", "<img", "<svg", "</style><", "<b>\u202e"):
                assert raw not in page.lower()
            assert page.count("<style") == 1


def test_a_large_or_doubled_request_is_refused(desk: Desk) -> None:
    with desk.browser() as browser:
        asked = desk.asked()
        assert browser.get(desk.place, params=[*asked.items(), ("state", "again")]).status_code == 400
        assert browser.get(desk.place, params={**asked, "state": "x" * 5000}).status_code in {400, 414}
        assert browser.post(desk.place, data={**asked, "secret": "x" * 70_000}).status_code == 413


def test_over_tls_the_cookie_cannot_be_set_by_a_neighbour() -> None:
    class Door:
        def handle(self, *_: object) -> Rendered:
            raise AssertionError("nothing is asked for a form")

    page = SignIn(Door(), lambda: Sensitive(b"k" * 32), SystemClock())
    query = urlencode({"client_id": "c", "redirect_uri": "https://app.test/cb"}).encode()
    place = b"/ui/vault/identity/oidc/provider/default/authorize"
    for secure, cookie in ((True, "__Host-keystead-sign-in="), (False, "keystead-sign-in=")):
        answer = page.handle("GET", place, query, [], b"", "127.0.0.1", secure=secure)
        headers = dict(answer.headers)
        assert headers["Set-Cookie"].startswith(cookie)
        assert ("; Secure" in headers["Set-Cookie"]) == secure
        assert "; Path=/;" in headers["Set-Cookie"]
        assert "Domain" not in headers["Set-Cookie"]
