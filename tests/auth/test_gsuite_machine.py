"""`provider_config` gsuite without a key: by the account that a server was started with, at ours and at the real one."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.auth.sides import both
from tests.differential.sides import Request, Side
from tests.harness.dev import DevServer
from tests.harness.google import ACCOUNT, ADMIN, HOSTS, MACHINE, Google, Tunnel
from tests.harness.issuer import Issuer
from tests.namespaces.tenants import tenant

NAMED = "GOOGLE_APPLICATION_CREDENTIALS"
ROLE = {"role_type": "jwt", "user_claim": "sub", "groups_claim": "groups", "bound_claims": {"groups": "ops"}}
WAYS: tuple[dict[str, Any], ...] = (
    {},
    {"impersonate_principal": ACCOUNT},
    {"impersonate_principal": ACCOUNT, "gsuite_admin_impersonate": ADMIN},
    {"impersonate_principal": "else@project.iam.gserviceaccount.com", "gsuite_admin_impersonate": ADMIN},
    {"impersonate_principal": ACCOUNT, "gsuite_admin_impersonate": "else@example.test"},
)


class Scene:
    """One Google, a server of ours that was started with an account, and what the real one is to be started with."""

    def __init__(self, folder: Path) -> None:
        for name in ("google", "issuer"):
            (folder / name).mkdir()
        self.google = Google(folder / "google", public=True)
        self.google.groups = {"ann": ["ops"], "bob": []}
        self.issuer = Issuer(folder / "issuer")
        self.issuer.add("one")
        self.tunnel = Tunnel(self.google.port)
        (folder / "ca.pem").write_text(self.google.ca)
        self.files = folder / "ours.json", folder / "theirs.json"
        places = (f"{self.google.address}/token", self.google.token_uri)
        for file, place in zip(self.files, places, strict=True):
            file.write_text(self.google.account(client_email=MACHINE, token_uri=place))
        self.theirs = {"HTTPS_PROXY": self.tunnel.url, "SSL_CERT_FILE": str(folder / "ca.pem")}
        self.theirs[NAMED] = str(self.files[1])
        environment = {NAMED: str(self.files[0])}
        self.server = DevServer(folder / "server", workers=1, environment=environment)
        self.server.start()

    def stop(self) -> None:
        self.server.stop()
        self.tunnel.stop()
        self.issuer.stop()
        self.google.stop()

    def config(self, *, ours: bool, **settings: Any) -> dict[str, Any]:
        body: dict[str, Any] = {"jwks_url": f"{self.issuer.url}/jwks", "jwks_ca_pem": self.issuer.ca}
        given = {"provider": "gsuite", "fetch_groups": True, **settings}
        if ours:
            names = ["127.0.0.1", *HOSTS]
            body |= {"oidc_discovery_ca_pem": self.google.ca, "override_allowed_server_names": names}
            given |= {"directory_url": self.google.address, "iam_credentials_url": self.google.address}
        return {**body, "provider_config": given}

    def login(self, side: Side, who: str = "ann") -> tuple[int, Any]:
        self.google.clear()
        token = self.issuer.sign("one", {"sub": who})
        return side.ask(Request("POST", "login", {"role": "r", "jwt": token}))

    def wishes(self) -> list[Any]:
        """What was asked, and what was signed."""
        noise = {"alt", "prettyPrint"}
        return [
            [
                (place, sorted(set(asked.items()) - {(name, asked.get(name)) for name in noise}))
                for place, asked in self.google.asked
            ],
            [[said.get(name) for name in ("iss", "sub", "scope")] for said in self.google.assertions],
        ]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    made = Scene(tmp_path_factory.mktemp("machine"))
    yield made
    made.stop()


@pytest.mark.slow
def test_both_servers_go_the_same_ways(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in scene.theirs.items():
        monkeypatch.setenv(name, value)
    with both(scene.server, "jwt") as (theirs, ours):
        for side in (theirs, ours):
            assert side.ask(Request("POST", "role/r", ROLE))[0] == 204
        for settings in WAYS:
            seen = []
            for side in (theirs, ours):
                body = scene.config(ours=side is ours, **settings)
                assert side.ask(Request("POST", "config", body))[0] == 204, settings
                ann = scene.login(side)[0]
                seen.append([ann, scene.wishes(), scene.login(side, "bob")[0]])
            assert seen[0] == seen[1], settings
            good = settings in WAYS[:3]
            assert (seen[1][0], seen[1][2]) == (200 if good else 400, 400)


def test_the_machines_account_is_the_root_namespaces_alone(scene: Scene) -> None:
    with scene.server.api() as api:
        path = f"jwt-{secrets.token_hex(4)}"
        api.ok("POST", f"sys/auth/{path}", {"type": "jwt"})
        here = tenant(api)
        here.ok("POST", "sys/auth/jwt", {"type": "jwt"})
        for settings in WAYS[:3]:
            body = scene.config(ours=True, **settings)
            api.ok("POST", f"auth/{path}/config", body)
            refused = here.call("POST", "auth/jwt/config", body)
            assert refused.status == 400
            assert "needs a 'gsuite_service_account' of its own" in refused.errors[0]
        account = scene.google.account(token_uri=f"{scene.google.address}/token")
        key = {"gsuite_service_account": account, "gsuite_admin_impersonate": ADMIN}
        here.ok("POST", "auth/jwt/config", scene.config(ours=True, **key))
        here.ok("POST", "auth/jwt/role/r", ROLE)
        body = {"role": "r", "jwt": scene.issuer.sign("one", {"sub": "ann"})}
        assert here.call("POST", "auth/jwt/login", body, token="").status == 200
        lonely = api.post(f"auth/{path}/config", scene.config(ours=True, gsuite_admin_impersonate=ADMIN))
        assert "'gsuite_admin_impersonate' has no effect without" in lonely.errors[0]


def test_what_google_refuses_and_what_is_no_account(scene: Scene) -> None:
    file, kept = scene.files[0], scene.files[0].read_text()
    with scene.server.api() as api:
        path = f"jwt-{secrets.token_hex(4)}"
        api.ok("POST", f"sys/auth/{path}", {"type": "jwt"})
        api.ok("POST", f"auth/{path}/role/r", ROLE)
        side = Side(api._client, f"auth/{path}")
        google, both_ways = scene.google, scene.config(ours=True, **WAYS[2])
        api.ok("POST", f"auth/{path}/config", both_ways)
        try:
            for place, answer, text in (
                ("POST /token", (403, {}), "token endpoint answers 403"),
                ("POST /v1/", (403, {"error": "secret-text"}), "Google's IAM answers 403"),
                ("POST /v1/", (200, {}), "cannot be understood"),
                ("POST /v1/", (200, {"signedJwt": "a\nb"}), "cannot be understood"),
                ("POST /v1/", (200, {"signedJwt": "x.y.z"}), "token endpoint answers 400"),
            ):
                google.answers = {place: answer}
                status, found = scene.login(side)
                assert (status, text in str(found)) == (400, True), (place, answer, found)
                assert "secret-text" not in str(found)
            google.answers = {}
            other = json.loads(kept) | {"client_email": "else@project.iam.gserviceaccount.com"}
            for content, text in (
                ("x", "no file is read"),
                (json.dumps({"type": "external_account"}), "service_account"),
                (json.dumps(other), "token endpoint answers 400"),
            ):
                file.write_text(content)
                status, found = scene.login(side)
                assert (status, text in str(found)) == (400, True), found
            file.unlink()
            refused = api.post(f"auth/{path}/config", both_ways)
            assert "cannot be read: FileNotFoundError" in refused.errors[0]
        finally:
            google.answers = {}
            file.write_text(kept)
        assert scene.login(side)[0] == 200, "it is read anew for each login"
