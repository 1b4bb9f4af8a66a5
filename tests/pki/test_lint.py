"""T-50: what is looked at before a signature, and that each look can refuse."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from kms.errors import ErrorKind, KmsError
from pki.goodkey import spki_der
from pki.hsmkey import DrySigner, private_key
from pki.lint import Linter, Pkilint, check_copy, check_crl_copy
from pki.model import PublicCrl, Role
from pki.names import Names
from pki.profiles import Draft, builder, leaf_draft
from pki.profiles.draft import Extensions, utc
from pki.profiles.leaf import leaf_template
from pki.profiles.usages import ca_key_usage
from pki.schemes import HASHES
from pki.signing import prepare
from tests.pki.bench import START, Bench

ISSUER = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Issuer")])
KEY = ec.generate_private_key(ec.SECP256R1()).public_key()
AKI = x509.AuthorityKeyIdentifier.from_issuer_public_key(KEY)


def draft(names: Names | None = None, role: Role | None = None) -> Draft:
    template = leaf_template(ISSUER, ((AKI, False),), "sha256", role or Role())
    wanted = names or Names(common_name="a.example.com", dns=("a.example.com",))
    return leaf_draft(template, wanted, (KEY, "ec", spki_der(KEY)), (START, START + 60))


def copy_of(wanted: Draft) -> bytes:
    return builder(wanted).sign(private_key(KEY, DrySigner(KEY)), HASHES["sha256"]).public_bytes(Encoding.DER)


OTHER_KEY = ec.generate_private_key(ec.SECP256R1()).public_key()
TAMPERED: dict[str, Callable[[Draft], dict[str, Any]]] = {
    "serial number": lambda d: {"serial": d.serial ^ 1},
    "notBefore": lambda d: {"not_before": d.not_before + 1},
    "notAfter": lambda d: {"not_after": d.not_after - 1},
    "issuer": lambda _: {"issuer": x509.Name([])},
    "subject": lambda _: {"subject": x509.Name([])},
    "public key": lambda _: {"spki": spki_der(OTHER_KEY)},
    "number of extensions": lambda d: {"extensions": d.extensions[:-1]},
    "2.5.29.15": lambda d: {"extensions": (d.extensions[0], (ca_key_usage(), True), *d.extensions[2:])},
    "2.5.29.19": lambda d: {"extensions": ((d.extensions[0][0], False), *d.extensions[1:])},
    "BasicConstraints": lambda _: {"profile": "intermediate"},
}


@pytest.mark.parametrize(("field", "change"), TAMPERED.items())
def test_a_copy_that_is_not_what_was_asked_for(field: str, change: Callable[[Draft], dict[str, Any]]) -> None:
    wanted = draft()
    der = copy_of(wanted)
    check_copy(der, wanted)
    with pytest.raises(KmsError, match=f"{field}$") as refused:
        check_copy(der, dataclasses.replace(wanted, **change(wanted)))
    assert refused.value.kind is ErrorKind.INTEGRITY


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("serial number length", {"serial": 7}),
        ("validity", {"not_before": START + 61}),
    ],
)
def test_a_draft_that_is_wrong_itself(field: str, change: dict[str, Any]) -> None:
    wanted = dataclasses.replace(draft(), **change)
    try:
        der = copy_of(wanted)
    except ValueError:  # the builder sees it too
        return
    with pytest.raises(KmsError, match=field):
        check_copy(der, wanted)


def test_a_name_that_slipped_past_the_roles_is_stopped_here() -> None:
    wanted = draft(Names(common_name="x", dns=("a_b.example.com",)))
    with pytest.raises(KmsError, match="cannot stand in a certificate"):
        check_copy(copy_of(wanted), wanted)


class Findings:
    """A pkilint that says what it is told to, and counts."""

    def __init__(self, *findings: str) -> None:
        self.findings = list(findings)
        self.seen = 0

    def certificate(self, der: bytes) -> list[str]:
        del der
        self.seen += 1
        return self.findings

    def crl(self, der: bytes) -> list[str]:
        return self.certificate(der)

    def ocsp(self, der: bytes) -> list[str]:
        return self.certificate(der)


def test_a_finding_refuses_and_nothing_is_recorded_or_signed(ca: Bench) -> None:
    ca.service.linter._validators = Findings("pkix.something_wrong")
    ca.token.calls.clear()
    with pytest.raises(KmsError, match=r"pkix\.something_wrong") as refused:
        ca.issue()
    assert refused.value.kind is ErrorKind.INVALID
    assert ca.token.calls == []
    assert len(ca.do("certs-list")["keys"]) == 1


def test_a_finding_about_a_crl_keeps_the_old_one(ca: Bench) -> None:
    serial, before = ca.issue()["serial_number"], ca.raw("crl")
    ca.service.linter._validators = Findings("pkix.something_wrong")
    ca.token.calls.clear()
    ca.do("revoke", serial_number=serial)
    with pytest.raises(KmsError, match=r"pkix\.something_wrong"):
        ca.raw("crl")
    assert ca.token.calls == []
    ca.store.lock()
    assert ca.raw("crl") == before


def test_a_shape_is_seen_once_and_one_in_so_many_after_that() -> None:
    validators = Findings()
    linter = Linter(sample=10, validators=validators)
    for _ in range(9):
        prepare(draft(), KEY, linter)
    assert validators.seen == 1
    prepare(draft(), KEY, linter)
    assert validators.seen == 2
    prepare(draft(Names(uris=("spiffe://td/x",))), KEY, linter)
    prepare(draft(role=Role(client_flag=False)), KEY, linter)
    assert validators.seen == 4


def test_a_shape_that_failed_is_looked_at_again() -> None:
    validators = Findings("bad")
    linter = Linter(sample=1000, validators=validators)
    for _ in range(3):
        with pytest.raises(KmsError):
            prepare(draft(), KEY, linter)
    assert validators.seen == 3


def test_pkilint_itself_finds_things() -> None:
    signer = ec.generate_private_key(ec.SECP256R1())
    bad = (
        x509.CertificateBuilder()
        .subject_name(ISSUER)
        .issuer_name(ISSUER)
        .public_key(signer.public_key())
        .serial_number(7)
        .not_valid_before(utc(START))
        .not_valid_after(utc(START) + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=False)
        .sign(signer, hashes.SHA256())
    )
    assert len(Pkilint().certificate(bad.public_bytes(Encoding.DER))) >= 2


CRL = PublicCrl(number=5, this_update=START, next_update=START + 3600, entries=0, der=b"")


def crl_copy() -> bytes:
    return (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ISSUER)
        .last_update(utc(START))
        .next_update(utc(START + 3600))
        .add_extension(x509.CRLNumber(5), critical=False)
        .sign(private_key(KEY, DrySigner(KEY)), HASHES["sha256"])
        .public_bytes(Encoding.DER)
    )


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("CRL number", {"number": 6}),
        ("thisUpdate", {"this_update": START + 1}),
        ("nextUpdate", {"next_update": START + 1}),
        ("number of entries", {"entries": 1}),
    ],
)
def test_a_crl_that_is_not_what_was_asked_for(field: str, change: dict[str, int]) -> None:
    number: Extensions = ((x509.CRLNumber(5), False),)
    check_crl_copy(crl_copy(), CRL, ISSUER, extensions=number)
    with pytest.raises(KmsError, match=field):
        check_crl_copy(crl_copy(), msgspec.structs.replace(CRL, **change), ISSUER, extensions=number)
    with pytest.raises(KmsError, match="issuer"):
        check_crl_copy(crl_copy(), CRL, x509.Name([]), extensions=number)
    with pytest.raises(KmsError, match="extensions"):
        check_crl_copy(crl_copy(), CRL, ISSUER, extensions=((x509.CRLNumber(5), True),))
