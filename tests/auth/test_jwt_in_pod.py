"""`provider_config` kubernetes: the keys of the cluster that this server runs in, asked for as its pod (T-48, T-49)."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.harness import in_pod
from tests.harness.api import Answer, Api
from tests.harness.cluster import DEFAULT, ISSUER, Cluster
from tests.harness.dev import DevServer

IN_POD = {"provider_config": {"provider": "kubernetes"}}
CLIENT = "system:serviceaccount:prod:app"
DISCOVERY, JWKS = "/.well-known/openid-configuration", "/openid/v1/jwks"


class Pod:
    """A server in a pod of a cluster whose keys strangers may not have."""

    def __init__(self, folder: Path) -> None:
        self.cluster = Cluster(folder)
        self.cluster.closed = True
        self.cluster.account("keystead", "server")
        self.cluster.account("prod", "app")
        self.secrets = folder / "serviceaccount"
        self.secrets.mkdir()
        self.renew()
        host, port = self.cluster.url.removeprefix("https://").split(":")
        self.server = DevServer(
            folder / "server",
            workers=1,
            wrapper=[sys.executable, "-P", in_pod.__file__, str(self.secrets)],
            environment={"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port},
        )
        self.server.start()
        self.api = self.server.api()

    def renew(self) -> None:
        """As Kubernetes does from time to time."""
        self.token = self.cluster.token("keystead", "server", audiences=[DEFAULT], jti=secrets.token_hex(8))
        (self.secrets / "token").write_text(f"{self.token}\n")
        (self.secrets / "ca.crt").write_text(self.cluster.ca)

    def method(self) -> str:
        """A new mount with roles, without a configuration."""
        path = f"jwt-{secrets.token_hex(4)}"
        self.api.ok("POST", f"sys/auth/{path}", {"type": "jwt"})
        role = {"role_type": "jwt", "user_claim": "sub", "bound_subject": CLIENT, "bound_audiences": "us"}
        self.api.ok("POST", f"auth/{path}/role/r", role)
        expression = "pb.Auth{policies: ['p'], alias: logical.Alias{name: claims.sub}}"
        self.api.ok("POST", f"auth/{path}/cel/role/p", {"cel_program": {"expression": expression}})
        self.cluster.asked.clear()
        return path

    def login(self, path: str, token: str, how: str = "login", role: str = "r") -> Answer:
        with self.server.api("") as anybody:
            return anybody.post(f"auth/{path}/{how}", {"role": role, "jwt": token})


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    made = Pod(tmp_path_factory.mktemp("pod"))
    yield made
    made.api.close()
    made.server.stop()
    made.cluster.stop()


@pytest.fixture
def pod(running: Pod) -> Iterator[Pod]:
    yield running
    running.cluster.answer = None
    running.renew()


def _app(pod: Pod, **claims: Any) -> str:
    return pod.cluster.token("prod", "app", audiences=["us"], **claims)


def test_the_clusters_keys_are_asked_for_as_the_pod(pod: Pod) -> None:
    path = pod.method()
    pod.api.ok("POST", f"auth/{path}/config", IN_POD)
    assert pod.cluster.asked == [(DISCOVERY, pod.token), (JWKS, pod.token)]
    shown = pod.api.get(f"auth/{path}/config").data
    assert shown["provider_config"] == {"provider": "kubernetes"}
    assert shown["oidc_discovery_url"] == shown["jwks_url"] == ""
    pod.cluster.asked.clear()
    answer = pod.login(path, _app(pod))
    assert answer.status == 200, answer.content
    assert pod.login(path, _app(pod), "cel/login", "p").status == 200
    assert [place for place, _ in pod.cluster.asked] == [DISCOVERY, JWKS], "once for all logins"
    old, now = pod.token, int(time.time())
    other = rsa.generate_private_key(65537, 2048)
    for token, text in (
        (pod.cluster.token("prod", "app", audiences=["us"], key=other), "no known key"),
        (_app(pod, exp=now - 300, iat=now - 900, nbf=now - 900), "token is expired"),
        (pod.cluster.token("prod", "app"), "does not match any expected audience"),
        (pod.cluster.token("prod", "other", audiences=["us"]), "invalid subject"),
        ("x.y.z", "the header cannot be read"),
    ):
        refused = pod.login(path, token)
        assert refused.status == 400
        assert text in refused.errors[0]
    # The next request is made with the token that is there then; who the issuer is, is bound or not.
    pod.renew()
    pod.cluster.asked.clear()
    pod.api.ok("POST", f"auth/{path}/config", {**IN_POD, "bound_issuer": ISSUER})
    assert {bearer for _, bearer in pod.cluster.asked} == {pod.token} != {old}
    assert pod.login(path, _app(pod, iss=ISSUER)).status == 200
    assert pod.login(path, _app(pod)).status == 400, "of another issuer"


def test_what_the_api_server_says_is_checked(pod: Pod, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Cluster(tmp_path / "other")
    path = pod.method()
    try:
        for answer, text in (
            ((401, {}), "it answers 401"),
            ((302, {}), "it answers 302"),
            ((200, b"x"), "not JSON"),
            ((200, {}), "jwks_uri is no https URL"),
            ((200, {"jwks_uri": 7}), "jwks_uri is no https URL"),
            ((200, {"jwks_uri": "http://127.0.0.1/jwks"}), "jwks_uri is no https URL"),
            ((200, {"jwks_uri": f"{other.url}{JWKS}"}), "its certificate does not verify"),
            ((200, {"jwks_uri": f"{pod.cluster.url}/nothing"}), "it answers 404"),
        ):
            pod.cluster.answer = answer
            refused = pod.api.post(f"auth/{path}/config", IN_POD)
            assert refused.status == 400
            assert text in refused.errors[0], refused.errors
            assert pod.token.encode() not in refused.content
        assert not other.asked, "the pod's token goes to nobody else"
        taken = pod.api.post(f"auth/{path}/config", {**IN_POD, "skip_jwks_validation": True})
        assert taken.status == 200
        assert "it answers 404" in taken.json["warnings"][0]
    finally:
        other.stop()


def test_what_kubernetes_puts_there_is_needed(pod: Pod, api: Api) -> None:
    path = pod.method()
    for name, content, text in (
        ("token", None, "error reading service account token file"),
        ("token", "", "error reading service account token file"),
        ("token", "a\nHost: evil", "error reading service account token file"),
        ("token", "of nobody", "it answers 401"),
        ("ca.crt", None, "error reading CA certificate file"),
        ("ca.crt", "\n", "error reading CA certificate file"),
        ("ca.crt", "junk", "PEM is expected"),
    ):
        file = pod.secrets / name
        file.unlink()
        if content is not None:
            file.write_text(content)
        refused = pod.api.post(f"auth/{path}/config", IN_POD)
        assert refused.status == 400, name
        assert text in refused.errors[0], refused.errors
        pod.renew()
    pod.api.ok("POST", f"auth/{path}/config", IN_POD)
    for more, text in (
        ({"jwks_url": f"{pod.cluster.url}{JWKS}"}, "exactly one of"),
        ({"oidc_discovery_url": pod.cluster.url}, "exactly one of"),
        ({"jwt_validation_pubkeys": [pod.cluster.pem]}, "exactly one of"),
        ({"jwks_ca_pem": pod.cluster.ca}, "jwks_ca_pem must not be set when using the kubernetes provider"),
        ({"oidc_discovery_ca_pem": pod.cluster.ca}, "oidc_discovery_ca_pem must not be set when using the"),
        ({"provider_config": {"provider": "kubernetes", "x": "y"}}, 'unknown member "x"'),
    ):
        refused = pod.api.post(f"auth/{path}/config", {**IN_POD, **more})
        assert refused.status == 400, more
        assert text in refused.errors[0], refused.errors
    # And a server that is in no pod says so.
    name = f"jwt-{secrets.token_hex(4)}"
    api.ok("POST", f"sys/auth/{name}", {"type": "jwt"})
    refused = api.post(f"auth/{name}/config", {**IN_POD, "skip_jwks_validation": True})
    assert "error reading service account token file: FileNotFoundError" in refused.errors[0]


def test_the_pods_token_is_written_nowhere(pod: Pod) -> None:
    path = pod.method()
    pod.api.ok("POST", f"auth/{path}/config", IN_POD)
    assert pod.login(path, _app(pod)).status == 200
    secret = pod.token.rpartition(".")[2].encode()
    for file in (pod.server.output, pod.server.errors, *pod.server.data.rglob("*")):
        if file.is_file():
            assert secret not in file.read_bytes(), file
