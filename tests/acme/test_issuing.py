"""From a proven name to a certificate, its renewal and its revocation."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.acme.attempts import DNS, Attempt, digest
from tests.acme.client import Client, Reply, b64, csr, new_key
from tests.acme.conftest import ClientFactory
from tests.acme.site import Site


def proven(site: Site, client: Client, *names: str, **wish: Any) -> Reply:
    """An order that is ready."""
    order = client.order(*(names or (site.name(),)), **wish).ok(201)
    for offered, url in zip(client.challenges(order), order.json["authorizations"], strict=True):
        name = client.post(url).ok().json["identifier"]["value"]
        text = digest(client.key_authorization(offered[DNS]["token"]))
        site.names.records.setdefault((f"_acme-challenge.{name}", "TXT"), []).append(text)
        client.post(offered[DNS]["url"], {}).ok()
    assert client.settled(order.headers["Location"])["status"] == "ready"
    return order


def names_of(order: Reply) -> list[str]:
    return [one["value"] for one in order.json["identifiers"]]


def issued(site: Site, client: Client, *names: str, key: Any = None, **wish: Any) -> x509.Certificate:
    """The certificate of such an order."""
    order = proven(site, client, *names, **wish)
    done = client.finalize(order, csr(key or new_key(), *names_of(order))).ok()
    return client.chain(done)[0]


def der(certificate: x509.Certificate) -> str:
    return b64(certificate.public_bytes(Encoding.DER))


def ari_name(certificate: x509.Certificate) -> str:
    key_id = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert key_id is not None
    serial = certificate.serial_number
    return f"{b64(key_id)}.{b64(serial.to_bytes(serial.bit_length() // 8 + 1))}"


# -- finalize ----------------------------------------------------------------------------------------


def test_a_csr_names_what_the_order_does_and_no_more(site: Site, client: Client) -> None:
    order = proven(site, client, site.name(), site.name())
    first, second = names_of(order)
    key = new_key()
    wrong = [
        csr(key, first),
        csr(key, first, second, "c.example.test"),
        csr(key, first, common_name="c.example.test"),
        csr(key, first, second, common_name="c.example.test"),
        csr(key, first, second, addresses=(ip_address("127.0.0.1"),)),
        csr(key),
        csr(client.key, first, second),  # the account's key
        csr(key, first, second)[:-1] + b"\0",  # the signature
        b"x",
    ]
    for text in wrong:
        assert client.finalize(order, text).problem == "badCSR"
    assert client.post(order.json["finalize"], {}).problem == "malformed"
    done = client.finalize(order, csr(key, first.upper(), common_name=second)).ok()
    made = client.chain(done)[0]
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert sorted(names.get_values_for_type(x509.DNSName)) == sorted([first, second])
    usages = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_one_of_many_requests_to_finalize_gets_the_certificate(site: Site, client: Client) -> None:
    order = proven(site, client)
    request = csr(new_key(), *names_of(order))
    with ThreadPoolExecutor(10) as pool:
        replies = list(pool.map(lambda _: client.finalize(order, request), range(10)))
    assert sorted(reply.status for reply in replies) == [200] + [403] * 9
    assert {reply.problem for reply in replies if reply.status == 403} == {"orderNotReady"}


def test_an_order_is_not_ready_before_each_of_its_names_is_proven(site: Site, client: Client) -> None:
    """T-53."""
    names = [site.name() for _ in range(3)]
    for missing in range(3):
        order = client.order(*names).ok(201)
        for number, offered in enumerate(client.challenges(order)):
            if number == missing:
                continue
            text = digest(client.key_authorization(offered[DNS]["token"]))
            site.names.records.setdefault((f"_acme-challenge.{names[number]}", "TXT"), []).append(text)
            client.post(offered[DNS]["url"], {}).ok()
            assert client.settled(offered["url"])["status"] == "valid"
        refused = client.finalize(order, csr(new_key(), *names))
        assert (refused.status, refused.problem) == (403, "orderNotReady")


def test_a_name_that_was_given_up_or_a_role_that_changed_stops_the_order(
    own_site: Site, client_of: ClientFactory
) -> None:
    site, client = own_site, client_of(own_site.directory)
    client.register().ok(201)
    order = proven(site, client)
    role = {"allowed_domains": ["elsewhere.test"]}
    site.api.call(
        "PATCH",
        f"{site.mount}/roles/web",
        role,
        headers={"Content-Type": "application/merge-patch+json"},
    )
    refused = client.finalize(order, csr(new_key(), *names_of(order)))
    assert (refused.status, refused.problem) == (403, "rejectedIdentifier")
    given_up = client.post(order.json["authorizations"][0], {"status": "deactivated"}).ok()
    assert given_up.json["status"] == "deactivated"
    assert client.post(order.headers["Location"]).json["status"] == "invalid"


def test_times_that_are_asked_for_are_kept_within_the_role(site: Site, client: Client) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    wanted = now.replace(tzinfo=None).isoformat() + "Z"
    order = proven(site, client, notAfter="2099-01-01T00:00:00Z")
    refused = client.finalize(order, csr(new_key(), *names_of(order)))
    assert (refused.status, refused.problem) == (400, "badCSR")
    assert order.json["notAfter"] == "2099-01-01T00:00:00Z"
    assert client.order(site.name(), notBefore=wanted).ok(201).json["notBefore"] == wanted


# -- which role, which chain -------------------------------------------------------------------------


def test_profiles_choose_a_role_in_the_directory_without_one(
    own_site: Site, client_of: ClientFactory
) -> None:
    site = own_site
    site.api.ok(
        "POST",
        f"{site.mount}/roles/short",
        {"allow_any_name": True, "key_type": "any", "ttl": "10m", "organization": "Short"},
    )
    site.configure(profiles={"short": "short"}, default_directory_policy="role:web")
    client = client_of(f"{site.base}/acme/directory")
    assert client.directory["meta"]["profiles"] == {"short": "role short"}
    client.register().ok(201)
    made = issued(site, client, profile="short")
    assert (made.not_valid_after_utc - made.not_valid_before_utc).total_seconds() < 700
    assert made.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)[0].value == "Short"
    assert not issued(site, client).subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)
    site.configure(allowed_roles=["web"])
    assert client.order(site.name(), profile="short").problem == "unauthorized"


def test_each_directory_issues_by_its_issuer(own_site: Site, client_of: ClientFactory) -> None:
    site = own_site
    site.api.ok(
        "POST",
        f"{site.mount}/root/generate/internal",
        {"common_name": "Second Root", "key_type": "ec", "issuer_name": "second"},
    )
    for path, root in (
        ("acme", "Test Root"),
        ("issuer/second/acme", "Second Root"),
        ("issuer/second/roles/web/acme", "Second Root"),
    ):
        client = client_of(f"{site.base}/{path}/directory")
        client.register().ok(201)
        made = issued(site, client)
        assert made.issuer.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value == root
    site.configure(allowed_issuers=["default"])
    assert client.http.head(client.directory["newNonce"]).status_code == 403


def test_alternate_chains_are_offered(own_site: Site, client_of: ClientFactory) -> None:
    """An intermediate that two roots have certified."""
    site, api = own_site, own_site.api
    made = api.ok(
        "POST",
        f"{site.mount}/intermediate/generate/internal",
        {"common_name": "Test Intermediate", "key_type": "ec"},
    )
    api.ok(
        "POST",
        f"{site.mount}/root/generate/internal",
        {"common_name": "Second Root", "key_type": "ec", "issuer_name": "second"},
    )
    for ref in ("default", "second"):
        signed = api.ok(
            "POST",
            f"{site.mount}/issuer/{ref}/sign-intermediate",
            {"csr": made["csr"], "common_name": "Test Intermediate", "ttl": "500h"},
        )
        imported = api.ok(
            "POST", f"{site.mount}/intermediate/set-signed", {"certificate": signed["certificate"]}
        )
    (issuer,) = imported["imported_issuers"]
    api.ok("POST", f"{site.mount}/config/issuers", {"default": issuer})
    client = client_of(site.directory)
    client.register().ok(201)
    order = proven(site, client)
    done = client.finalize(order, csr(new_key(), *names_of(order))).ok()
    reply = client.post(done.json["certificate"]).ok()
    assert reply.headers["content-type"] == "application/pem-certificate-chain"
    links = [text for text in reply.headers.get_list("link", split_commas=True) if "alternate" in text]
    assert links == [f'<{done.json["certificate"]}/1>;rel="alternate"']
    first = x509.load_pem_x509_certificates(reply.content)
    other = x509.load_pem_x509_certificates(client.post(f"{done.json['certificate']}/1").ok().content)
    assert first[0] == other[0]
    assert len(first) == len(other) == 2, "roots are left out"
    roots = {
        chain[1].issuer.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value for chain in (first, other)
    }
    assert roots == {"Test Root", "Second Root"}
    assert client.post(f"{done.json['certificate']}/2").status == 404
    # Two issuers with one key each have a CRL, which NSS takes for two of one: not for the relying parties.
    api.ok("DELETE", f"sys/mounts/{site.mount}")
    assert client.http.get(site.directory).status_code in {403, 404}


# -- renewal information -----------------------------------------------------------------------------


def test_renewal_information_and_one_replacement(
    site: Site, client: Client, client_of: ClientFactory
) -> None:
    name = site.name()
    old = issued(site, client, name)
    url = f"{client.directory['renewalInfo']}/{ari_name(old)}"
    reply = client.http.get(url)
    window = reply.json()["suggestedWindow"]
    assert old.not_valid_before_utc.isoformat() < window["start"] < window["end"]
    assert window["end"] < old.not_valid_after_utc.isoformat()
    assert int(reply.headers["Retry-After"]) > 0
    for wrong, status in (
        ("x", 400),
        ("AAAA.AAAA", 404),
        ("*" + ari_name(old)[1:], 400),
        (ari_name(old) + "AA", 400),
    ):
        assert client.http.get(f"{client.directory['renewalInfo']}/{wrong}").status_code == status
    other = client_of(site.directory)
    other.register().ok(201)
    assert other.order(name, replaces=ari_name(old)).problem == "unauthorized"
    assert client.order(site.name(), replaces=ari_name(old)).problem == "malformed", "no name in common"
    order = proven(site, client, name, replaces=ari_name(old))
    assert order.json["replaces"] == ari_name(old)
    second = proven(site, client, name, replaces=ari_name(old))
    client.finalize(order, csr(new_key(), name)).ok()
    taken = client.order(name, replaces=ari_name(old))
    assert (taken.status, taken.problem) == (409, "alreadyReplaced")
    assert client.finalize(second, csr(new_key(), name)).problem == "alreadyReplaced"
    client.post(client.directory["revokeCert"], {"certificate": der(old)}).ok()
    window = client.http.get(url).json()["suggestedWindow"]
    assert window["end"][:19] <= datetime.now(UTC).isoformat()[:19]


# -- revocation --------------------------------------------------------------------------------------


def revoked(site: Site, certificate: x509.Certificate) -> x509.RevokedCertificate | None:
    crl = x509.load_der_x509_crl(site.api.get(f"{site.mount}/crl").content)
    return crl.get_revoked_certificate_by_serial_number(certificate.serial_number)


@pytest.mark.parametrize("by", ["account", "key", "authorizations"])
def test_a_certificate_is_revoked_by_whom_it_belongs_to(
    site: Site, client: Client, client_of: ClientFactory, by: str
) -> None:
    key, name = new_key(), site.name()
    certificate = issued(site, client, name, key=key)
    url = client.directory["revokeCert"]
    stranger = client_of(site.directory)
    stranger.register().ok(201)
    wish = {"certificate": der(certificate)}
    assert stranger.post(url, wish).problem == "unauthorized"
    assert client_of(site.directory).post(url, wish).problem == "unauthorized"
    sender = {"account": client, "key": client_of(site.directory, key), "authorizations": stranger}[by]
    if by == "authorizations":
        proven(site, stranger, name)
    assert revoked(site, certificate) is None
    assert sender.post(url, wish | {"reason": 1}).ok().content == b""
    entry = revoked(site, certificate)
    assert entry is not None
    reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    assert reason is x509.ReasonFlags.key_compromise
    assert sender.post(url, wish).problem == "alreadyRevoked"


def test_revocations_that_cannot_be_are_refused(site: Site, client: Client) -> None:
    certificate = issued(site, client)
    url, text = client.directory["revokeCert"], der(certificate)
    for reason in (2, 6, 7, 8, 10, 11, -1, True, "superseded"):
        assert client.post(url, {"certificate": text, "reason": reason}).problem == "badRevocationReason"
    for wrong in ("", b64(b"x"), text[:-2], 1, None):
        assert client.post(url, {"certificate": wrong}).problem == "malformed"
    raw = bytearray(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    raw[-1] ^= 1  # another signature under the same serial number
    assert client.post(url, {"certificate": b64(bytes(raw))}).problem == "malformed"
    assert revoked(site, certificate) is None


# -- CAA ---------------------------------------------------------------------------------------------


def test_caa_is_asked_for_each_name_of_an_order(own_site: Site, client_of: ClientFactory) -> None:
    """T-53, and RFC 8657."""
    site = own_site
    site.configure(caa_identities=["ca.example"], failed_validations=0)
    client = client_of(site.directory)
    client.register().ok(201)
    assert client.directory["meta"]["caaIdentities"] == ["ca.example"]
    site.names.host("closed.example.test", "127.0.0.1")
    site.names.records["closed.example.test", "CAA"] = [(0, "issue", "other.example")]
    cases: dict[str, tuple[list[tuple[int, str, str]], str]] = {
        "none": ([], "valid"),
        "us": ([(0, "issue", "ca.example")], "valid"),
        "among others": ([(0, "issue", "other.example"), (0, "issue", "CA.example; policy=x")], "valid"),
        "mail only": ([(0, "iodef", "mailto:x@example.test")], "valid"),
        "another": ([(0, "issue", "other.example")], "caa"),
        "nobody": ([(0, "issue", ";")], "caa"),
        "critical": ([(128, "future", "x"), (0, "issue", "ca.example")], "caa"),
        "this account": ([(0, "issue", f"ca.example; accounturi={client.kid}")], "valid"),
        "another account": ([(0, "issue", f"ca.example; accounturi={client.kid}x")], "caa"),
        "this method": ([(0, "issue", "ca.example; validationmethods=http-01,dns-01")], "valid"),
        "another method": ([(0, "issue", "ca.example; validationmethods=http-01")], "caa"),
    }
    attempts = {case: Attempt(site, client) for case in cases}
    attempts["above"] = Attempt(site, client, "a.b.closed.example.test")
    attempts["wildcard"] = Attempt(site, client, f"*.{site.name()}")
    attempts["answer"] = Attempt(site, client)
    for case, one in attempts.items():
        base = one.name.removeprefix("*.")
        site.names.records[f"_acme-challenge.{base}", "TXT"] = [digest(one.right(DNS))]
        if case in cases:
            site.names.records[base, "CAA"] = list(cases[case][0])
    base = attempts["wildcard"].name.removeprefix("*.")
    site.names.records[base, "CAA"] = [(0, "issue", "ca.example"), (0, "issuewild", "other.example")]
    site.names.broken.add(attempts["answer"].name)
    for one in attempts.values():
        one.begin(DNS)
    found = {case: one.verdict(DNS) for case, one in attempts.items()}
    expected = {case: answer for case, (_, answer) in cases.items()}
    expected |= {"above": "caa", "wildcard": "caa", "answer": "dns"}
    assert {case: problem or status for case, (status, problem) in found.items()} == expected


def test_one_bad_name_of_many_stops_an_order_and_each_is_asked_about_once(
    own_site: Site, client_of: ClientFactory
) -> None:
    """T-53: as many questions as names, whichever of them is the bad one (Let's Encrypt asked for one name N times)."""
    site = own_site
    site.configure(caa_identities=["ca.example"], failed_validations=0)
    client = client_of(site.directory)
    client.register().ok(201)
    good = [site.name() for _ in range(4)]
    proven(site, client, *good)
    for bad in (0, 2, 4):
        names = [site.name() for _ in range(5)]
        site.names.records[names[bad], "CAA"] = [(0, "issue", "other.example")]
        order = client.order(*names).ok(201)
        for offered, url in zip(client.challenges(order), order.json["authorizations"], strict=True):
            name = client.post(url).ok().json["identifier"]["value"]
            text = digest(client.key_authorization(offered[DNS]["token"]))
            site.names.records[f"_acme-challenge.{name}", "TXT"] = [text]
            client.post(offered[DNS]["url"], {}).ok()
        verdicts = {}
        for url in order.json["authorizations"]:
            done = client.settled(url)
            verdicts[done["identifier"]["value"]] = done["status"]
        assert verdicts == {name: "invalid" if at == bad else "valid" for at, name in enumerate(names)}
        asked = [name for name, kind in site.names.asked if kind == "CAA" and name in names]
        assert sorted(asked) == sorted(names)
        end = client.post(order.headers["Location"]).ok().json
        assert (end["status"], end["error"]["type"].rpartition(":")[2]) == ("invalid", "caa")
        refused = client.finalize(order, csr(new_key(), *names))
        assert (refused.status, refused.problem) == (403, "orderNotReady")
    asked = [name for name, kind in site.names.asked if kind == "CAA" and name in good]
    assert sorted(asked) == sorted(good)


def test_what_was_proven_counts_for_eight_hours(site: Site, client: Client) -> None:
    """What CAA said may be that old (CA/B BR 3.2.2.8.1)."""
    order = client.order(site.name()).ok(201)
    (url,) = order.json["authorizations"]
    pending = datetime.fromisoformat(client.post(url).ok().json["expires"])
    (offered,) = client.challenges(order)
    name = order.json["identifiers"][0]["value"]
    text = digest(client.key_authorization(offered[DNS]["token"]))
    site.names.records[f"_acme-challenge.{name}", "TXT"] = [text]
    client.post(offered[DNS]["url"], {}).ok()
    valid = client.settled(url)
    until = datetime.fromisoformat(valid["expires"])
    now = datetime.now(UTC)
    assert (valid["status"], until < pending) == ("valid", True)
    assert 8 * 3600 - 120 <= (until - now).total_seconds() <= 8 * 3600
