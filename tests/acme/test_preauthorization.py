"""Authorizations before there is an order (RFC 8555 7.4.1): proven once, used by one order, and what must not pass for one."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from cryptography import x509

from tests.acme import answering
from tests.acme.client import Client, Reply, csr, new_key
from tests.acme.conftest import ClientFactory
from tests.acme.site import Site

HTTP = "http-01"


@pytest.fixture
def open_site(own_site: Site) -> Site:
    """A mount whose directories take pre-authorizations."""
    own_site.configure(pre_authorization=True)
    return own_site


@pytest.fixture
def account(open_site: Site, client_of: ClientFactory) -> Client:
    """An account of its role."""
    made = client_of(open_site.directory)
    made.register().ok(201)
    return made


def ask(client: Client, value: str, kind: str = "dns") -> Reply:
    """NewAuthz."""
    return client.post(client.directory["newAuthz"], {"identifier": {"type": kind, "value": value}})


def challenge(reply: Reply) -> dict[str, Any]:
    return next(one for one in reply.json["challenges"] if one["type"] == HTTP)


@contextmanager
def shown(site: Site, client: Client, *replies: Reply, right: bool = True) -> Iterator[None]:
    """The answers to http-01, right or wrong."""
    tokens = [challenge(reply)["token"] for reply in replies]
    texts = {token: client.key_authorization(token) if right else "wrong" for token in tokens}
    with answering.http(site.server.acme_http_port, answering.shows(texts)):
        yield


def prove(site: Site, client: Client, *names: str) -> list[str]:
    """Valid pre-authorizations: their URLs."""
    replies = [ask(client, name).ok(201) for name in names]
    with shown(site, client, *replies):
        for reply in replies:
            client.post(challenge(reply)["url"], {}).ok()
        urls = [reply.headers["Location"] for reply in replies]
        assert {client.settled(url)["status"] for url in urls} == {"valid"}
    return urls


def test_a_name_that_was_proven_in_advance_makes_one_order_ready_at_once(
    open_site: Site, account: Client
) -> None:
    site, name = open_site, open_site.name()
    assert account.directory["newAuthz"] == f"{site.base}/roles/web/acme/new-authz"
    first = ask(account, name.upper()).ok(201)
    assert (first.json["status"], first.json["identifier"]) == ("pending", {"type": "dns", "value": name})
    assert {one["type"] for one in first.json["challenges"]} == {"http-01", "dns-01", "tls-alpn-01"}
    again = ask(account, name).ok(200)
    assert again.json == first.json
    assert again.headers["Location"] == first.headers["Location"]
    with shown(site, account, first):
        account.post(challenge(first)["url"], {}).ok()
        assert account.settled(first.headers["Location"])["status"] == "valid"
    assert ask(account, name).ok(200).json["status"] == "valid"
    other = site.name()
    mixed = account.order(name, other).ok(201)
    assert mixed.json["authorizations"][0] == first.headers["Location"]
    assert [account.post(url).ok().json["status"] for url in mixed.json["authorizations"]] == [
        "valid",
        "pending",
    ]
    assert mixed.json["status"] == "pending", "the other name is not proven"
    assert account.order(name).ok(201).json["status"] == "pending", "it is used already"
    prove(site, account, name)
    order = account.order(name).ok(201)
    assert order.json["status"] == "ready"
    done = account.finalize(order, csr(new_key(), name)).ok()
    made = account.chain(done)[0]
    assert list(made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value) == [
        x509.DNSName(name)
    ]


def test_addresses_too(open_site: Site, account: Client) -> None:
    open_site.api.ok("POST", f"{open_site.mount}/roles/web", {"allow_any_name": True, "key_type": "any"})
    replies = [ask(account, address, "ip") for address in ("127.0.0.1", "::1")]
    assert [{one["type"] for one in reply.ok(201).json["challenges"]} for reply in replies] == [
        {"http-01", "tls-alpn-01"}
    ] * 2


@pytest.mark.parametrize(
    ("identifier", "problem"),
    [
        (None, "malformed"),
        ("a.example.test", "malformed"),
        ([], "malformed"),
        ({"type": "dns"}, "malformed"),
        ({"type": "dns", "value": 1}, "malformed"),
        ({"type": "dns", "value": "a.example.test", "more": 1}, "malformed"),
        ({"type": "dns", "value": "*.example.test"}, "malformed"),
        ({"type": "dns", "value": "a_b.example.test"}, "rejectedIdentifier"),
        ({"type": "dns", "value": "a.example.test."}, "rejectedIdentifier"),
        ({"type": "dns", "value": "a.example.net"}, "rejectedIdentifier"),
        ({"type": "dns", "value": "127.0.0.1"}, "rejectedIdentifier"),
        ({"type": "ip", "value": "127.0.0.01"}, "rejectedIdentifier"),
        ({"type": "email", "value": "a@example.test"}, "unsupportedIdentifier"),
    ],
)
def test_identifiers_that_cannot_be_are_refused(account: Client, identifier: Any, problem: str) -> None:
    reply = account.post(account.directory["newAuthz"], {"identifier": identifier})
    assert (reply.status in {400, 403}, reply.problem) == (True, problem)


def test_it_is_an_option(own_site: Site, client_of: ClientFactory) -> None:
    site = own_site
    client = client_of(site.directory)
    client.register().ok(201)
    assert "newAuthz" not in client.directory
    url = client.directory["newOrder"].replace("new-order", "new-authz")
    wish = {"identifier": {"type": "dns", "value": site.name()}}
    refused = client.post(url, wish)
    assert (refused.status, refused.problem) == (404, "malformed")
    site.configure(pre_authorization=True)
    opened = client_of(site.directory, client.key)
    opened.register().ok(200)
    name = site.name()
    prove(site, opened, name)
    site.configure(pre_authorization=False)
    assert opened.order(name).ok(201).json["status"] == "pending", "what was proven before is not used either"


def test_who_may_not_use_it_does_not(open_site: Site, account: Client, client_of: ClientFactory) -> None:
    site, name = open_site, open_site.name()
    (url,) = prove(site, account, name)
    other = client_of(site.directory)
    other.register().ok(201)
    assert other.order(name).ok(201).json["status"] == "pending", "another account"
    for payload in (None, {"status": "deactivated"}):
        refused = other.post(url, payload)
        assert (refused.status, refused.problem) == (404, "malformed")
    assert ask(other, name).ok(201).headers["Location"] != url
    elsewhere = client_of(f"{site.base}/acme/directory", account.key)
    elsewhere.register().ok(201)
    assert elsewhere.order(name).ok(201).json["status"] == "pending", "the same key in another directory"
    assert account.order(f"*.{name}").ok(201).json["status"] == "pending", "a wildcard over it"
    assert account.order(f"b.{name}").ok(201).json["status"] == "pending", "a name below it"
    account.post(url, {"status": "deactivated"}).ok()
    assert account.order(name).ok(201).json["status"] == "pending", "it was given up"
    assert ask(account, name).ok(201).headers["Location"] != url
    unsigned = account.send(account.directory["newAuthz"], {"identifier": {"type": "dns", "value": name}})
    assert unsigned.problem == "malformed"
    assert account.http.get(account.directory["newAuthz"]).status_code in {403, 405}


def test_a_failed_one_proves_nothing_and_another_can_be_asked_for(open_site: Site, account: Client) -> None:
    name = open_site.name()
    first = ask(account, name).ok(201)
    with shown(open_site, account, first, right=False):
        account.post(challenge(first)["url"], {}).ok()
        failed = account.settled(first.headers["Location"])
    assert failed["status"] == "invalid"
    (error,) = [one["error"] for one in failed["challenges"] if "error" in one]
    assert error["type"].endswith("incorrectResponse")
    assert account.order(name).ok(201).json["status"] == "pending"
    assert ask(account, name).ok(201).headers["Location"] != first.headers["Location"]


def test_of_many_at_once_one_is_made_and_one_order_gets_it(open_site: Site, account: Client) -> None:
    name = open_site.name()
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: ask(account, name), range(8)))
        assert sorted(reply.status for reply in replies) == [200] * 7 + [201]
        assert len({reply.headers["Location"] for reply in replies}) == 1
        with shown(open_site, account, replies[0]):
            account.post(challenge(replies[0])["url"], {}).ok()
            assert account.settled(replies[0].headers["Location"])["status"] == "valid"
        orders = list(pool.map(lambda _: account.order(name).ok(201).json["status"], range(8)))
    assert sorted(orders) == ["pending"] * 7 + ["ready"]


def test_limits_bind_them(open_site: Site, account: Client) -> None:
    open_site.configure(pending_authorizations=1, orders_per_account=2)
    ask(account, open_site.name()).ok(201)
    refused = [ask(account, open_site.name())]
    open_site.configure(pending_authorizations=0)
    ask(account, open_site.name()).ok(201)
    refused.append(ask(account, open_site.name()))
    for reply in refused:
        assert (reply.status, reply.problem) == (429, "rateLimited")
        assert 1 <= int(reply.headers["Retry-After"]) <= 3600
