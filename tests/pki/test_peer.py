"""The same requests to the real server and to ours: equal shapes, equal texts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kms.errors import KmsError
from tests.pki.bench import Bench
from tests.pki.peer import Peer, running_peer


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    with running_peer(tmp_path_factory.mktemp("peer")) as server:
        yield server


OURS = {"profile": "", "no_rev_avail": False, "renewable": False}  # fields that the peer does not have
ROLES: list[dict[str, Any]] = [
    {},
    {"key_type": "ec"},
    {"key_type": "ec", "key_bits": 384, "max_ttl": 172800, "ttl": 3600},
    {"key_type": "ed25519", "allowed_domains": ["a.b", "c.d"]},
    {"key_type": "any", "organization": ["O"], "country": ["DE"], "server_flag": False},
    {
        "allowed_ip_sans_cidr": ["10.0.0.0/8"],
        "allowed_uri_sans": ["spiffe://a/*"],
        "cn_validations": ["disabled"],
    },
    {"not_after": "2099-01-01T00:00:00Z", "not_before_bound": "duration", "not_after_bound": "ttl-limited"},
]


@pytest.mark.parametrize("settings", ROLES)
def test_roles_read_back_alike(ca: Bench, peer: Peer, settings: dict[str, Any]) -> None:
    theirs = {**peer.data("POST", "pki/roles/same", settings), **OURS}
    assert ca.do("role-write", name="same", **settings) == theirs
    assert ca.do("role-read", name="same") == {**peer.data("GET", "pki/roles/same"), **OURS}


BAD_ROLES: list[dict[str, Any]] = [
    {"key_type": "foo"},
    {"key_type": "ec", "key_bits": 100},
    {"ttl": 36000, "max_ttl": 3600},
    {"allowed_ip_sans_cidr": ["Nonsense"]},
    {"ext_key_usage_oids": ["foo"]},
    {"allowed_other_sans": ["foo"]},
    {"cn_validations": ["foo"]},
    {"not_before_bound": "zz"},
    {"not_after_bound": "zz"},
]


@pytest.mark.parametrize("settings", BAD_ROLES)
def test_roles_are_refused_alike(ca: Bench, peer: Peer, settings: dict[str, Any]) -> None:
    with pytest.raises(KmsError) as ours:
        ca.do("role-write", name="bad", **settings)
    assert ours.value.detail == peer.refusal("pki/roles/bad", settings)


WEB: dict[str, Any] = {
    "allowed_domains": ["example.com"],
    "allow_subdomains": True,
    "key_type": "ec",
    "allowed_ip_sans_cidr": ["10.0.0.0/8"],
    "allowed_uri_sans": ["spiffe://td/*"],
}
REFUSED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"common_name": "bad.org"}),
    ({}, {}),
    ({}, {"common_name": "example.com"}),
    ({}, {"common_name": "a_b.example.com"}),
    ({}, {"common_name": "*.*.example.com"}),
    ({}, {"common_name": "A.EXAMPLE.com"}),
    ({}, {"common_name": "1.2.3.4"}),
    ({"allow_wildcard_certificates": False}, {"common_name": "*.example.com"}),
    ({"allow_localhost": False}, {"common_name": "localhost"}),
    ({}, {"common_name": "a.example.com", "alt_names": "b.example.com,bad.org"}),
    ({}, {"common_name": "a.example.com", "alt_names": "me@bad.org"}),
    ({}, {"common_name": "a.example.com", "ip_sans": "192.168.0.1"}),
    ({}, {"common_name": "a.example.com", "ip_sans": "xx"}),
    ({"allow_ip_sans": False}, {"common_name": "a.example.com", "ip_sans": "10.0.0.1"}),
    ({}, {"common_name": "a.example.com", "uri_sans": "spiffe://other/x"}),
    ({"allowed_uri_sans": []}, {"common_name": "a.example.com", "uri_sans": "spiffe://other/x"}),
    ({}, {"common_name": "a.example.com", "other_sans": "1.2.3.4;utf8:x"}),
    ({}, {"common_name": "a.example.com", "user_ids": "x"}),
    ({}, {"common_name": "a.example.com", "serial_number": "x"}),
    ({}, {"common_name": "a.example.com", "format": "bogus"}),
    ({}, {"common_name": "a.example.com", "ttl": 60, "not_after": "2099-01-01T00:00:00Z"}),
    ({"not_after_bound": "forbid"}, {"common_name": "a.example.com", "not_after": "2099-01-01T00:00:00Z"}),
    ({"not_before_bound": "forbid"}, {"common_name": "a.example.com", "not_before": "2020-01-01T00:00:00Z"}),
    (
        {"not_after_bound": "ttl-limited", "max_ttl": 3600},
        {"common_name": "a.example.com", "not_after": "2099-01-01T00:00:00Z"},
    ),
    (
        {"not_before_bound": "duration"},
        {"common_name": "a.example.com", "not_before": "2020-12-09T00:00:00Z"},
    ),
    ({"key_type": "any"}, {"common_name": "a.example.com"}),
]
LISTS = ("alt_names", "ip_sans", "uri_sans", "other_sans", "user_ids")


def coerced(request: dict[str, Any]) -> dict[str, Any]:
    """As the door hands it on."""
    return {name: value.split(",") if name in LISTS else value for name, value in request.items()}


@pytest.mark.parametrize(("role", "request_"), REFUSED)
def test_requests_are_refused_alike(
    ca: Bench, peer: Peer, role: dict[str, Any], request_: dict[str, Any]
) -> None:
    peer.data("POST", "pki/roles/web", {**WEB, **role})
    ca.do("role-write", name="web", **{**WEB, **role})
    with pytest.raises(KmsError) as ours:
        ca.do("issue", role="web", **coerced(request_))
    assert ours.value.detail == peer.refusal("pki/issue/web", request_)


def test_answers_have_the_same_members(ca: Bench, peer: Peer) -> None:
    peer.data("POST", "pki/roles/web", WEB)
    ca.do("role-write", name="web", **WEB)
    theirs = peer.data("POST", "pki/issue/web", {"common_name": "a.example.com"})
    ours = ca.issue()
    assert set(ours) == set(theirs)
    assert {name: type(value) for name, value in ours.items()} == {
        name: type(value) for name, value in theirs.items()
    }
    serials = {"ours": ours["serial_number"], "theirs": theirs["serial_number"]}
    assert set(ca.do("cert", serial=serials["ours"])) == set(
        peer.data("GET", f"pki/cert/{serials['theirs']}")
    )
    mine = ca.do("revoke", serial_number=serials["ours"])
    other = peer.data("POST", "pki/revoke", {"serial_number": serials["theirs"]})
    assert set(mine) == set(other)
    assert mine["state"] == other["state"]
    assert set(ca.do("cert", serial=serials["ours"])) == set(
        peer.data("GET", f"pki/cert/{serials['theirs']}")
    )


SAME_DATA = {
    "config-urls-read": "pki/config/urls",
    "config-crl-read": "pki/config/crl",
}
SAME_MEMBERS = {
    "config-issuers-read": "pki/config/issuers",
    "config-keys-read": "pki/config/keys",
    "cert-ca": "pki/cert/ca",
    "cert-crl": "pki/cert/crl",
    "cert-ca-chain": "pki/cert/ca_chain",
}


@pytest.mark.parametrize(("operation", "path"), SAME_DATA.items())
def test_settings_are_the_same(ca: Bench, peer: Peer, operation: str, path: str) -> None:
    ours = ca.do(operation)
    ours.pop("shards", None)  # of our own
    assert ours == peer.data("GET", path)


@pytest.mark.parametrize(("operation", "path"), SAME_MEMBERS.items())
def test_members_are_the_same(ca: Bench, peer: Peer, operation: str, path: str) -> None:
    assert set(ca.do(operation)) == set(peer.data("GET", path))


def test_issuers_and_keys_have_the_same_members(ca: Bench, peer: Peer) -> None:
    theirs = peer.data("LIST", "pki/issuers")
    ours = ca.do("issuers-list")
    assert set(ours) == set(theirs)
    assert set(ours["key_info"][ours["keys"][0]]) == set(theirs["key_info"][theirs["keys"][0]])
    read = peer.data("GET", "pki/issuer/default")
    assert set(ca.do("issuer-read", issuer_ref="default")) == set(read)
    assert set(ca.do("issuer-json", issuer_ref="default")) == set(peer.data("GET", "pki/issuer/default/json"))
    keys = peer.data("LIST", "pki/keys")
    assert set(ca.do("keys-list")) == set(keys)
    theirs_key = peer.data("GET", f"pki/key/{keys['keys'][0]}")
    assert set(ca.do("key-read", key_ref="default")) == {*theirs_key, "protection"}


def test_an_intermediate_is_made_alike(ca: Bench, peer: Peer) -> None:
    peer.call("POST", "sys/mounts/int", {"type": "pki"})
    wanted = {"common_name": "Int", "key_type": "ec"}
    theirs = peer.data("POST", "int/intermediate/generate/internal", wanted)
    ours = ca.do("intermediate-generate", "int", **wanted, exported="internal")
    assert set(ours) == set(theirs)
    # Each signs the other's request: the formats are one.
    ours_signed = peer.data("POST", "pki/root/sign-intermediate", {"csr": ours["csr"], "common_name": "Int"})
    theirs_signed = ca.do("sign-intermediate", csr=theirs["csr"], common_name="Int")
    assert set(ours_signed) == set(theirs_signed)
    imported = ca.do("intermediate-set-signed", "int", certificate=ours_signed["certificate"])
    assert set(imported) == set(
        peer.data("POST", "int/intermediate/set-signed", {"certificate": theirs_signed["certificate"]})
    )


REVOKE: list[dict[str, Any]] = [
    {},
    {"serial_number": "11:22"},
    {"serial_number": "11:22", "certificate": "x"},
]


@pytest.mark.parametrize("request_", REVOKE)
def test_revocations_are_refused_alike(ca: Bench, peer: Peer, request_: dict[str, Any]) -> None:
    with pytest.raises(KmsError) as ours:
        ca.do("revoke", **request_)
    assert ours.value.detail == peer.refusal("pki/revoke", request_)
