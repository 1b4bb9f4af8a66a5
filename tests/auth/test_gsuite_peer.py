"""`provider_config` gsuite at our server and at the real one, before one Google; the real one reaches it as by its name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.auth.shapes import form
from tests.auth.sides import both
from tests.differential.rules import Comparison, load
from tests.differential.sides import Request, Side
from tests.harness.dev import DevServer
from tests.harness.google import ADMIN, HOSTS, Google, Tunnel
from tests.harness.issuer import Issuer

ALLOWED = Path(__file__).parent / "gsuite_allowed.toml"
ROLE = {"role_type": "jwt", "user_claim": "sub", "groups_claim": "groups", "bound_audiences": "us"}
ROLES: dict[str, dict[str, Any]] = {
    "r": {**ROLE, "claim_mappings": {"/Job/title": "title"}},
    "bound": {**ROLE, "bound_claims": {"groups": "ops@x.test"}},
    "circle": {**ROLE, "bound_claims": {"groups": "all@x.test"}},
    "deep": {**ROLE, "groups_claim": "/deep/groups"},
    "plain": {**ROLE, "groups_claim": "", "claim_mappings": {"/Job/title": "title"}},
    "paid": {**ROLE, "groups_claim": "", "bound_claims": {"/Job/title": "payments"}},
    "level": {**ROLE, "groups_claim": "", "claim_mappings": {"/Job/level": "level"}},
    "email": {**ROLE, "user_claim": "email"},
}
GROUPS, INFO = {"fetch_groups": True}, {"fetch_user_info": True, "user_custom_schemas": "Job,Other"}
LOGINS: tuple[tuple[dict[str, Any], str, dict[str, Any]], ...] = (
    *((settings, role, {}) for settings in ({}, GROUPS, INFO, {**GROUPS, **INFO}) for role in ROLES),
    *((GROUPS, "deep", {"deep": deep}) for deep in ({}, {"groups": ["x"]}, ["x"], "x")),
    ({}, "r", {"groups": ["x"]}),
    (GROUPS, "r", {"groups": ["x"]}),
    ({"fetch_user_info": True}, "paid", {}),
    ({"user_custom_schemas": "Job"}, "paid", {}),
    *(({**GROUPS, "groups_recurse_max_depth": depth}, "circle", {}) for depth in (0, 1, 9)),
    ({**GROUPS, "groups_recurse_max_depth": 9, "domain": "y.test"}, "circle", {}),
    ({**GROUPS, "domain": "x.test"}, "bound", {}),
    *((settings, "r", {"sub": who}) for settings in (GROUPS, INFO) for who in ("nobody", "alone")),
    (GROUPS, "email", {"email": "ann"}),
    (GROUPS, "email", {"email": 7}),
    ({**GROUPS, "gsuite_admin_impersonate": ""}, "r", {}),
    ({**GROUPS, "gsuite_admin_impersonate": "else@x.test"}, "r", {}),
)
ANSWERS: tuple[tuple[str, str, tuple[int, Any]], ...] = (
    ("token", "POST /token", (200, b"x")),
    ("token", "POST /token", (403, {})),
    ("token", "POST /token", (200, {"access_token": ""})),
    ("groups", "GET /admin/directory/v1/groups", (200, b"x")),
    ("groups", "GET /admin/directory/v1/groups", (200, [])),
    ("groups", "GET /admin/directory/v1/groups", (200, {})),
    ("groups", "GET /admin/directory/v1/groups", (200, {"groups": "x"})),
    ("groups", "GET /admin/directory/v1/groups", (200, {"groups": [{"email": 7}]})),
    ("groups", "GET /admin/directory/v1/groups", (200, {"groups": [{}]})),
    ("groups", "GET /admin/directory/v1/groups", (403, {"error": {"code": 403, "message": "no"}})),
)
SETTINGS: tuple[dict[str, Any], ...] = (
    {"fetch_groups": "true"},
    {"fetch_groups": 1},
    {"fetch_groups": None},
    {"fetch_user_info": "x"},
    {"groups_recurse_max_depth": -1},
    {"groups_recurse_max_depth": 0},
    {"groups_recurse_max_depth": 5},
    {"groups_recurse_max_depth": "5"},
    {"groups_recurse_max_depth": 1.5},
    {"groups_recurse_max_depth": True},
    {"user_custom_schemas": "A,B"},
    {"user_custom_schemas": ["A"]},
    {"domain": "x.test"},
    {"domain": 7},
    {"impersonate_principal": "x"},
    {"unknown": "x"},
)


KEYS: tuple[dict[str, Any], ...] = (
    {"private_key": "junk"},
    {"private_key": None},
    {"client_email": None},
    {"client_email": 7},
    {"type": "authorized_user"},
    {"type": None},
    {"private_key_id": None},
    {"token_uri": None},
)
TEXTS = ("x", "{}", "[]", "7", '""', "/etc/hostname")
ABSENT: Any = object()


@pytest.fixture
def google(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    """By Google's names, for whoever goes through a tunnel and believes its authority: the real server does."""
    running = Google(tmp_path, public=True)
    tunnel = Tunnel(running.port)
    (tmp_path / "ca.pem").write_text(running.ca)
    monkeypatch.setenv("HTTPS_PROXY", tunnel.url)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    running.groups = {
        "ann": ["ops@x.test", "dev@x.test", "far@y.test"],
        "ops@x.test": ["all@x.test"],
        "all@x.test": ["ops@x.test"],
        "dev@x.test": [],
        "far@y.test": [],
        "alone": [],
    }
    running.schemas = {"ann": {"Job": {"title": "payments", "level": 7}, "Other": {"a": "b"}}, "alone": {}}
    yield running
    tunnel.stop()
    running.stop()


@pytest.fixture
def issuer(tmp_path: Path) -> Iterator[Issuer]:
    (tmp_path / "issuer").mkdir()
    running = Issuer(tmp_path / "issuer")
    running.add("one")
    yield running
    running.stop()


class Asked:
    """One side, and what it asks Google for. Ours goes to its address, and verifies that it is Google's names."""

    def __init__(self, side: Side, google: Google, issuer: Issuer, *, ours: bool) -> None:
        self.side, self._google, self._issuer, self._ours = side, google, issuer, ours

    def config(self, **settings: Any) -> tuple[int, Any]:
        given = {"provider": "gsuite", "gsuite_service_account": self.account(), **settings}
        body: dict[str, Any] = {"jwks_url": f"{self._issuer.url}/jwks", "jwks_ca_pem": self._issuer.ca}
        if self._ours:
            names = ["127.0.0.1", *HOSTS]
            body |= {"oidc_discovery_ca_pem": self._google.ca, "override_allowed_server_names": names}
        given = {name: value for name, value in given.items() if value is not ABSENT}
        return self.side.ask(Request("POST", "config", {**body, "provider_config": given}))

    def account(self, **changed: Any) -> str:
        place = f"{self._google.address}/token" if self._ours else self._google.token_uri
        return self._google.account(**{"token_uri": place, **changed})

    def login(self, settings: dict[str, Any], role: str, claims: dict[str, Any]) -> tuple[int, Any]:
        here = {"directory_url": self._google.address} if self._ours else {}
        status, found = self.config(**{"gsuite_admin_impersonate": ADMIN, **here, **settings})
        assert status == 204, found
        self._google.clear()
        token = self._issuer.sign("one", {"sub": "ann", "aud": "us", **claims})
        return self.side.ask(Request("POST", "login", {"role": role, "jwt": token}))

    def wishes(self) -> list[Any]:
        """What was asked, in any order, and what was signed."""
        noise = ("alt", "prettyPrint")  # of the peer's library
        places = [
            (place, sorted((name, value) for name, value in asked.items() if name not in noise))
            for place, asked in self._google.asked
        ]
        signed = [
            [said["iss"], said.get("sub"), said["scope"], said["exp"] - said["iat"]]
            for said in self._google.assertions
        ]
        return [sorted(places), signed]


@pytest.mark.slow
def test_gsuite_gets_the_real_servers_answers(
    server: DevServer, google: Google, issuer: Issuer, tmp_path: Path
) -> None:
    compared = Comparison(load(ALLOWED))
    with both(server, "jwt") as (their_side, our_side):
        sides = Asked(their_side, google, issuer, ours=False), Asked(our_side, google, issuer, ours=True)
        for side in sides:
            for name, role in ROLES.items():
                assert side.side.ask(Request("POST", f"role/{name}", role))[0] == 204
        _logins(compared, sides, google)
        _settings(compared, sides, tmp_path)
    print(compared.report())
    assert not compared.different, "\n".join(compared.different[:40])
    assert not compared.unused, compared.unused
    assert compared.requests >= 90


def _add(compared: Comparison, what: str, answers: list[tuple[int, Any]]) -> None:
    theirs, ours = ((status, form(found)) for status, found in answers)
    compared.add(Request("POST", what.partition(":")[0], what=what), theirs, ours)


def _logins(compared: Comparison, sides: tuple[Asked, Asked], google: Google) -> None:
    """Logins: the answers, and what Google is asked for them."""
    tries: list[tuple[dict[str, Any], str, dict[str, Any], str, dict[str, Any]]]
    tries = [(settings, role, claims, "login", {}) for settings, role, claims in LOGINS]
    tries += [(GROUPS, "r", {}, what, {place: answer}) for what, place, answer in ANSWERS]
    for settings, role, claims, what, google.answers in tries:
        answers, wishes = [], []
        for side in sides:
            answers.append(side.login(settings, role, claims))
            wishes.append(side.wishes())
        _add(compared, f"{what}: {settings} {role} {claims} {google.answers}", answers)
        # A token that is none goes no further at ours.
        assert wishes[0] == wishes[1] or what == "token", (settings, role, claims)
    google.answers = {}


def _settings(compared: Comparison, sides: tuple[Asked, Asked], folder: Path) -> None:
    """Configurations."""
    for given in SETTINGS:
        _add(compared, f"settings: {given}", [side.config(**given) for side in sides])
    for change in KEYS:
        answers = [side.config(gsuite_service_account=side.account(**change)) for side in sides]
        _add(compared, f"key: {change}", answers)
    for text in TEXTS:
        _add(compared, f"text: {text}", [side.config(gsuite_service_account=text) for side in sides])
    file = folder / "key.json"
    file.write_text(sides[0].account())
    _add(compared, "path", [side.config(gsuite_service_account=str(file)) for side in sides])
    for given in ({}, {"impersonate_principal": "x"}):
        answers = [side.config(gsuite_service_account=ABSENT, **given) for side in sides]
        _add(compared, f"default: {given}", answers)
    for side in sides:
        assert side.config(fetch_groups=True, domain="x.test")[0] == 204
    shown = [side.side.ask(Request("GET", "config"))[1]["data"]["provider_config"] for side in sides]
    assert shown[0] == shown[1]
