"""config/acme and bindings, beside the real server: the same answers, but for fields of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pki.acme.model import AcmeConfig
from tests.acme.site import Site
from tests.pki.peer import Peer, running_peer

OURS = {
    "accounts_per_address",
    "allowed_networks",
    "caa_identities",
    "challenge_types",
    "failed_validations",
    "orders_per_account",
    "pending_authorizations",
    "pre_authorization",
    "profiles",
    "terms_of_service",
    "website",
}
WRITES: tuple[dict[str, Any], ...] = (
    {"enabled": "maybe"},
    {"eab_policy": "x"},
    {"default_directory_policy": "x"},
    {"default_directory_policy": "role:"},
    {"default_directory_policy": "role:nope"},
    {"default_directory_policy": "role:web"},
    {"allowed_roles": ["nope"]},
    {"allowed_roles": ["other"]},
    {"default_directory_policy": "forbid", "allowed_roles": ["web", "other"]},
    {"allowed_roles": []},
    {"allowed_roles": ["web", "*"]},
    {"allowed_roles": "*"},
    {"allowed_issuers": []},
    {"allowed_issuers": ["nope"]},
    {"allowed_issuers": ["default"]},
    {"allowed_issuers": ["default", "*"]},
    {"allowed_issuers": ["*"]},
    {"dns_resolver": "x"},
    {"dns_resolver": "host:53"},
    {"dns_resolver": ":53"},
    {"dns_resolver": "127.0.0.1:53"},
    {"dns_resolver": "[::1]:53"},
    {"dns_resolver": ""},
    {"allow_role_ext_key_usage": True},
    {"enabled": False},
    {"enabled": True, "eab_policy": "new-account-required", "default_directory_policy": "sign-verbatim"},
    {"default_directory_policy": "role:unstored"},
)


PEERS_DEFAULTS = {
    "allow_role_ext_key_usage": False,
    "allowed_issuers": ["*"],
    "allowed_roles": ["*"],
    "default_directory_policy": "sign-verbatim",
    "dns_resolver": "",
    "eab_policy": "not-required",
}


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with running_peer(tmp_path_factory.mktemp("bao")) as running:
        yield running


def shown(status: int, body: dict[str, Any]) -> tuple[int, Any, Any]:
    """Status, data without our fields, and errors."""
    data = body.get("data")
    if isinstance(data, dict):
        data = {name: value for name, value in data.items() if name not in OURS}
    return status, data, body.get("errors")


def test_config_acme_answers_as_the_real_server(own_site: Site, peer: Peer, tmp_path: Path) -> None:
    del tmp_path
    site, api = own_site, own_site.api
    for role in ({}, {"no_store": True}):
        name = "unstored" if role else "other"
        api.ok("POST", f"{site.mount}/roles/{name}", role)
        peer.call("POST", f"pki/roles/{name}", role)
    peer.call("POST", "pki/roles/web", {})
    fresh = f"{site.mount}-fresh"
    api.ok("POST", f"sys/mounts/{fresh}", {"type": "pki"})
    peer.call("POST", "sys/mounts/fresh", {"type": "pki"})
    for body in (None, {"enabled": True}):
        verb = "GET" if body is None else "POST"
        answer = api.call(verb, f"{fresh}/config/acme", body)
        assert shown(answer.status, answer.json) == shown(*peer.call(verb, "fresh/config/acme", body))
    defaults = api.get(f"{fresh}/config/acme").data
    assert set(defaults) >= OURS
    assert defaults["orders_per_account"] == AcmeConfig().orders_per_account
    peer.call("POST", "pki/config/cluster", {"path": "http://127.0.0.1:8200/v1/pki"})
    site.configure(dns_resolver="", enabled=False)
    # Another test may have configured the peer's mount before.
    peer.call("POST", "pki/config/acme", {**PEERS_DEFAULTS, "enabled": False})
    for body in WRITES:
        answer = api.post(f"{site.mount}/config/acme", body)
        assert (body, shown(answer.status, answer.json)) == (
            body,
            shown(*peer.call("POST", "pki/config/acme", body)),
        )
        answer = api.get(f"{site.mount}/config/acme")
        assert shown(answer.status, answer.json) == shown(*peer.call("GET", "pki/config/acme"))


def test_bindings_answer_as_the_real_server(own_site: Site, peer: Peer) -> None:
    site, api = own_site, own_site.api
    peer.call("POST", "pki/roles/web", {})
    peer.call("POST", "pki/config/cluster", {"path": "http://127.0.0.1:8200/v1/pki"})
    peer.data("POST", "pki/config/acme", {"enabled": True})
    for path in ("acme", "roles/web/acme", "issuer/default/acme", "issuer/default/roles/web/acme"):
        ours = api.ok("POST", f"{site.mount}/{path}/new-eab", {})
        theirs = peer.data("POST", f"pki/{path}/new-eab", {})
        assert set(ours) == set(theirs)
        for name in ("acme_directory", "key_type"):
            assert ours[name] == theirs[name]
    ours, theirs = api.list(f"{site.mount}/eab").data, peer.data("LIST", "pki/eab")
    assert len(ours["keys"]) == len(theirs["keys"]) == 4
    assert {frozenset(one) for one in ours["key_info"].values()} == {
        frozenset(one) for one in theirs["key_info"].values()
    }
    first, other = ours["keys"][0], theirs["keys"][0]
    for _ in range(2):  # the second time there is nothing, which both say in a warning
        answer = api.delete(f"{site.mount}/eab/{first}")
        status, body = peer.call("DELETE", f"pki/eab/{other}")
        # The real server answers 200 with no data, which is 204 everywhere else.
        assert (answer.status, status) in {(204, 200), (200, 200)}
        assert [text.replace(first, "") for text in answer.json.get("warnings") or []] == [
            text.replace(other, "") for text in body.get("warnings") or []
        ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"challenge_types": ["tls-sni-01"]},
        {"challenge_types": []},
        {"allowed_networks": ["10.0.0.1/8"]},
        {"caa_identities": ["not a name"]},
        {"profiles": {"x": "nope"}},
        {"orders_per_account": -1},
        {"dns_resolver": "127.0.0.1:0"},
    ],
)
def test_settings_that_mean_nothing_are_refused(site: Site, wrong: dict[str, Any]) -> None:
    before = site.api.get(f"{site.mount}/config/acme").data
    assert site.api.post(f"{site.mount}/config/acme", wrong).status in {400, 500}
    assert site.api.get(f"{site.mount}/config/acme").data == before
