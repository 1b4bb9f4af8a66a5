"""Where the keys of signed tokens come from: several places at once, and places that are called otherwise (T-48, T-49)."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.harness.api import Api
from tests.harness.bao import Bao
from tests.harness.dev import DevServer
from tests.harness.issuer import Issuer

ROLE = {"role_type": "jwt", "user_claim": "sub", "bound_audiences": "us", "token_policies": "p"}
NOBODY = "no known key successfully validated"


@pytest.fixture
def issuers(tmp_path: Path) -> Iterator[tuple[Issuer, Issuer]]:
    """Two, each with a key that it calls `one`, and one of a name of its own."""
    made = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        made.append(Issuer(tmp_path / name))
        made[-1].add("one")
        made[-1].add(name)
    yield made[0], made[1]
    for issuer in made:
        issuer.stop()


@pytest.fixture
def named(tmp_path: Path) -> Iterator[Issuer]:
    """One whose certificate is for names, and not for its address."""
    (tmp_path / "named").mkdir()
    issuer = Issuer(tmp_path / "named", "keys.example.test", "*.wild.example.test")
    issuer.add("one")
    yield issuer
    issuer.stop()


class Method:
    """The method at a new path, with a role."""

    def __init__(self, api: Api, server: DevServer) -> None:
        self.api, self.server, self.path = api, server, f"jwt-{secrets.token_hex(4)}"
        api.ok("POST", f"sys/auth/{self.path}", {"type": "jwt"})
        api.ok("POST", f"auth/{self.path}/role/ci", ROLE)
        self.config = f"auth/{self.path}/config"

    def refuses(self, body: dict[str, Any], text: str) -> None:
        """As a configuration, and nothing of it is kept."""
        before = self._kept()
        answer = self.api.post(self.config, body)
        assert answer.status == 400, (body, answer.content)
        assert text in answer.errors[0], answer.errors
        assert self._kept() == before

    def _kept(self) -> dict[str, Any]:
        answer = self.api.get(self.config)
        return answer.data if answer.status == 200 else {}

    def login(self, token: str) -> str:
        """Why it is not let in, or nothing."""
        with self.server.api("") as anybody:
            answer = anybody.post(f"auth/{self.path}/login", {"role": "ci", "jwt": token})
        assert answer.status in (200, 400), answer.content
        return "" if answer.status == 200 else str(answer.errors[0])


@pytest.fixture
def method(api: Api, server: DevServer) -> Method:
    return Method(api, server)


def _pair(issuer: Issuer) -> dict[str, str]:
    return {"jwks_url": f"{issuer.url}/jwks", "jwks_ca_pem": issuer.ca}


def _token(issuer: Issuer, key: str) -> str:
    return issuer.sign(key, {"sub": "job", "aud": "us"})


def _bare(issuer: Issuer, key: str, **headers: Any) -> str:
    now = int(time.time())
    claims = {"sub": "job", "aud": "us", "iat": now, "exp": now + 300}
    return jwt.encode(claims, issuer.keys[key], "RS256", headers)


def test_keys_of_all_places_count(method: Method, issuers: tuple[Issuer, Issuer], bao: Bao) -> None:
    first, second = issuers
    pairs = [_pair(first), _pair(second)]
    method.api.ok("POST", method.config, {"jwks_pairs": pairs})
    assert method.api.get(method.config).data["jwks_pairs"] == pairs
    for issuer, name in ((first, "first"), (second, "second")):
        assert method.login(_token(issuer, name)) == ""
        assert method.login(_token(issuer, "one")) == "", "the same kid at both"
        assert method.login(_bare(issuer, name)) == "", "no kid"
    first.add("none")
    assert NOBODY in method.login(_bare(first, "none", kid="second")), "a kid of the other place is no key"
    assert bao.field("token", "write", f"auth/{method.path}/login", "role=ci", f"jwt={_token(second, 'one')}")


def test_a_place_that_is_down_keeps_out_its_own_tokens_only(
    method: Method, issuers: tuple[Issuer, Issuer]
) -> None:
    first, second = issuers
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody listens
        down = {"jwks_url": f"https://127.0.0.1:{closed.getsockname()[1]}/jwks"}
        method.refuses({"jwks_pairs": [_pair(first), down]}, "error checking https://127.0.0.1")
        body = {"jwks_pairs": [down, _pair(first)], "skip_jwks_validation": True}
        warned = method.api.post(method.config, body)
        assert warned.status == 200, warned.content
        assert "error checking" in str(warned.content)
        assert method.login(_token(first, "first")) == ""
        refused = method.login(_token(second, "second"))
        assert "error checking" in refused or NOBODY in refused
        assert method.login(_token(first, "first")) == ""


def test_pairs_are_checked(method: Method, issuers: tuple[Issuer, Issuer]) -> None:
    first, second = issuers
    good, other = _pair(first), _pair(second)
    for body, text in (
        ({"jwks_pairs": [good], "jwks_url": other["jwks_url"]}, "exactly one of"),
        ({"jwks_pairs": [good], "oidc_discovery_url": first.url}, "exactly one of"),
        ({"jwks_pairs": []}, "exactly one of"),
        ({"jwks_pairs": [good], "jwks_ca_pem": first.ca}, "must be provided as part of the 'jwks_pairs'"),
        ({"jwks_pairs": [good], "bound_issuer": "x"}, "Bound issuer is not supported"),
        ({"jwks_pairs": good}, "is a list of"),
        ({"jwks_pairs": "x"}, "is a list of"),
        ({"jwks_pairs": [good] * 17}, "is a list of"),
        ({"jwks_pairs": [good, good]}, "stands there twice"),
        ({"jwks_pairs": ["x"]}, "is an object of"),
        ({"jwks_pairs": [{**good, "jwks_ca_pem": None}]}, "is an object of"),
        ({"jwks_pairs": [{**good, "jwks_ca": "x"}]}, "unknown member 'jwks_ca'"),
        ({"jwks_pairs": [{"jwks_ca_pem": first.ca}]}, "no https URL"),
        ({"jwks_pairs": [{"jwks_url": "http://192.0.2.1/jwks"}]}, "no https URL"),
        ({"jwks_pairs": [{**good, "jwks_ca_pem": "x"}], "skip_jwks_validation": True}, "cannot be read"),
        ({"jwks_pairs": [good, {**other, "jwks_ca_pem": first.ca}]}, "does not verify"),
        ({"jwks_pairs": [good, {"jwks_url": other["jwks_url"]}]}, "does not verify"),
        ({"jwks_pairs": [good, {**other, "jwks_url": f"{second.url}/none"}]}, "it answers 404"),
    ):
        method.refuses(body, text)


def test_whose_certificate_a_place_may_show(
    method: Method, named: Issuer, issuers: tuple[Issuer, Issuer]
) -> None:
    place = _pair(named)
    method.refuses(place, "does not verify")
    for names in (
        ["other.example.test"],
        ["127.0.0.1"],
        ["example.test"],
        ["a.keys.example.test"],
        ["wild.example.test"],
        ["a.b.wild.example.test"],
        ["issuer"],  # its common name
    ):
        method.refuses({**place, "override_allowed_server_names": names}, "for none of the names")
    wrong = {**place, "jwks_ca_pem": issuers[0].ca, "override_allowed_server_names": "keys.example.test"}
    method.refuses(wrong, "does not verify")
    unknown = {"jwks_url": place["jwks_url"], "override_allowed_server_names": "keys.example.test"}
    method.refuses(unknown, "does not verify")
    for bad in ("*.wild.example.test", "keys.example.test.", "a b", "-a", "x" * 254, "é.test"):
        method.refuses({**place, "override_allowed_server_names": [bad]}, "no host name or address")
    method.refuses({**place, "override_allowed_server_names": ["a"] * 65}, "at most 64")
    for given in (["other.test", "KEYS.example.test"], ["a.wild.example.test"], "x.test,keys.example.test"):
        method.api.ok("POST", method.config, {**place, "override_allowed_server_names": given})
        assert method.login(_token(named, "one")) == ""
    shown = method.api.get(method.config).data["override_allowed_server_names"]
    assert shown == ["x.test", "keys.example.test"]
    discovery = {"oidc_discovery_url": named.url, "oidc_discovery_ca_pem": named.ca}
    method.refuses(discovery, "does not verify")
    method.api.ok("POST", method.config, {**discovery, "override_allowed_server_names": "keys.example.test"})
    assert method.login(_token(named, "one")) == ""


def test_allowed_names_stand_in_place_of_the_hosts(method: Method, issuers: tuple[Issuer, Issuer]) -> None:
    """They do not add to it: a place with the certificate of its own address is refused as well."""
    first, _ = issuers
    method.refuses(
        {**_pair(first), "override_allowed_server_names": "keys.example.test"}, "for none of the names"
    )
    method.api.ok("POST", method.config, {**_pair(first), "override_allowed_server_names": "127.0.0.1"})
    assert method.login(_token(first, "one")) == ""
