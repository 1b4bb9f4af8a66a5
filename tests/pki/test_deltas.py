"""Delta CRLs, and complete ones that are made in the background."""

from __future__ import annotations

import pytest
from cryptography import x509

from kms.errors import KmsError
from tests.pki.bench import Bench
from tests.pki.outside import lint_crl
from tests.pki.test_shards import number, serials


@pytest.fixture
def delta(ca: Bench) -> Bench:
    """A CA that makes its complete CRL in the background, and deltas."""
    ca.do("config-crl-write", auto_rebuild=True, enable_delta=True)
    ca.do("config-urls-write", delta_crl_distribution_points=["http://crl.example.com/delta"])
    return ca


def test_the_delta_lists_what_the_complete_one_does_not(delta: Bench) -> None:
    base = delta.crl_number()
    first, second = (delta.issue()["serial_number"] for _ in range(2))
    delta.do("revoke", serial_number=first)
    crl = x509.load_der_x509_crl(delta.raw("crl-delta"))
    assert serials(crl) == [first]
    indicator = crl.extensions.get_extension_for_class(x509.DeltaCRLIndicator)
    assert indicator.critical
    assert indicator.value.crl_number == base == delta.crl_number()
    assert lint_crl(delta.raw("crl-delta")) == []
    delta.do("revoke", serial_number=second)
    crl = x509.load_der_x509_crl(delta.raw("issuer-crl-delta", issuer_ref="default"))
    assert serials(crl) == [first, second]
    assert delta.listed() == set()
    delta.do("crl-rotate")
    assert delta.listed() == {first, second}
    freshest = delta.crl().extensions.get_extension_for_class(x509.FreshestCRL).value
    assert freshest[0].full_name is not None
    assert freshest[0].full_name[0].value == "http://crl.example.com/delta"
    assert lint_crl(delta.raw("crl")) == []
    crl = x509.load_der_x509_crl(delta.raw("crl-delta"))
    assert serials(crl) == []
    assert number(crl) > crl.extensions.get_extension_for_class(x509.DeltaCRLIndicator).value.crl_number
    assert "X509 CRL" in delta.do("cert-delta-crl")["certificate"]
    assert "X509 CRL" in delta.do("issuer-crl-delta-json", issuer_ref="default")["crl"]


def test_deltas_are_made_in_the_background_at_their_interval(delta: Bench) -> None:
    delta.raw("crl-delta")
    delta.do("revoke", serial_number=delta.issue()["serial_number"])
    assert delta.chores() == 0
    delta.clock.seconds += 15 * 60
    assert delta.chores() == 1
    assert delta.chores() == 0


def test_the_complete_crl_is_made_in_time(delta: Bench) -> None:
    serial = delta.issue()["serial_number"]
    delta.do("revoke", serial_number=serial)
    delta.clock.seconds += 37 * 3600
    assert delta.chores() == 1
    assert delta.listed() == {serial}


REFUSED = {
    "delta without auto rebuild": (
        {"enable_delta": True, "auto_rebuild": False},
        "auto rebuilding is disabled",
    ),
    "delta interval": (
        {"enable_delta": True, "auto_rebuild": True, "delta_rebuild_interval": "100h"},
        "strictly shorter",
    ),
}


@pytest.mark.parametrize(("given", "text"), REFUSED.values(), ids=REFUSED.keys())
def test_settings_that_are_refused(ca: Bench, given: dict[str, object], text: str) -> None:
    with pytest.raises(KmsError, match=text):
        ca.do("config-crl-write", **given)


def test_rotating_deltas_that_are_not_enabled_does_nothing(ca: Bench) -> None:
    assert "no-op" in ca.result("crl-rotate-delta").warnings[0]
