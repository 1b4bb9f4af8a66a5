"""The device flow (RFC 8628): the person agrees on another device; authlib's server is the provider, for both servers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.auth.shapes import form
from tests.auth.sides import both
from tests.differential.rules import Comparison, load
from tests.differential.sides import Request, Side
from tests.harness.dev import DevServer
from tests.harness.device import CLIENT, SECRET, DeviceProvider

ALLOWED = Path(__file__).parent / "device_allowed.toml"
HERE = "http://127.0.0.1/cb"
ROLE: dict[str, Any] = {"user_claim": "sub", "allowed_redirect_uris": [HERE], "callback_mode": "device"}
TOKENS = {"oauth2_id_token", "oauth2_access_token", "oauth2_refresh_token"}
# What the provider says wrongly -> claims. The peer believes all of it (see device_allowed.toml).
LIES: dict[str, dict[str, Any]] = {
    "another audience": {"aud": "somebody-else"},
    "another issuer": {"iss": "https://other.test"},
    "expired": {"exp": 1},
    "not yet": {"nbf": 4_000_000_000},
    "no expiry": {"exp": None},
}


@pytest.fixture
def provider() -> Iterator[DeviceProvider]:
    made = DeviceProvider()
    yield made
    made.stop()


class Flow:
    """One server's side of the flow."""

    def __init__(self, side: Side, provider: DeviceProvider) -> None:
        self.side = side
        self.provider = provider

    def ask(self, path: str, body: Any) -> tuple[int, Any]:
        return self.side.ask(Request("POST", path, body))

    def begin(self, role: str = "people", **more: str) -> tuple[str, str]:
        """(state, user code)."""
        self.provider.book.codes.clear()
        status, answer = self.ask("oidc/auth_url", {"role": role, "client_nonce": "n", **more})
        assert status == 200, answer
        code = next(iter(self.provider.book.codes.values()))["user_code"]
        return answer["data"]["state"], code

    def poll(self, state: str, nonce: str = "n") -> tuple[int, Any]:
        return self.ask("oidc/poll", {"state": state, "client_nonce": nonce})

    def steps(self) -> Iterator[tuple[str, tuple[int, Any]]]:
        """Every way that a flow goes, and what is answered."""
        book = self.provider.book
        for body in ({"role": "people"}, {"role": "none", "client_nonce": "n"}, {"client_nonce": "n"}):
            yield f"begin {body}", self.ask("oidc/auth_url", body)
        answered = self.ask("oidc/auth_url", {"role": "people", "client_nonce": "n"})
        yield "begin", _without_code(answered)
        book.complete = False
        yield (
            "begin, with a code to type",
            _without_code(self.ask("oidc/auth_url", {"role": "people", "client_nonce": "n"})),
        )
        book.complete = True
        state, code = self.begin()
        yield "pending", self.poll(state)
        book.slow = True
        yield "slow down", self.poll(state)
        book.slow = False
        book.agreed[code] = True
        yield "agreed", self.poll(state)
        yield "twice", self.poll(state)
        state, code = self.begin()
        book.agreed[code] = False
        yield "denied", self.poll(state)
        yield "after a denial", self.poll(state)
        yield "unknown state", self.poll("st_nothing")
        state, code = self.begin("bound")
        book.agreed[code] = True
        yield "bound claims", self.poll(state)
        state, code = self.begin("tokens")
        book.agreed[code] = True
        status, answer = self.poll(state)
        assert status == 200, answer
        metadata = answer["auth"]["metadata"]
        assert set(metadata) >= TOKENS
        assert metadata["oauth2_refresh_token"] == "the-refresh-token"
        answer["auth"]["metadata"] = {name: name in TOKENS or text for name, text in metadata.items()}
        yield "the provider's tokens", (status, answer)
        state, code = self.begin()
        yield "wrong nonce", self.poll(state, "other")
        yield from self.lies()

    def lies(self) -> Iterator[tuple[str, tuple[int, Any]]]:
        book = self.provider.book
        for what, said in LIES.items():
            state, code = self.begin()
            book.agreed[code], book.claims = True, said
            yield f"lie: {what}", self.poll(state)
            book.claims = {}
        state, code = self.begin()
        book.agreed[code], self.provider.signing = True, self.provider.stray
        yield "lie: another key", self.poll(state)
        self.provider.signing = self.provider.key


def _without_code(answered: tuple[int, Any]) -> tuple[int, Any]:
    status, answer = answered
    data = answer["data"]
    parts = urlsplit(data["auth_url"])
    data["auth_url"] = parts.path, sorted(parse_qs(parts.query))
    for name in ("state", "user_code"):
        if name in data:
            data[name] = "..."
    return status, answer


def _set_up(side: Side, provider: DeviceProvider) -> None:
    config = {"oidc_discovery_url": provider.url, "oidc_client_id": CLIENT, "oidc_client_secret": SECRET}
    assert side.ask(Request("POST", "config", config))[0] in {200, 204}
    roles: dict[str, dict[str, Any]] = {
        "people": {"poll_interval": 2},
        "bound": {"bound_claims": {"sub": "somebody"}},
        "tokens": {"oauth2_metadata": "id_token,access_token,refresh_token"},
    }
    for name, more in roles.items():
        assert side.ask(Request("POST", f"role/{name}", {**ROLE, **more}))[0] in {200, 204}


def test_the_flow_goes_as_at_the_real_server(server: DevServer, provider: DeviceProvider) -> None:
    compared = Comparison(load(ALLOWED))
    with both(server, "oidc") as (theirs, ours):
        found: list[list[tuple[str, tuple[int, Any]]]] = []
        for side in (theirs, ours):
            _set_up(side, provider)
            found.append(list(Flow(side, provider).steps()))
        for (what, their_answer), (_, our_answer) in zip(*found, strict=True):
            shaped = [(status, form(document)) for status, document in (their_answer, our_answer)]
            compared.add(Request("POST", "oidc", None, what), *shaped)
        for wrong in ({"callback_mode": "x"}, {"oauth2_metadata": "id_token,secret"}):
            request = Request("POST", "role/wrong", {**ROLE, **wrong})
            compared.add(
                request, *((status, form(each)) for status, each in (theirs.ask(request), ours.ask(request)))
            )
        read = Request("GET", "role/tokens")
        compared.add(read, *((status, form(each)) for status, each in (theirs.ask(read), ours.ask(read))))
    print(compared.report())
    assert not compared.different, "\n".join(compared.different)
    assert not compared.unused, compared.unused


def test_a_yes_is_one_token(server: DevServer, provider: DeviceProvider) -> None:
    """T-33, T-48: whoever polls how often at once; and neither callback nor another mode ends such an attempt."""
    with both(server, "oidc") as (_, ours):
        _set_up(ours, provider)
        flow = Flow(ours, provider)
        state, code = flow.begin()
        callback = ours.client.get(f"{ours.mount}/oidc/callback", params={"state": state, "code": "x"})
        assert callback.status_code == 400
        assert "no callback" in callback.text
        provider.book.agreed[code] = True
        answers: list[tuple[int, Any]] = []
        threads = [threading.Thread(target=lambda: answers.append(flow.poll(state))) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [status for status, _ in answers].count(200) == 1, answers
        # The role's networks hold here as everywhere.
        far = {**ROLE, "token_bound_cidrs": "10.0.0.0/8"}
        assert ours.ask(Request("POST", "role/far", far))[0] in {200, 204}
        state, code = flow.begin("far")
        provider.book.agreed[code] = True
        assert flow.poll(state)[0] == 403
        # No secret of the flow is in an answer: the device code stays between us and the provider.
        state, code = flow.begin()
        secret = next(iter(provider.book.codes))
        assert secret not in json.dumps(flow.poll(state))
