"""Where validation may connect to (T-42), without a network."""

from __future__ import annotations

import ipaddress

import pytest

from kms.config import AcmeSection
from pki.acme.model import AcmeConfig
from pki.acme.network import Reach
from pki.acme.problems import AcmeProblem
from pki.acme.validation import Ports

SPECIAL = (
    "0.0.0.0",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "100.100.100.200",
    "192.0.0.8",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "64:ff9b::a00:1",
    "2002:a00:1::",
    "2001:0:a00:1::1",
    "fd00:ec2::254",
    "fe80::1",
    "ff02::1",
)


def allowed(address: str, networks: tuple[str, ...], narrowed: tuple[str, ...] = ()) -> bool:
    reach: Reach = Ports(networks).reach(AcmeConfig(allowed_networks=narrowed))
    try:
        reach.demand([ipaddress.ip_address(address)])
    except AcmeProblem:
        return False
    return True


@pytest.mark.parametrize("address", SPECIAL)
def test_special_addresses_are_in_no_wide_network(address: str) -> None:
    assert not allowed(address, ("0.0.0.0/0", "::/0"))
    assert not allowed(address, AcmeSection().networks)


def test_an_entry_inside_a_special_range_opens_just_that() -> None:
    networks = ("127.0.0.0/8", "169.254.7.0/24", "::1/128")
    assert allowed("127.0.0.1", networks)
    assert allowed("::1", networks)
    assert allowed("169.254.7.1", networks)
    assert not allowed("169.254.169.254", networks)
    assert not allowed("::ffff:127.0.0.1", networks)


def test_the_default_is_private_networks_and_not_the_internet() -> None:
    default = AcmeSection().networks
    for address in ("10.1.2.3", "172.31.0.1", "192.168.1.1", "fd12::1"):
        assert allowed(address, default)
    for address in ("172.32.0.1", "192.169.0.1", "8.8.8.8", "2001:4860:4860::8888"):
        assert not allowed(address, default)
        assert allowed(address, ("0.0.0.0/0", "::/0"))


def test_a_mount_narrows_and_never_widens() -> None:
    assert allowed("10.1.2.3", ("10.0.0.0/8",), ("10.1.0.0/16",))
    assert not allowed("10.2.2.3", ("10.0.0.0/8",), ("10.1.0.0/16",))
    assert not allowed("192.168.1.1", ("10.0.0.0/8",), ("192.168.0.0/16",))
    assert not allowed("127.0.0.1", ("10.0.0.0/8",), ("127.0.0.0/8",))


def test_every_address_of_a_name_is_judged() -> None:
    reach = Ports(("10.0.0.0/8",)).reach(AcmeConfig())
    good, bad = ipaddress.ip_address("10.0.0.1"), ipaddress.ip_address("11.0.0.1")
    reach.demand([good, good])
    for addresses in ([bad, good], [good, bad], [good, good, bad]):
        with pytest.raises(AcmeProblem):
            reach.demand(addresses)
