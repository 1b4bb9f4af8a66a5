"""T-55: what holds for every certificate and every CRL, whatever is asked for."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from kms.errors import ErrorKind, KmsError
from kms.hsm import Hsm
from pki.model import CRL_EXPIRY_MAX, DAY
from pki.profiles import new_serial
from tests.pki.bench import START, Bench, load, make_bench, wire
from tests.pki.outside import lint
from tests.support import make_store

LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True).filter(lambda s: s[2:4] != "--")
HOST = st.builds(
    lambda labels: ".".join([*labels, "example", "com"]), st.lists(LABEL, min_size=1, max_size=3)
)
REQUESTS = st.fixed_dictionaries(
    {
        "common_name": st.one_of(st.just(""), HOST.filter(lambda name: len(name) <= 64)),
        "alt_names": st.lists(
            st.one_of(HOST, HOST.map(lambda n: f"*.{n}"), HOST.map(lambda n: f"me@{n}")), max_size=4
        ),
        "ip_sans": st.lists(st.ip_addresses().map(str), max_size=3),
        "uri_sans": st.lists(LABEL.map(lambda label: f"spiffe://td/{label}"), max_size=2),
        "ttl": st.integers(0, 40 * DAY),
        "exclude_cn_from_sans": st.booleans(),
    }
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, hsm: Hsm) -> Iterator[Bench]:
    store = make_store(tmp_path_factory.mktemp("properties"))
    bench = make_bench(store, hsm)
    bench.root(ttl=30 * DAY)
    bench.role(require_cn=False, allowed_uri_sans=["spiffe://td/*"], max_ttl=40 * DAY)
    yield bench
    store.close()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(request_=REQUESTS)
def test_any_request_gives_a_sound_certificate_or_a_refusal(shared: Bench, request_: dict[str, Any]) -> None:
    root = load(shared.raw("ca-pem").decode())
    before = len(shared.token.calls)
    try:
        data = shared.issue(**request_)
    except KmsError as refused:
        _check_refusal(refused, signed=len(shared.token.calls) - before)
        return
    certificate = load(data["certificate"])
    assert lint(certificate.public_bytes(Encoding.DER)) == []
    start, end = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    # Inclusive last second: the whole validity is ttl + 30 s of backdating, not one second more.
    assert end - start + 1 == min(request_["ttl"] or DAY, 40 * DAY) + 30
    assert end <= root.not_valid_after_utc.timestamp()
    assert start >= root.not_valid_before_utc.timestamp()
    assert certificate.serial_number.bit_length() == 159
    certificate.verify_directly_issued_by(root)
    for name in _names(certificate):
        assert name in _asked(request_)


def _check_refusal(refused: KmsError, signed: int) -> None:
    assert refused.kind is ErrorKind.INVALID
    assert signed == 0


def _names(certificate: x509.Certificate) -> set[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {str(name.value) for name in names}


def _asked(request_: dict[str, Any]) -> set[str]:
    ips: set[str] = set()
    for text in request_["ip_sans"]:
        address = ipaddress.ip_address(text)
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        ips.add(str(mapped or address))
    return {request_["common_name"], *request_["alt_names"], *request_["uri_sans"], *ips}


@given(st.data())
def test_serials_are_positive_of_constant_length_and_differ(data: st.DataObject) -> None:
    del data
    serials = {new_serial() for _ in range(100)}
    assert len(serials) == 100
    for serial in serials:
        octets = serial.to_bytes(20, "big")
        assert 0x40 <= octets[0] <= 0x7F


class Ledger(RuleBasedStateMachine):
    """Issue, revoke, let time pass, rotate and tidy in any order; the CRL is always right."""

    bench: Bench  # set by the test

    @initialize()
    def start(self) -> None:
        # A mount of its own for each run, on the shared database.
        self.mount = f"m{len(self.bench.mounts)}"
        self.bench.clock.seconds = START
        self.bench.root(self.mount, ttl=300 * DAY)
        self.bench.role("web", self.mount)
        self.alive: dict[str, int] = {}  # serial -> notAfter
        self.revoked: dict[str, int] = {}
        self.number = 1
        self.seen_after_end: set[str] = set()

    @rule(ttl=st.sampled_from([60, 3600, DAY]))
    def issue(self, ttl: int) -> None:
        data = self.bench.issue(self.mount, ttl=ttl)
        assert data["serial_number"] not in self.alive
        self.alive[data["serial_number"]] = data["expiration"]

    @rule(pick=st.integers(0, 50))
    def revoke(self, pick: int) -> None:
        now = self.bench.clock.now()
        open_ = [serial for serial, end in self.alive.items() if end >= now and serial not in self.revoked]
        if not open_:
            return
        serial = open_[pick % len(open_)]
        self.bench.do("revoke", self.mount, serial_number=serial)
        self.revoked[serial] = self.alive[serial]
        assert serial in self.bench.listed(self.mount)
        self._look()

    @rule(seconds=st.sampled_from([1, 90, 4000, DAY]))
    def wait(self, seconds: int) -> None:
        self.bench.clock.seconds += seconds

    @rule()
    def rotate(self) -> None:
        self.bench.do("crl-rotate", self.mount)
        self._look()

    @rule()
    def tidy(self) -> None:
        self.bench.do("tidy", self.mount, tidy_revoked_certs=True, safety_buffer=1)

    def _look(self) -> None:
        """At each new CRL."""
        crl = self.bench.crl(self.mount)
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        assert number > self.number
        self.number = number
        assert crl.next_update_utc is not None
        assert (crl.next_update_utc - crl.last_update_utc).total_seconds() <= CRL_EXPIRY_MAX
        listed = {wire(entry.serial_number) for entry in crl}
        for serial, end in self.revoked.items():
            if serial not in self.seen_after_end:
                assert serial in listed
            if crl.last_update_utc.timestamp() > end:
                self.seen_after_end.add(serial)

    @invariant()
    def nothing_else_is_listed(self) -> None:
        if hasattr(self, "revoked"):
            assert self.bench.listed(self.mount) <= set(self.revoked)


def test_the_crl_is_right_after_any_history(tmp_path: Path, hsm: Hsm) -> None:
    store = make_store(tmp_path)
    Ledger.bench = make_bench(store, hsm)
    run_state_machine_as_test(
        Ledger, settings=settings(max_examples=15, stateful_step_count=20, deadline=None)
    )
    store.close()
