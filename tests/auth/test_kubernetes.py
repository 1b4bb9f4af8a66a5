"""Logins of service accounts: an API server that really reviews tokens, the real server beside ours, and every lie."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hvac
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.auth.shapes import form
from tests.auth.sides import both
from tests.differential.rules import Comparison, load
from tests.differential.run import run
from tests.differential.sides import DENIED, Request
from tests.harness.api import Answer, Api
from tests.harness.bao import Bao
from tests.harness.cluster import DEFAULT, Cluster
from tests.harness.dev import DevServer

ALLOWED = Path(__file__).parent / "kubernetes_allowed.toml"
NAMES, SPACES = "bound_service_account_names", "bound_service_account_namespaces"
SELECTOR = "bound_service_account_namespace_selector"
OURS = "keystead"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    running = Cluster(tmp_path_factory.mktemp("cluster"))
    running.account("prod", "app")
    yield running
    running.stop()


@dataclass
class Method:
    """The method, mounted and configured for the cluster."""

    api: Api
    server: DevServer
    path: str
    cluster: Cluster

    def login(self, token: str, role: str = "app") -> Answer:
        with self.server.api("") as anybody:
            return anybody.post(f"auth/{self.path}/login", {"role": role, "jwt": token})

    def refused(self, token: str, text: str = "permission denied", role: str = "app") -> None:
        answer = self.login(token, role)
        assert (answer.status, answer.errors) == (403, [text])

    def role(self, name: str, **fields: Any) -> None:
        self.api.ok("POST", f"auth/{self.path}/role/{name}", {NAMES: "app", SPACES: "prod", **fields})

    def configure(self, **fields: Any) -> None:
        config = {"kubernetes_host": self.cluster.url, "kubernetes_ca_cert": self.cluster.ca, **fields}
        self.api.ok("POST", f"auth/{self.path}/config", config)


@pytest.fixture
def method(api: Api, server: DevServer, cluster: Cluster) -> Method:
    cluster.answer = None
    path = f"k8s-{secrets.token_hex(4)}"
    api.ok("POST", f"sys/auth/{path}", {"type": "kubernetes"})
    made = Method(api, server, path, cluster)
    made.configure(token_reviewer_jwt=cluster.reviewer())
    made.role("app", audience=OURS, token_policies="deploy", token_ttl="10m")
    return made


def _requests(cluster: Cluster) -> Iterator[Request]:
    host, ca = cluster.url, cluster.ca
    yield from (Request("GET", "config"), Request("LIST", "role"), Request("GET", "role/x"))
    for body in ({}, {"role": "a"}, {"role": "a", "jwt": "x"}):
        yield Request("POST", "login", body)
    bad: tuple[dict[str, Any], ...] = (
        {},
        {"kubernetes_host": host},
        {"kubernetes_host": "h:1", "kubernetes_ca_cert": ca},
        {"kubernetes_host": host, "kubernetes_ca_cert": "x"},
        {"kubernetes_host": host, "kubernetes_ca_cert": ca, "pem_keys": ["x"]},
        {"kubernetes_host": host, "disable_local_ca_jwt": True},
    )
    for body in bad:
        yield Request("POST", "config", body)
    good = {NAMES: "app", SPACES: "prod"}
    roles: tuple[dict[str, Any], ...] = (
        {},
        {NAMES: "app"},
        {NAMES: "app,*", SPACES: "*"},
        {NAMES: "app", SPACES: "*,x"},
        {**good, "alias_name_source": "x"},
        {NAMES: "app", SELECTOR: "{}"},
        {NAMES: "app", SELECTOR: "nope"},
        {NAMES: "app", SELECTOR: '{"matchExpressions": [{"key": "a", "operator": "Exists"}]}'},
        {**good, "token_ttl": "1h", "token_max_ttl": "30m"},
        {**good, "token_type": "nope"},
        {**good, "token_policies": "a", "policies": "b", "ttl": "1h"},
        {"token_policies": "a,c", "audience": ""},
    )
    for body in roles:
        yield Request("POST", "role/app", body)
        yield Request("GET", "role/app")
    yield Request("LIST", "role")
    token = cluster.token("prod", "app")
    yield Request("POST", "login", {"role": "app", "jwt": token})
    yield Request(
        "POST",
        "config",
        {"kubernetes_host": host, "kubernetes_ca_cert": ca, "token_reviewer_jwt": cluster.reviewer()},
    )
    yield from (Request("GET", "config"), Request("GET", "config", token=DENIED))
    yield Request(
        "POST",
        "role/aud",
        {NAMES: "*", SPACES: "pr*", "audience": OURS, "alias_name_source": "serviceaccount_name"},
    )
    yield Request("GET", "role/aud")
    yield Request(
        "POST", "role/sel", {NAMES: "*", SELECTOR: "matchLabels:\n  kubernetes.io/metadata.name: prod"}
    )
    yield Request("POST", "role/other", {NAMES: "*", SELECTOR: '{"matchLabels": {"team": "none"}}'})
    for role in ("app", "APP", "aud", "sel", "other", "none"):
        for text in _tokens(cluster):
            yield Request("POST", "login", {"role": role, "jwt": text})
    yield from (Request("DELETE", "role/sel"), Request("DELETE", "role/sel"), Request("GET", "role/sel"))


def _tokens(cluster: Cluster) -> list[str]:
    stranger = rsa.generate_private_key(65537, 2048)
    return [
        cluster.token("prod", "app"),
        cluster.token("prod", "app", audiences=[OURS]),
        cluster.token("prod", "app", audiences=[OURS, DEFAULT]),
        cluster.token("prod", "app", key=stranger),
        cluster.token("prod", "app", exp=1),
        cluster.token("prod", "app", nbf=9999999999),
        cluster.token("prod", "app", iat=9999999999, nbf=1),
        cluster.token("prod", "other"),
        cluster.token("dev", "app"),
        "x",
        "x.y.z",
    ]


@pytest.mark.slow
def test_requests_get_the_real_servers_answers(server: DevServer, cluster: Cluster) -> None:
    cluster.answer = None
    compared = Comparison(load(ALLOWED))
    with both(server, "kubernetes") as (theirs, ours):
        run(theirs, ours, _requests(cluster), compared, form=form)
    print(compared.report())
    assert not compared.different, "\n".join(compared.different[:20])
    assert not compared.unused, compared.unused
    assert compared.requests >= 100


def test_a_pod_logs_in_with_hvac_and_bao(method: Method, server: DevServer, bao: Bao) -> None:
    token = method.cluster.token("prod", "app", audiences=[OURS])
    client = hvac.Client(url=server.address)
    auth = client.auth.kubernetes.login("app", token, mount_point=method.path)["auth"]
    assert (auth["policies"], auth["lease_duration"]) == (["default", "deploy"], 600)
    assert auth["metadata"] == {
        "role": "app",
        "service_account_name": "app",
        "service_account_namespace": "prod",
        "service_account_secret_name": "",
        "service_account_uid": method.cluster.accounts[("prod", "app")],
    }
    assert client.lookup_token()["data"]["display_name"] == f"{method.path}-prod-app"
    assert client.auth.token.renew_self()["auth"]["lease_duration"] == 600
    client.adapter.close()
    told = bao(
        "login",
        "-method=kubernetes",
        f"-path={method.path}",
        "-no-store",
        "-format=json",
        "role=app",
        f"jwt={token}",
    )
    assert json.loads(told)["auth"]["metadata"]["role"] == "app"


def test_every_lie(method: Method, cluster: Cluster) -> None:
    good = cluster.token("prod", "app", audiences=[OURS])
    head, body, signature = good.split(".")
    stranger = rsa.generate_private_key(65537, 2048)
    assert method.login(good).status == 200
    for lie in (
        cluster.token("prod", "app", audiences=[OURS], key=stranger),
        f"{head}.{body}.{signature[:-6]}AAAAAA",
        f"{head}.{body}.",
        f"{head}.{body}",
        "x" * 20_000,
        "eyJhbGciOiJub25lIn0." + body + ".",
        cluster.token("prod", "app", audiences=[OURS], uid="other"),
    ):
        method.refused(lie)
    method.refused(
        cluster.token("prod", "app"),
        "invalid audience (aud) claim: audience claim does not match any expected audience",
    )
    expired = cluster.token("prod", "app", audiences=[OURS], exp=int(time.time()) - 5)
    method.refused(expired)  # within our leeway; the API server has none


def test_what_the_api_server_says_counts(method: Method, cluster: Cluster) -> None:
    """Also where it says less than it should, or something else than the token."""
    good = cluster.token("prod", "app", audiences=[OURS])
    uid = cluster.accounts[("prod", "app")]
    fine = {"username": "system:serviceaccount:prod:app", "uid": uid}
    review = {"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1"}
    try:
        for status, code in (
            ({"authenticated": True, "user": fine, "audiences": [OURS]}, 200),
            ({"authenticated": True, "user": fine}, 403),
            ({"authenticated": True, "user": fine, "audiences": [DEFAULT]}, 403),
            ({"authenticated": "true", "user": fine, "audiences": [OURS]}, 403),
            ({"user": fine, "audiences": [OURS]}, 403),
            ({"authenticated": True, "user": fine, "audiences": [OURS], "error": "no"}, 403),
            ({"authenticated": True, "user": {**fine, "uid": "x"}, "audiences": [OURS]}, 403),
            (
                {
                    "authenticated": True,
                    "user": {"username": "system:admin", "uid": uid},
                    "audiences": [OURS],
                },
                403,
            ),
            (
                {
                    "authenticated": True,
                    "user": {**fine, "username": "system:serviceaccount:dev:app"},
                    "audiences": [OURS],
                },
                403,
            ),
        ):
            cluster.answer = (201, {**review, "status": status})
            assert method.login(good).status == code, status
        answers: tuple[tuple[int, Any], ...] = (
            (500, {}),
            (302, {}),
            (201, b"no json"),
            (201, []),
            (201, {"kind": "Status"}),
            (200, b"x" * 300_000),
        )
        for answer in answers:
            cluster.answer = answer
            method.refused(good)
    finally:
        cluster.answer = None
    assert method.login(good).status == 200


def test_what_was_deleted_in_the_cluster_logs_in_no_more(method: Method, cluster: Cluster) -> None:
    cluster.account("prod", "gone")
    method.role("gone", **{NAMES: "gone"})
    token = cluster.token("prod", "gone")
    assert method.login(token, "gone").status == 200
    assert method.login(token, "gone").status == 200, "good until it ends, as on the peer"
    jti = jwt.decode(token, options={"verify_signature": False})["jti"]
    cluster.gone.add(jti)
    method.refused(token, role="gone")
    again = cluster.token("prod", "gone")
    assert method.login(again, "gone").status == 200
    del cluster.accounts[("prod", "gone")]
    method.refused(again, role="gone")


def test_the_token_may_speak_for_itself(method: Method, cluster: Cluster) -> None:
    method.configure()
    assert method.login(cluster.token("prod", "app", audiences=[OURS, DEFAULT])).status == 200
    method.refused(cluster.token("prod", "app", audiences=[OURS]))
    method.role("app", audience="", **{SPACES: "", SELECTOR: '{"matchLabels": {"a": "b"}}'})
    method.refused(
        cluster.token("prod", "app"),
        "namespace not authorized err=namespace lookup failed: TokenReviewer JWT needs to be configured to use"
        " namespace selectors",
    )


def test_labels_of_the_namespace_choose(method: Method, cluster: Cluster) -> None:
    selector = json.dumps({"matchLabels": {"team": "payments"}})
    method.role("team", **{NAMES: "*", SPACES: "", SELECTOR: selector})
    token = cluster.token("prod", "app")
    method.refused(token, "namespace not authorized", "team")
    cluster.labels["prod"]["team"] = "payments"
    try:
        assert method.login(token, "team").status == 200
    finally:
        del cluster.labels["prod"]["team"]


def test_keys_of_the_cluster_are_checked_too_where_given(method: Method, cluster: Cluster) -> None:
    reviewer = cluster.reviewer()
    method.configure(token_reviewer_jwt=reviewer, pem_keys=[cluster.pem])
    good = cluster.token("prod", "app", audiences=[OURS])
    assert method.login(good).status == 200
    before = cluster.reviews
    method.refused(cluster.token("prod", "app", audiences=[OURS], key=rsa.generate_private_key(65537, 2048)))
    assert cluster.reviews == before, "refused before anybody was asked"
    method.configure(token_reviewer_jwt=reviewer, issuer="https://other.test", disable_iss_validation=False)
    method.refused(good, "invalid issuer (iss) claim")
    shown = method.api.get(f"auth/{method.path}/config").data
    assert shown["token_reviewer_jwt_set"] is True
    assert reviewer not in json.dumps(shown)


def test_an_api_server_that_is_not_there_or_not_the_one(
    method: Method, cluster: Cluster, tmp_path: Path
) -> None:
    other = Cluster(tmp_path)
    try:
        method.configure(kubernetes_ca_cert=other.ca)
        method.refused(cluster.token("prod", "app", audiences=[OURS, DEFAULT]))
        method.configure(kubernetes_host=other.url)
        method.refused(cluster.token("prod", "app", audiences=[OURS, DEFAULT]))
    finally:
        other.stop()
    method.configure(kubernetes_host=other.url, kubernetes_ca_cert=other.ca)
    method.refused(cluster.token("prod", "app", audiences=[OURS, DEFAULT]))


def test_offline_by_the_clusters_keys(method: Method, cluster: Cluster) -> None:
    """The method jwt with the cluster's JWKS: no request to the API server at a login, and no revocation there either."""
    api, path = method.api, f"jwt-{secrets.token_hex(4)}"
    api.ok("POST", f"sys/auth/{path}", {"type": "jwt"})
    config = {
        "jwks_url": f"{cluster.url}/openid/v1/jwks",
        "jwks_ca_pem": cluster.ca,
        "bound_issuer": cluster.url,
    }
    api.ok("POST", f"auth/{path}/config", config)
    role = {
        "role_type": "jwt",
        "user_claim": "sub",
        "bound_audiences": OURS,
        "bound_claims": {"/kubernetes.io/namespace": "prod", "/kubernetes.io/serviceaccount/name": ["app"]},
    }
    api.ok("POST", f"auth/{path}/role/app", role)
    before = cluster.reviews

    def login(token: str) -> Answer:
        with method.server.api("") as anybody:
            return anybody.post(f"auth/{path}/login", {"role": "app", "jwt": token})

    assert login(cluster.token("prod", "app", audiences=[OURS])).status == 200
    assert login(cluster.token("dev", "app", audiences=[OURS])).status == 400
    assert login(cluster.token("prod", "app")).status == 400
    assert login(cluster.token("prod", "app", audiences=[OURS], exp=1)).status == 400
    assert cluster.reviews == before


def test_a_removed_mount_takes_its_tokens_along(method: Method, cluster: Cluster) -> None:
    token = method.login(cluster.token("prod", "app", audiences=[OURS])).json["auth"]["client_token"]
    method.api.ok("DELETE", f"sys/auth/{method.path}")
    with method.server.api(token) as owner:
        assert owner.get("auth/token/lookup-self").status == 403
