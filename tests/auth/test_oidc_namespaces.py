"""`namespace_in_state`: one redirect URI at the provider for all namespaces, at our server and at the real one."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.auth.sides import both
from tests.differential.sides import Request, Side
from tests.harness.api import Api
from tests.harness.dev import DevServer
from tests.harness.oidc import Liar
from tests.namespaces.tenants import Tenant, tenant

HERE = "https://keystead.example.test/ui/vault/auth/oidc/oidc/callback"
ROLE = {"user_claim": "sub", "allowed_redirect_uris": [HERE, f"{HERE}?a=1&b=2", f"{HERE}?namespace=listed"]}
REDIRECTS = (
    HERE,
    f"{HERE}?namespace=team",
    f"{HERE}?namespace=team%2Fsub",
    f"{HERE}?namespace=team&namespace=other",
    f"{HERE}?namespace=a%2Cns%3Db%26state%3Dx",
    f"{HERE}?b=2&namespace=team&a=1",
    f"{HERE}?namespace=",
    f"{HERE}?Namespace=team",
    f"{HERE}?namespace=listed",
    f"{HERE}?a=1&b=2",
    f"{HERE}?a=1",
    "https://evil.example.test/?namespace=team",
)
_STATE = re.compile(r"st_[A-Za-z0-9]+")


@pytest.fixture
def liar(tmp_path: Path) -> Iterator[Liar]:
    running = Liar(tmp_path)
    yield running
    running.stop()


def _config(liar: Liar, **more: Any) -> dict[str, Any]:
    client = {"oidc_client_id": "client", "oidc_client_secret": "secret"}
    return {"oidc_discovery_url": liar.url, "oidc_discovery_ca_pem": liar.ca, **client, **more}


def _asked(side: Side, redirect: str) -> dict[str, str]:
    """What a provider is asked; empty where nobody is."""
    status, found = side.ask(Request("POST", "oidc/auth_url", {"role": "r", "redirect_uri": redirect}))
    assert status == 200, found
    query = parse_qs(urlsplit(found["data"]["auth_url"]).query)
    return {name: values[0] for name, values in query.items()}


@pytest.mark.slow
def test_states_are_the_real_servers(server: DevServer, liar: Liar) -> None:
    with both(server, "oidc") as sides:
        for side in sides:
            side.ask(Request("POST", "role/r", ROLE))
        seen = 0
        for given in (None, True, None, False, None, True):
            shown = []
            for side in sides:
                more = {} if given is None else {"namespace_in_state": given}
                assert side.ask(Request("POST", "config", _config(liar, **more)))[0] == 204
                shown.append(side.ask(Request("GET", "config"))[1]["data"]["namespace_in_state"])
            assert shown[0] == shown[1], "what is not sent again stays"
            for redirect in REDIRECTS:
                theirs, ours = (_asked(side, redirect) for side in sides)
                for name in ("redirect_uri", "client_id", "response_type"):
                    assert theirs.get(name) == ours.get(name), (given, redirect)
                states = [_STATE.sub("STATE", each.get("state", "")) for each in (theirs, ours)]
                assert states[0] == states[1], (given, redirect)
                seen += "STATE,ns=" in states[1]
        assert seen == 4 * 6, "of the redirects that name a namespace, while it is on"


def test_a_person_comes_back_to_the_namespace(api: Api, liar: Liar) -> None:
    here, other = tenant(api), tenant(api)
    for each in (here, other):
        each.ok("POST", "sys/auth/oidc", {"type": "oidc"})
        each.ok("POST", "auth/oidc/config", _config(liar))
        each.ok("POST", "auth/oidc/role/r", ROLE)

    def begun(team: Tenant) -> tuple[str, str]:
        """(state, namespace), as whoever gets the provider's answer reads them."""
        body = {"role": "r", "redirect_uri": f"{HERE}?namespace={team.path}"}
        url = team.call("POST", "auth/oidc/oidc/auth_url", body, token="").data["auth_url"]
        state, _, namespace = liar.visit(url).partition(",ns=")
        return state, namespace

    state, namespace = begun(here)
    assert namespace == here.path
    answer = here.call("GET", f"auth/oidc/oidc/callback?state={state}&code=code", token="")
    assert answer.status == 200, answer.content
    assert answer.json["auth"]["client_token"]
    # What is said in the state is said by the browser; the state itself is of the mount that began.
    state, _ = begun(here)
    for team, said in ((other, state), (here, f"{state},ns={other.path}"), (here, f"{state},ns={here.path}")):
        refused = team.call("GET", f"auth/oidc/oidc/callback?state={said}&code=code", token="")
        assert "Expired or missing OAuth state" in refused.errors[0]
    assert here.call("GET", f"auth/oidc/oidc/callback?state={state}&code=code", token="").status == 200


def test_in_direct_mode_the_client_polls_with_the_bare_state(api: Api, server: DevServer, liar: Liar) -> None:
    path = f"oidc-{secrets.token_hex(4)}"
    api.ok("POST", f"sys/auth/{path}", {"type": "oidc"})
    api.ok("POST", f"auth/{path}/config", _config(liar))
    api.ok("POST", f"auth/{path}/role/r", {**ROLE, "callback_mode": "direct"})
    with server.api("") as anybody:
        body = {"role": "r", "redirect_uri": f"{HERE}?namespace=team", "client_nonce": "n"}
        data = anybody.post(f"auth/{path}/oidc/auth_url", body).data
        assert liar.visit(data["auth_url"]) == f"{data['state']},ns=team"
        poll = anybody.post(f"auth/{path}/oidc/poll", {"state": data["state"], "client_nonce": "n"})
        assert poll.errors == ["authorization_pending"]
