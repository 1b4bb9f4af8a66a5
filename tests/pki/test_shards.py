"""Partitioned and delta CRLs: the shard that a certificate names says what became of it, and only that one signs."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kms.errors import ErrorKind, KmsError
from pki.marks import CLAIM_SECONDS
from pki.model import DAY
from pki.store import CRL_JOURNAL, CRL_MARKS, PUBLIC_CRLS, REVOCATIONS
from tests.pki.bench import START, Bench, Killed, load, wire
from tests.pki.outside import lint_crl, run, write

PLACE = "http://crl.example.com/v1/pki/crl"
STEPS = ["begin", "begin-commit", "perform", "conclude", "conclude-commit", "answer"]


@pytest.fixture
def sharded(ca: Bench) -> Bench:
    """A CA whose leaves name one of eight shards."""
    ca.do("config-urls-write", crl_distribution_points=[PLACE])
    ca.do("config-crl-write", shards=8)
    return ca


def point(pem: str) -> str:
    """The one URL of a certificate's distribution point."""
    found = load(pem).extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert len(found) == 1
    names = found[0].full_name
    assert names is not None
    return str(names[0].value)


def fetched(ca: Bench, url: str) -> x509.CertificateRevocationList:
    """The CRL at a distribution point, as `crl/shard/...` serves it."""
    _, _, path = url.partition("/shard/")
    issuer, _, number = path.partition("/")
    return x509.load_der_x509_crl(ca.raw("crl-shard", shard_issuer=issuer, shard=number))


def serials(crl: x509.CertificateRevocationList) -> list[str]:
    return [wire(entry.serial_number) for entry in crl]


def armoured(crl: x509.CertificateRevocationList) -> str:
    return crl.public_bytes(Encoding.PEM).decode()


def number(crl: x509.CertificateRevocationList) -> int:
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def test_the_shard_of_a_certificate_lists_it_when_revoked(sharded: Bench, tmp_path: Path) -> None:
    leaves = [sharded.issue() for _ in range(24)]
    root = leaves[0]["issuing_ca"]
    assert len({point(leaf["certificate"]) for leaf in leaves}) > 3
    for leaf in leaves[::2]:
        sharded.do("revoke", serial_number=leaf["serial_number"])
        assert leaf["serial_number"] in serials(fetched(sharded, point(leaf["certificate"])))
    for at, leaf in enumerate(leaves):
        url = point(leaf["certificate"])
        crl = fetched(sharded, url)
        assert (leaf["serial_number"] in serials(crl)) == (at % 2 == 0)
        place = crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint)
        assert place.critical
        assert place.value.full_name is not None
        assert [name.value for name in place.value.full_name] == [url]
    url = point(leaves[0]["certificate"])
    assert lint_crl(sharded.raw("crl-shard", shard_issuer=url.split("/")[-2], shard=url.split("/")[-1])) == []
    assert len(serials(sharded.crl())) == 12
    verify = ["openssl", "verify", "-attime", str(START), "-crl_check", "-extended_crl", "-CAfile"]
    verify += [write(tmp_path, "root.pem", root), "-CRLfile"]
    revoked, kept = (
        [
            *verify,
            write(tmp_path, f"crl{at}.pem", armoured(fetched(sharded, point(leaf["certificate"])))),
            write(tmp_path, f"leaf{at}.pem", leaf["certificate"]),
        ]
        for at, leaf in enumerate(leaves[:2])
    )
    assert "OK" in run(kept)
    with pytest.raises(AssertionError, match="certificate revoked"):
        run(revoked)


def test_only_the_shard_of_a_revoked_certificate_is_signed_again(sharded: Bench) -> None:
    leaves = [sharded.issue() for _ in range(12)]
    urls = {point(leaf["certificate"]) for leaf in leaves}
    before = {url: number(fetched(sharded, url)) for url in urls}
    sharded.token.calls.clear()
    sharded.do("revoke", serial_number=leaves[0]["serial_number"])
    assert sharded.token.calls == []
    after = {url: number(fetched(sharded, url)) for url in urls}
    assert sharded.token.calls == ["sign"]
    mine = point(leaves[0]["certificate"])
    assert after.pop(mine) > before.pop(mine)
    assert after == before


def test_many_revocations_between_two_fetches_cost_one_signature(sharded: Bench) -> None:
    leaves = [sharded.issue() for _ in range(30)]
    sharded.do("config-crl-write", shards=1)
    one = [sharded.issue() for _ in range(5)]
    for leaf in (*leaves, *one):
        sharded.do("revoke", serial_number=leaf["serial_number"])
    sharded.token.calls.clear()
    assert {leaf["serial_number"] for leaf in one} <= set(
        serials(fetched(sharded, point(one[0]["certificate"])))
    )
    sharded.crl()
    assert sharded.token.calls == ["sign", "sign"]
    assert sharded.chores() > 0
    assert sharded.chores() == 0


def test_fewer_shards_leave_those_of_issued_certificates(sharded: Bench) -> None:
    leaves = [sharded.issue() for _ in range(12)]
    sharded.do("config-crl-write", shards=2)
    sharded.do("config-urls-write", crl_distribution_points=["http://other.example.com/crl"])
    new = sharded.issue()
    assert point(new["certificate"]).startswith("http://other.example.com/crl/shard/")
    assert point(new["certificate"])[-2:] in {"/0", "/1"}
    for leaf in (*leaves, new):
        sharded.do("revoke", serial_number=leaf["serial_number"])
        url = point(leaf["certificate"])
        crl = fetched(sharded, url)
        assert leaf["serial_number"] in serials(crl)
        names = crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint).value.full_name
        assert names is not None
        assert url in [name.value for name in names]


def test_a_shard_that_is_none_is_not_found(sharded: Bench) -> None:
    issuer = sharded.do("config-issuers-read")["default"]
    for shard in ("8", "-1", "007", "x", "", "99999", "²"):
        with pytest.raises(KmsError) as missing:
            sharded.raw("crl-shard", shard_issuer=issuer, shard=shard)
        assert missing.value.kind is ErrorKind.NOT_FOUND
    with pytest.raises(KmsError):
        sharded.raw("crl-shard", shard_issuer="nobody", shard="0")


def test_shards_are_served_while_sealed(sharded: Bench) -> None:
    leaf = sharded.issue()
    before = fetched(sharded, point(leaf["certificate"]))
    sharded.do("revoke", serial_number=leaf["serial_number"])
    sharded.store.lock()
    assert fetched(sharded, point(leaf["certificate"])) == before


def test_a_certificate_that_was_not_stored_gets_into_its_shard(sharded: Bench) -> None:
    sharded.role(no_store=True)
    for _ in range(4):
        leaf = sharded.issue()
        sharded.do("revoke", certificate=leaf["certificate"])
        assert leaf["serial_number"] in serials(fetched(sharded, point(leaf["certificate"])))


def test_a_certificate_whose_outcome_is_unknown_gets_into_its_shard(sharded: Bench) -> None:
    def die(step: str) -> None:
        if step == "conclude":
            raise Killed

    sharded.step = die
    with pytest.raises(Killed):
        sharded.issue()
    sharded.step = lambda _: None
    name, intent = next(iter(sharded.intents.values()))
    assert name == "pki.issue"
    sharded.resolve_all()
    issuer = sharded.do("config-issuers-read")["default"]
    crl = x509.load_der_x509_crl(sharded.raw("crl-shard", shard_issuer=issuer, shard=str(intent["shard"])))
    assert [serial.replace(":", "") for serial in serials(crl)] == [intent["serial"]]


@pytest.mark.parametrize("step", STEPS)
def test_killed_while_making_a_shard(sharded: Bench, step: str) -> None:
    leaf = sharded.issue()
    url = point(leaf["certificate"])
    before = number(fetched(sharded, url))
    sharded.do("revoke", serial_number=leaf["serial_number"])

    def die(now: str) -> None:
        if now == step:
            raise Killed

    sharded.step = die
    with pytest.raises(Killed):
        fetched(sharded, url)
    sharded.step = lambda _: None
    # Nobody has closed the dead one's intent yet: its claim ends by itself.
    sharded.clock.seconds += CLAIM_SECONDS
    crl = fetched(sharded, url)
    assert serials(crl) == [leaf["serial_number"]]
    assert number(crl) > before
    sharded.resolve_all()
    assert all(not row.value.claimant for row in sharded.store.reader().scan(CRL_MARKS))


def test_an_entry_leaves_its_shard_one_crl_after_its_end(sharded: Bench) -> None:
    leaf = sharded.issue(ttl=3600)
    url = point(leaf["certificate"])
    sharded.do("revoke", serial_number=leaf["serial_number"])
    assert serials(fetched(sharded, url))
    sharded.clock.seconds += 2 * DAY  # over half of its life
    sharded.do("tidy", tidy_revoked_certs=True, safety_buffer=1)
    while sharded.chores():
        pass
    assert serials(fetched(sharded, url)) == [leaf["serial_number"]]
    sharded.clock.seconds += 2 * DAY
    while sharded.chores():
        pass
    assert serials(fetched(sharded, url)) == []
    sharded.do("tidy", tidy_revoked_certs=True, safety_buffer=1)
    assert sharded.store.reader().scan(REVOCATIONS) == []
    assert sharded.store.reader().scan(CRL_JOURNAL) == []


def test_the_published_crl_is_not_added_to_when_it_was_changed(sharded: Bench) -> None:
    """Its row is not sealed; what its signature does not cover any more is made from the sealed ones."""
    first, second = sharded.issue(), sharded.issue()
    sharded.do("revoke", serial_number=first["serial_number"])
    assert sharded.listed() == {first["serial_number"]}
    with sharded.transaction() as tx:
        for row in tx.scan(PUBLIC_CRLS):
            changed = bytearray(row.value.der)
            changed[-1] ^= 1
            tx.replace(PUBLIC_CRLS, row, msgspec.structs.replace(row.value, der=bytes(changed)))
    sharded.do("revoke", serial_number=second["serial_number"])
    assert sharded.listed() == {first["serial_number"], second["serial_number"]}


REFUSED = {
    "too many": 1025,
    "negative": -1,
}


@pytest.mark.parametrize("count", REFUSED.values(), ids=REFUSED.keys())
def test_counts_that_are_refused(ca: Bench, count: int) -> None:
    with pytest.raises(KmsError, match="between 0"):
        ca.do("config-crl-write", shards=count)
