"""A relying party, a person, and what a browser sends, without a browser."""

from __future__ import annotations

import html
import re
import secrets
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx

from tests.entities.test_live import Person, World
from tests.entities.test_provider import Party

UI = "/ui/vault/identity/oidc/provider/"
_INPUT = re.compile(r'<input type="hidden" name="([^"]*)" value="([^"]*)">')


@dataclass
class Desk:
    """One client of one provider, and ann with a password."""

    world: World
    party: Party
    ann: Person

    @classmethod
    def of(cls, world: World, callback: str = "https://app.example.test/callback") -> Desk:
        party = Party(world, callback=callback).register()
        return cls(world, party, world.person("ann"))

    @property
    def place(self) -> str:
        return f"{UI}{self.party.name}/authorize"

    def asked(self, **change: str) -> dict[str, str]:
        verifier = secrets.token_urlsafe(48)
        base = {
            "client_id": self.party.client_id,
            "redirect_uri": self.party.callback,
            "response_type": "code",
            "scope": "openid",
            "state": "the-state",
            "nonce": "n",
            "code_challenge": verifier,
            "code_challenge_method": "plain",
        }
        return {**base, **change}

    def browser(self) -> httpx.Client:
        return httpx.Client(base_url=self.world.server.address, trust_env=False, timeout=30)

    def filled(self, page: str, **change: str) -> dict[str, str]:
        """The form as ann sends it."""
        hidden = {html.unescape(name): html.unescape(value) for name, value in _INPUT.findall(page)}
        typed = {"method": "userpass", "mount": self.ann.mount, "username": "ann", "secret": "pw"}
        return {**hidden, **typed, **change}

    def exchange(self, location: str, verifier: str) -> dict[str, Any]:
        """What the service does with the code."""
        code = parse_qs(urlsplit(location).query)["code"][0]
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.party.callback,
            "client_id": self.party.client_id,
            "client_secret": self.party.secret,
            "code_verifier": verifier,
        }
        answer = httpx.post(self.party.metadata["token_endpoint"], data=fields, trust_env=False, timeout=30)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def url(self, asked: dict[str, str]) -> str:
        return f"{self.place}?{urlencode(asked)}"
