"""How long keys of a place count that is down: logins on a clock that is moved (T-48)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from kms.clock import SystemClock
from kms.errors import KmsError
from kms.identity.jwt.keys import FRESH_SECONDS, RETRY_SECONDS, STALE_SECONDS
from tests.auth.test_faults import World
from tests.harness.issuer import Issuer

NOWHERE = "https://192.0.2.1/"
"""No redirect is followed: a place that answers with one is down."""
DOWN, UNKNOWN = "it answers 302", "no known key successfully validated"
ROLE: dict[str, Any] = {"role_type": "jwt", "user_claim": "sub", "bound_audiences": ["us"]}


class Moved(SystemClock):
    """The machine's clock, so many seconds on."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


class Scene:
    """Two issuers, and the method in this process."""

    def __init__(self, folder: Path) -> None:
        self.clock = Moved()
        self.world = World(folder / "world", self.clock)
        self.issuers = []
        for name in ("first", "second"):
            (folder / name).mkdir()
            self.issuers.append(Issuer(folder / name))
            self.issuers[-1].add(name)
        self.world.run("jwt.role.write", "jwt", name="ci", **ROLE)

    def login(self, issuer: Issuer, kid: str, *, named: bool = True) -> str:
        """Why not, "" for a token."""
        body = {"sub": "job", "aud": "us", "iat": time.time(), "exp": time.time() + 300}
        token = jwt.encode(body, issuer.keys[kid], "RS256", {"kid": kid} if named else {})
        try:
            assert self.world.run("jwt.login", "jwt", role="ci", jwt=token).auth
        except KmsError as refusal:
            return refusal.detail
        return ""


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    for issuer in made.issuers:
        issuer.stop()
    made.world.server.close()


@pytest.mark.parametrize("source", ["jwks_url", "oidc_discovery_url"])
def test_keys_of_a_place_that_is_down_are_good_for_an_hour(scene: Scene, source: str) -> None:
    issuer = scene.issuers[0]
    place = {"jwks_url": f"{issuer.url}/jwks", "jwks_ca_pem": issuer.ca}
    if source == "oidc_discovery_url":
        place = {"oidc_discovery_url": issuer.url, "oidc_discovery_ca_pem": issuer.ca}
    scene.world.run("jwt.config.write", "jwt", **place)
    assert scene.login(issuer, "first") == ""
    issuer.redirect = NOWHERE
    for ahead in (FRESH_SECONDS + 1, 3 * FRESH_SECONDS, STALE_SECONDS - 60):
        scene.clock.ahead = ahead
        assert scene.login(issuer, "first") == "", ahead
    assert scene.login(issuer, "first", named=False) == ""
    scene.clock.ahead = STALE_SECONDS + 60
    for named in (True, False):
        assert DOWN in scene.login(issuer, "first", named=named)
    before = len(issuer.asked)
    assert DOWN in scene.login(issuer, "first"), "and says so without asking each time"
    assert len(issuer.asked) == before
    # Back again, it is asked within ten seconds; and a key that was withdrawn meanwhile is gone.
    issuer.redirect = ""
    scene.clock.ahead += RETRY_SECONDS + 1
    assert scene.login(issuer, "first", named=False) == ""
    issuer.add("next")
    old = issuer.keys.pop("first")
    body = {"sub": "job", "aud": "us", "iat": time.time(), "exp": time.time() + 300}
    token = jwt.encode(body, old, "RS256", {"kid": "first"})
    scene.clock.ahead += FRESH_SECONDS + 1
    assert scene.login(issuer, "next") == ""
    with pytest.raises(KmsError, match=UNKNOWN):
        scene.world.run("jwt.login", "jwt", role="ci", jwt=token)


def test_one_place_of_two_that_is_down_takes_its_own_keys_with_it(scene: Scene) -> None:
    first, second = scene.issuers
    pairs = [{"jwks_url": f"{each.url}/jwks", "jwks_ca_pem": each.ca} for each in scene.issuers]
    scene.world.run("jwt.config.write", "jwt", jwks_pairs=pairs)
    assert scene.login(first, "first") == scene.login(second, "second") == ""
    first.redirect = NOWHERE
    scene.clock.ahead = STALE_SECONDS - 60
    assert scene.login(first, "first") == scene.login(second, "second") == ""
    scene.clock.ahead = STALE_SECONDS + 60
    assert DOWN in scene.login(first, "first")
    assert scene.login(second, "second") == ""
    scene.clock.ahead = 2 * STALE_SECONDS
    assert scene.login(second, "second") == "", "it answered all the time"
