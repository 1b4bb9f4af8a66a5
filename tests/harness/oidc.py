"""OpenID providers of tests: a real one built on authlib, the real server's own, and one that tells lies on demand."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt

from tests.harness import processes
from tests.harness.dev import clean_environment
from tests.harness.https import Https
from tests.harness.issuer import Issuer

USER = {
    "sub": "ann",
    "email": "ann@example.test",
    "groups": ["ops", "dev"],
    "department": "payments",
}


class Authlib:
    """`oidc-provider-mock`: authlib's server. Any client may use it; `ann` is its user."""

    def __init__(self, folder: Path) -> None:
        self.port = processes.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [str(Path(sys.prefix) / "bin" / "oidc-provider-mock"), "--port", str(self.port)]
        command += ["--require-nonce", "true", "--user-claims", json.dumps(USER)]
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            cwd=folder,
            env=clean_environment(folder),
        )
        processes.wait_for(self._up, 60, "oidc-provider-mock")

    def _up(self) -> bool:
        try:
            return httpx.get(f"{self.url}/jwks", trust_env=False, timeout=5).is_success
        except httpx.TransportError:
            return False

    def visit(self, url: str, *, deny: bool = False) -> str:
        """What a browser does there: log in as ann, or say no; where it is sent then."""
        form = {"action": "deny"} if deny else {"sub": "ann"}
        answer = httpx.post(url, data=form, trust_env=False, timeout=30)
        assert answer.status_code == 302, answer.text
        return answer.headers["location"]

    def stop(self) -> None:
        """No more answers."""
        self._process.terminate()
        self._process.wait(20)


class BaoProvider:
    """The provider inside a server that runs already, the real one or ours: it checks PKCE of all clients."""

    def __init__(self, client: httpx.Client, redirects: list[str]) -> None:
        self._client = client
        base = str(client.base_url).removesuffix("/v1/")
        self._name = name = f"p{secrets.token_hex(4)}"
        self._ok("POST", f"sys/auth/{name}", {"type": "userpass"})
        self._ok("POST", f"auth/{name}/users/ann", {"password": "x", "token_policies": "default"})
        key = {"allowed_client_ids": "*", "algorithm": "RS256"}
        self._ok("POST", f"identity/oidc/key/{name}", key)
        accessor = self._ok("GET", "sys/auth")["data"][f"{name}/"]["accessor"]
        template = '{"username": {{identity.entity.aliases.ACCESSOR.name}}}'.replace("ACCESSOR", accessor)
        self._ok("POST", "identity/oidc/scope/user", {"template": template})
        assignment = {"key": name, "redirect_uris": redirects, "assignments": ["allow_all"]}
        self._ok("POST", f"identity/oidc/client/{name}", assignment)
        made = self._ok("GET", f"identity/oidc/client/{name}")["data"]
        self.id, self.secret = made["client_id"], made["client_secret"]
        provider = {"issuer": base, "allowed_client_ids": "*", "scopes_supported": "user"}
        self._ok("POST", f"identity/oidc/provider/{name}", provider)
        self.url = f"{base}/v1/identity/oidc/provider/{name}"

    def _ok(self, verb: str, path: str, body: Any = None) -> Any:
        answer = self._client.request(verb, path, json=body)
        assert answer.is_success, (path, answer.text)
        return json.loads(answer.text) if answer.text.strip() else {}

    def visit(self, url: str) -> tuple[str, str]:
        """Log in as ann and agree; (code, state)."""
        token = self._ok("POST", f"auth/{self._name}/login/ann", {"password": "x"})["auth"]["client_token"]
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        answer = self._client.get(
            f"identity/oidc/provider/{self._name}/authorize", params=asked, headers={"X-Vault-Token": token}
        )
        assert answer.is_success, answer.text
        return answer.json()["code"], answer.json()["state"]


class Liar:
    """A provider whose tokens say what a test wants. `change` edits claims, `token` replaces the whole ID token."""

    def __init__(self, folder: Path) -> None:
        self._issuer = Issuer(folder)
        self._issuer.add("one")
        (folder / "liar").mkdir()
        self._https = Https(folder / "liar", self._handle)
        self.url, self.ca = self._https.url, self._https.ca
        self.change: dict[str, Any] = {}
        self.token: Any = None
        self.answer: tuple[int, Any] | None = None
        self.userinfo: dict[str, Any] = {}
        self.nonce = ""
        self.challenge = ""
        self.exchanges = 0
        self.graph: tuple[int, Any] = (200, {"value": []})
        self.graphed: list[tuple[str, str, bytes]] = []

    @property
    def keys(self) -> Any:
        """The keys that it signs with, by kid."""
        return self._issuer.keys

    def visit(self, url: str) -> str:
        """Remember what was asked; the state."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        self.nonce, self.challenge = asked["nonce"], asked.get("code_challenge", "")
        return asked["state"]

    def id_token(self) -> str:
        """The token that it gives now."""
        times = {"iat": int(time.time()), "exp": int(time.time()) + 300}
        claims = {"iss": self.url, "sub": "ann", "aud": "client", "nonce": self.nonce, **times, **self.change}
        claims = {name: value for name, value in claims.items() if value is not None}
        if self.token:
            told: str = self.token(claims)
            return told
        return jwt.encode(claims, self.keys["one"], "RS256", {"kid": "one"})

    def _handle(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Any]:
        if path == "/.well-known/openid-configuration":
            names = ("authorization", "token", "userinfo")
            places = {f"{name}_endpoint": f"{self.url}/{name}" for name in names}
            methods = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
            return 200, {"issuer": self.url, "jwks_uri": f"{self.url}/jwks", **places, **methods}
        if path == "/jwks":
            return 200, self._issuer.jwks()
        if path == "/userinfo":
            return 200, self.userinfo
        if path.startswith("/v1.0/"):  # as Microsoft Graph, which a token with too many groups points to
            self.graphed.append((f"{method} {path}", headers.get("Authorization", ""), body))
            return self.graph
        return self._exchange(body) if path == "/token" else (404, {})

    def _exchange(self, body: bytes) -> tuple[int, Any]:
        self.exchanges += 1
        asked = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        digest = hashlib.sha256(asked.get("code_verifier", "").encode()).digest()
        good = base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == self.challenge
        if not good or asked.get("client_secret") != "secret" or asked.get("code") != "code":
            return 400, {"error": "invalid_grant"}
        return self.answer or (
            200,
            {"id_token": self.id_token(), "access_token": "access", "token_type": "Bearer"},
        )

    def stop(self) -> None:
        """No more answers."""
        self._https.stop()
        self._issuer.stop()
