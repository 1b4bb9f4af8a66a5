"""certs/search: found by every name, by key, issuer, state and expiry; nothing readable in the index."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from kms.errors import KmsError
from pki import index
from pki.goodkey import spki_der, spki_hash
from pki.index import INDEX, UNINDEXED, Looks, domains, looks
from pki.model import Certificate
from tests.pki.bench import START, Bench, Killed, load

NAMES: dict[str, Any] = {
    "common_name": "Host.example.com",
    "alt_names": ["*.wild.example.com", "b.example.org", "me@mail.example.com"],
    "ip_sans": ["10.1.2.3", "fd00::1"],
    "uri_sans": ["spiffe://td.example/ns/a", "https://www.example.net/x"],
}


@pytest.fixture
def many(ca: Bench) -> dict[str, str]:
    """Name -> serial of a few certificates."""
    ca.role(allow_any_name=True, allowed_uri_sans=["*"], max_ttl=1_000_000)
    made = {"all": ca.issue(**NAMES)}
    for number in range(5):
        made[f"n{number}"] = ca.issue(common_name=f"n{number}.deep.example.com", ttl=1000 * (number + 1))
    return {name: data["serial_number"] for name, data in made.items()}


def database(folder: Path) -> Path:
    """The file behind `ca`."""
    return next(path for path in folder.rglob("*") if path.suffix in {".db", ".sqlite", ".sqlite3"})


def queue_all(folder: Path) -> None:
    """Nothing is indexed and everything waits, as the migration leaves rows that were there before it."""
    sql = Path("kms/storage/migrations/0018_issuance.sql").read_text()
    filling = sql[sql.rindex("INSERT INTO pki_unindexed") :]
    with sqlite3.connect(database(folder)) as connection:
        connection.execute("DELETE FROM pki_index")
        connection.execute("DELETE FROM pki_unindexed")
        connection.execute(filling)


def search(bench: Bench, **asked: Any) -> list[str]:
    keys: list[str] = bench.do("certs-search", **asked)["keys"]
    return keys


FOUND: list[tuple[dict[str, str], set[str]]] = [
    ({"common_name": "Host.example.com"}, {"all"}),
    ({"common_name": "host.example.com"}, set()),
    ({"dns_name": "host.EXAMPLE.com"}, {"all"}),
    ({"dns_name": "*.wild.example.com"}, {"all"}),
    ({"dns_name": "wild.example.com"}, set()),
    ({"domain": "wild.example.com"}, {"all"}),
    ({"domain": "example.org"}, {"all"}),
    ({"domain": "mail.example.com"}, {"all"}),
    ({"domain": "td.example"}, {"all"}),
    ({"domain": "example.net"}, {"all"}),
    ({"domain": "deep.example.com"}, {"n0", "n1", "n2", "n3", "n4"}),
    ({"domain": "example.com"}, {"all", "n0", "n1", "n2", "n3", "n4"}),
    ({"domain": "com"}, {"all", "n0", "n1", "n2", "n3", "n4"}),
    ({"domain": "org"}, {"all"}),
    ({"domain": "ample.com"}, set()),
    ({"email": "me@mail.example.com"}, {"all"}),
    ({"ip_address": "10.1.2.3"}, {"all"}),
    ({"ip_address": "fd00:0::1"}, {"all"}),
    ({"ip_address": "10.1.2.4"}, set()),
    ({"uri": "spiffe://td.example/ns/a"}, {"all"}),
    ({"uri": "spiffe://td.example/ns/b"}, set()),
    (
        {"issuer_ref": "default", "domain": "deep.example.com", "state": "valid"},
        {"n0", "n1", "n2", "n3", "n4"},
    ),
    ({"domain": "deep.example.com", "expires_before": str(START + 2500)}, {"n0", "n1"}),
    ({"domain": "deep.example.com", "expires_after": str(START + 2500)}, {"n2", "n3", "n4"}),
    ({"expires_after": str(START + 1500), "expires_before": str(START + 3500)}, {"n1", "n2"}),
    ({"domain": "deep.example.com", "role": "other"}, set()),
]


@pytest.mark.parametrize("how", ["at once", "waiting", "indexed"])
def test_found_by(ca: Bench, many: dict[str, str], tmp_path: Path, how: str) -> None:
    if how == "at once":
        queued = {key.split("/")[1] for key in ca.store.reader().keys(UNINDEXED)}
        assert not queued & {serial.replace(":", "") for serial in many.values()}
    else:
        lines = ca.store.reader().keys(INDEX)
        queue_all(tmp_path)
        assert ca.store.reader().keys(INDEX) == []
        if how == "indexed":
            ca.service.index.step()
            assert ca.store.reader().keys(UNINDEXED) == []
            assert set(ca.store.reader().keys(INDEX)) >= set(lines)
    for asked, found in FOUND:
        assert set(search(ca, **asked)) == {many[name] for name in found}, asked


def test_found_by_key_and_shown_in_full(ca: Bench, many: dict[str, str]) -> None:
    ca.service.index.step()
    pem = ca.do("cert", serial=many["all"])["certificate"]
    digest = spki_hash(spki_der(load(pem).public_key()))
    data = ca.do("certs-search", public_key_sha256=digest.upper())
    assert data["keys"] == [many["all"]]
    info = data["key_info"][many["all"]]
    assert info["dns_names"] == ["*.wild.example.com", "b.example.org", "host.example.com"]
    assert info["email_addresses"] == ["me@mail.example.com"]
    assert info["ip_addresses"] == ["10.1.2.3", "fd00::1"]
    assert info["uris"] == sorted(NAMES["uri_sans"])
    assert (info["state"], info["role"], info["public_key_sha256"]) == ("valid", "web", digest)
    assert data["next_after"] == ""


def test_by_state(ca: Bench, many: dict[str, str]) -> None:
    ca.service.index.step()
    ca.do("revoke", serial_number=many["n4"])
    assert search(ca, state="revoked") == [many["n4"]]
    assert search(ca, state="revoked", domain="deep.example.com") == [many["n4"]]
    ca.clock.seconds += 2500
    assert set(search(ca, state="expired")) == {many["n0"], many["n1"]}
    ca.step = lambda step: (_ for _ in ()).throw(Killed()) if step == "conclude" else None
    with pytest.raises(Killed):
        ca.issue()
    ca.step = lambda _: None
    ca.resolve_all()
    ca.service.index.step()
    unknown = ca.do("certs-search", state="unknown")
    assert len(unknown["keys"]) == 1
    assert unknown["key_info"][unknown["keys"][0]]["common_name"] == ""


@pytest.mark.parametrize("indexed", [False, True])
def test_page_by_page_nothing_is_lost_or_twice(ca: Bench, many: dict[str, str], indexed: bool) -> None:
    if indexed:
        ca.service.index.step()
    for limit in (1, 2, 3, 100):
        seen: list[str] = []
        after = "first"
        while after:
            given = {} if after == "first" else {"after": after}
            data = ca.do("certs-search", domain="example.com", limit=limit, **given)
            assert len(data["keys"]) <= limit
            seen += data["keys"]
            after = data["next_after"]
        assert sorted(seen) == sorted(many.values())
        assert seen[:2] == [many["n0"], many["n1"]]  # by expiry


def test_a_page_reads_no_more_than_its_bound(
    ca: Bench, many: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are: it says where the next one begins."""
    monkeypatch.setattr("pki.search.EXAMINED", 2)
    ca.service.index.step()
    seen, after, pages = [], "", 0
    while True:
        data = ca.do("certs-search", domain="deep.example.com", role="web", after=after)
        seen += data["keys"]
        pages, after = pages + 1, data["next_after"]
        if not after:
            break
    assert pages == 3
    assert sorted(seen) == sorted(serial for name, serial in many.items() if name != "all")


def test_the_index_follows_changes_and_deletions(ca: Bench, many: dict[str, str]) -> None:
    ca.service.index.step()
    lines = len(ca.store.reader().keys(INDEX))
    ca.do("revoke", serial_number=many["n0"])
    ca.service.index.step()
    assert len(ca.store.reader().keys(INDEX)) == lines
    ca.clock.seconds += 90_000_000
    ca.do("tidy", tidy_cert_store=True)
    assert search(ca, domain="example.com") == []
    ca.service.index.step()
    assert ca.store.reader().keys(INDEX) == []
    assert ca.store.reader().keys(UNINDEXED) == []


def test_a_ca_is_found_when_it_is_signed(ca: Bench) -> None:
    ca.service.index.step()
    ca.intermediate()
    ca.service.index.step()
    assert len(search(ca, common_name="Test Intermediate")) == 1
    assert len(search(ca, common_name="Test Root")) == 1


def test_mounts_share_nothing(ca: Bench, many: dict[str, str]) -> None:
    ca.root("other")
    ca.role("web", "other", allow_any_name=True)
    serial = ca.issue("other", common_name="n0.deep.example.com")["serial_number"]
    ca.service.index.step()
    assert ca.do("certs-search", "other", domain="deep.example.com")["keys"] == [serial]
    assert many["n0"] in search(ca, domain="deep.example.com")
    parts: list[set[str]] = [set(), set()]
    for key in ca.store.reader().keys(INDEX):
        mount, digest, *_ = key.split("/")
        parts[mount == ca.mount("other").id].add(digest)
    assert not parts[0] & parts[1]


def test_no_name_can_be_read_in_the_database(ca: Bench, many: dict[str, str], tmp_path: Path) -> None:
    del many
    ca.service.index.step()
    ca.store.scrub()
    with sqlite3.connect(database(tmp_path)) as connection:
        dump = "\n".join(connection.iterdump()).encode()
        dump += b"".join(row[0] for row in connection.execute("SELECT body FROM pki_index"))
    content = database(tmp_path).read_bytes().lower() + dump.lower()
    for text in (b"deep.example", b"wild", b"td.example", b"mail.example", b"10.1.2.3"):
        assert text not in content, text


def test_existing_certificates_are_filled_in(ca: Bench, many: dict[str, str], tmp_path: Path) -> None:
    """What the migration does for rows that were there before it."""
    queue_all(tmp_path)
    assert set(search(ca, domain="deep.example.com")) == set(many.values()) - {many["all"]}
    ca.service.index.step()
    assert set(search(ca, domain="deep.example.com")) == set(many.values()) - {many["all"]}


def test_a_line_that_points_to_another_certificate_finds_nothing(ca: Bench, many: dict[str, str]) -> None:
    ca.service.index.step()
    reader = ca.store.reader()
    right = reader.keys(INDEX, ca.service.index.prefix(ca.mount("pki").id, ("ip", "10.1.2.3")))[0]
    prefix = right.rsplit("/", 2)[0]
    other = reader.keys(
        INDEX, ca.service.index.prefix(ca.mount("pki").id, ("domain", "n0.deep.example.com"))
    )[0]
    with ca.transaction() as tx:
        row = tx.get(INDEX, right)
        assert row is not None
        tx.insert(INDEX, prefix + "/" + "/".join(other.rsplit("/", 2)[1:]), row.value)
    assert search(ca, ip_address="10.1.2.3") == [many["all"]]


NOT_FOUND: list[tuple[dict[str, Any], str]] = [
    ({"domain": "*.example.com"}, "give a domain"),
    ({"domain": "a b"}, "give a domain"),
    ({"ip_address": "10.0.0.0/8"}, "not an IP"),
    ({"public_key_sha256": "ab"}, "SHA-256"),
    ({"state": "good"}, "state must be one of"),
    ({"limit": 501}, "limit must be"),
    ({"limit": -1}, "limit must be"),
    ({"after": "aa:bb"}, "no certificate with serial"),
    ({"expires_after": "tomorrow"}, "cannot parse"),
    ({"issuer_ref": "nobody"}, "unable to find PKI issuer"),
    ({"email": "x"}, "email"),
    ({"uri": "x"}, "uri"),
]


def test_what_cannot_be_looked_for(ca: Bench) -> None:
    for asked, why in NOT_FOUND:
        with pytest.raises(KmsError, match=why):
            ca.do("certs-search", **asked)


def test_the_domains_of_a_name() -> None:
    assert list(domains("a.b.c")) == ["a.b.c", "b.c"]
    assert list(domains("localhost")) == ["localhost"]
    assert len(list(domains("a." * 100 + "b"))) == 9


def test_a_damaged_certificate_does_not_keep_the_others_waiting(
    ca: Bench, many: dict[str, str], tmp_path: Path
) -> None:
    queue_all(tmp_path)
    with sqlite3.connect(database(tmp_path)) as connection:
        connection.execute("DROP TRIGGER pki_certificates_changed")
        serial = many["n0"].replace(":", "")
        connection.execute(
            "UPDATE pki_certificates SET body = zeroblob(100) WHERE key LIKE ?", [f"%{serial}"]
        )
    with pytest.raises(KmsError):
        ca.service.index.step()
    ca.service.index.step()
    found = search(ca, domain="deep.example.com")
    assert set(found) == set(many.values()) - {many["all"], many["n0"]}


def test_a_killed_request_leaves_neither_a_row_nor_a_line(ca: Bench, many: dict[str, str]) -> None:
    del many
    ca.service.index.step()
    lines = ca.store.reader().keys(INDEX)

    def kill(step: str) -> None:
        if step == "conclude-commit":
            raise Killed

    ca.step = kill
    with pytest.raises(Killed):
        ca.issue(common_name="killed.example.com")
    assert ca.store.reader().keys(INDEX) == lines


def test_what_a_leaf_says_is_what_its_certificate_says(ca: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines of a new certificate come from the values that it is made of; they are those of its bytes."""
    pairs: list[tuple[Looks, Looks]] = []
    real = index.CertificateIndex.lines

    def both(self: Any, certificate: Certificate, seen: Looks) -> Any:
        pairs.append((seen, looks(certificate)))
        return real(self, certificate, seen)

    monkeypatch.setattr(index.CertificateIndex, "lines", both)
    ca.role(allow_any_name=True, allowed_uri_sans=["*"], organization=["X"], ou=["Y"])
    ca.role("bare", allow_any_name=True, allowed_uri_sans=["*"], require_cn=False)
    ca.role("spiffe", profile="spiffe", allowed_uri_sans=["*"])
    ca.issue(**NAMES)
    ca.issue(
        common_name="Upper.Example.COM",
        alt_names=["Other.Example.com", "ME@Example.com"],
        ip_sans=["fd00:0:0::1"],
    )
    ca.issue(
        role="bare",
        common_name="",
        uri_sans=["https://Upper.example.com/Path"],
        alt_names=["*.a.example.com"],
    )
    ca.issue(role="spiffe", common_name="", uri_sans=["spiffe://td.example/ns/a"])
    ca.issue(common_name="me@example.com", exclude_cn_from_sans=True)
    assert len(pairs) == 5
    for made, read in pairs:
        assert made == read
