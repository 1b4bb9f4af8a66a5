"""Each challenge type: the right answer, and every wrong one refused with the RFC's problem type."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from cryptography import x509

from tests.acme import answering
from tests.acme.attempts import DNS, HTTP, TLS, Attempt, digest, verdicts
from tests.acme.client import Client
from tests.acme.site import Site

INCORRECT, CONNECTION = ("invalid", "incorrectResponse"), ("invalid", "connection")


def test_http_01_proves_names_and_addresses(site: Site, client: Client) -> None:
    name, address = Attempt(site, client), Attempt(site, client, "127.0.0.1")
    assert set(address.offered) == {HTTP, TLS, "url"}
    texts = {name.token(HTTP): name.right(HTTP) + " \r\n", address.token(HTTP): address.right(HTTP)}
    with answering.http(site.server.acme_http_port, answering.shows(texts)) as asked:
        name.begin(HTTP)
        address.begin(HTTP)
        assert name.issued(HTTP) == [x509.DNSName(name.name)]
        assert address.issued(HTTP) == [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    assert sorted(asked) == sorted(answering.WELL_KNOWN + token for token in texts)


def test_http_01_refuses_wrong_answers(site: Site, client: Client) -> None:
    cases: dict[str, Callable[[Attempt], str]] = {
        "another token": lambda one: "x" + one.right(HTTP)[1:],
        "another key": lambda one: one.right(HTTP)[:-1],
        "no key": lambda one: one.token(HTTP),
        "something before it": lambda one: " " + one.right(HTTP),
        "much after it": lambda one: one.right(HTTP) + "\n" + "x" * 2000,
        "nothing": lambda _: "",
        "status 404": lambda one: one.right(HTTP),
    }
    attempts = {case: Attempt(site, client) for case in cases}
    texts = {one.token(HTTP): cases[case](one) for case, one in attempts.items()}
    right = answering.shows(texts)
    missing = attempts["status 404"].token(HTTP)

    def answer(path: str) -> tuple[int, dict[str, str], bytes]:
        status, headers, body = right(path)
        return (404 if path.endswith(missing) else status), headers, body

    with answering.http(site.server.acme_http_port, answer):
        assert verdicts(HTTP, attempts) == dict.fromkeys(cases, INCORRECT)


def test_http_01_does_not_follow_where_a_redirect_must_not_lead(site: Site, client: Client) -> None:
    site.names.host("inside.example.test", "192.168.1.1")
    targets = (
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        "http://[::ffff:169.254.169.254]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://2852039166/",  # 169.254.169.254 in one number
        "http://0xa9fea9fe/",
        "http://0251.0376.0251.0376/",
        "http://inside.example.test/",
        "http://user@127.0.0.1/",
        "http://127.0.0.1:22/",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "again",
    )
    attempts = {target: Attempt(site, client) for target in targets}
    leads = {one.token(HTTP): target for target, one in attempts.items()}

    def answer(path: str) -> tuple[int, dict[str, str], bytes]:
        target = leads[path.rpartition("/")[2]]
        return 302, {"Location": path if target == "again" else target}, b""

    with answering.http(site.server.acme_http_port, answer) as asked:
        assert verdicts(HTTP, attempts) == dict.fromkeys(targets, CONNECTION)
    assert len(asked) == len(targets) - 1 + 11  # only the endless one was followed


def test_http_01_follows_a_redirect_to_another_allowed_name(site: Site, client: Client) -> None:
    attempt, other = Attempt(site, client), site.name("127.0.0.2")
    port, text = site.server.acme_http_port, attempt.right(HTTP).encode()
    location = {"Location": f"http://{other}:{port}/there?x=1"}
    with (
        answering.http(port, lambda _: (301, location, b"")),
        answering.http(port, lambda path: (200 if path == "/there?x=1" else 404, {}, text), "127.0.0.2"),
    ):
        attempt.begin(HTTP)
        attempt.issued(HTTP)


def test_what_has_a_forbidden_address_among_others_is_not_connected_to(site: Site, client: Client) -> None:
    cases = [
        ("127.0.0.1", "10.1.2.3"),
        ("127.0.0.1", "fe80::1"),
        ("127.0.0.1", "::ffff:a01:203"),
        ("169.254.169.254",),
    ]
    for way, port in ((HTTP, site.server.acme_http_port), (TLS, site.server.acme_tls_port)):
        attempts = {case: Attempt(site, client, "", *case) for case in cases}
        with answering.http(port, lambda _: (200, {}, b"")) as asked:
            assert verdicts(way, attempts) == dict.fromkeys(cases, CONNECTION)
        assert asked == []


def test_what_does_not_answer_is_tried_again_and_then_refused(site: Site, client: Client) -> None:
    http = {
        "listens": Attempt(site, client, "", "127.0.0.9"),
        "name": Attempt(site, client, "missing.example.test"),
    }
    broken = Attempt(site, client)
    site.names.broken.add(f"_acme-challenge.{broken.name}")
    tls, dns = (
        {"listens": Attempt(site, client, "", "127.0.0.9")},
        {"record": Attempt(site, client), "answer": broken},
    )
    for way, attempts in ((HTTP, http), (TLS, tls), (DNS, dns)):
        for one in attempts.values():
            one.begin(way)
    assert {case: one.verdict(HTTP) for case, one in http.items()} == {
        "listens": CONNECTION,
        "name": ("invalid", "dns"),
    }
    assert tls["listens"].verdict(TLS) == CONNECTION
    assert {one.verdict(DNS) for one in dns.values()} == {("invalid", "dns")}
    tries = [one for one in site.names.asked if one == (f"_acme-challenge.{dns['record'].name}", "TXT")]
    assert len(tries) == 3


def test_a_name_that_appears_late_is_found_by_the_next_try(site: Site, client: Client) -> None:
    attempt = Attempt(site, client)
    attempt.begin(DNS)
    question = (f"_acme-challenge.{attempt.name}", "TXT")
    while question not in site.names.asked:
        assert client.post(attempt.offered["url"]).ok().json["status"] == "pending"
    site.names.records[question] = [digest(attempt.right(DNS))]
    assert attempt.verdict(DNS) == ("valid", "")


def test_dns_01_takes_the_digest_among_other_records_and_refuses_wrong_ones(
    site: Site, client: Client
) -> None:
    cases: dict[str, Any] = {
        "not a digest": lambda one: [one.right(DNS)],
        "of another token": lambda one: [digest("x" + one.right(DNS))],
        "of the token": lambda one: [digest(one.token(DNS))],
        "padded": lambda one: [digest(one.right(DNS)) + "="],
        "right": lambda one: ["other", digest(one.right(DNS))],
    }
    attempts = {case: Attempt(site, client) for case in cases}
    for case, one in attempts.items():
        site.names.records[f"_acme-challenge.{one.name}", "TXT"] = cases[case](one)
    assert verdicts(DNS, attempts) == {**dict.fromkeys(cases, INCORRECT), "right": ("valid", "")}
    assert attempts["right"].issued(DNS) == [x509.DNSName(attempts["right"].name)]


def test_a_wildcard_is_proven_by_dns_01_alone(site: Site, client: Client) -> None:
    attempt = Attempt(site, client, f"*.{site.name()}")
    assert set(attempt.offered) == {DNS, "url"}
    base = attempt.name.removeprefix("*.")
    site.names.records[f"_acme-challenge.{base}", "TXT"] = [digest(attempt.right(DNS))]
    attempt.begin(DNS)
    assert attempt.issued(DNS) == [x509.DNSName(attempt.name)]


def test_tls_alpn_01_proves_names_and_addresses(site: Site, client: Client) -> None:
    for name, asked_for in (("", ""), ("127.0.0.1", "1.0.0.127.in-addr.arpa")):
        attempt = Attempt(site, client, name)
        file = answering.certificate(site.folder, attempt.name, attempt.right(TLS))
        with answering.tls(site.server.acme_tls_port, file) as asked:
            attempt.begin(TLS)
            attempt.issued(TLS)
        assert asked == [asked_for or attempt.name]


def test_tls_alpn_01_refuses_wrong_answers(site: Site, client: Client) -> None:
    tls = ("invalid", "tls")
    cases: dict[str, tuple[dict[str, Any], tuple[str, ...], tuple[str, str]]] = {
        "no acmeIdentifier": ({"extension": False}, ("acme-tls/1",), INCORRECT),
        "not critical": ({"critical": False}, ("acme-tls/1",), INCORRECT),
        "another digest": ({"key_authorization": "wrong"}, ("acme-tls/1",), INCORRECT),
        "another name": ({"name": "other.example.test"}, ("acme-tls/1",), INCORRECT),
        "a name more": ({"more": ("other.example.test",)}, ("acme-tls/1",), INCORRECT),
        "no protocol": ({}, (), INCORRECT),
        "other protocols": ({}, ("h2", "http/1.1"), INCORRECT),
        "not TLS": ({}, (), tls),
    }
    port, attempts = site.server.acme_tls_port, {}
    with ExitStack() as running:
        for number, (case, (wrong, protocols, _)) in enumerate(cases.items(), 20):
            address = f"127.0.0.{number}"
            one = attempts[case] = Attempt(site, client, "", address)
            if case == "not TLS":
                running.enter_context(answering.http(port, lambda _: (200, {}, b""), address))
                continue
            wanted = {"name": one.name, "key_authorization": one.right(TLS), **wrong}
            file = answering.certificate(site.folder, **wanted)
            running.enter_context(answering.tls(port, file, protocols, address))
        assert verdicts(TLS, attempts) == {case: expected for case, (_, _, expected) in cases.items()}
