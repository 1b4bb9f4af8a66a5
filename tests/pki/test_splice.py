"""Spliced certificates: the builder's bytes exactly, and a wrong splice never leaves."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from kms.errors import ErrorKind, KmsError
from pki import der, signing
from pki.authority import url_extensions
from pki.goodkey import LeafPublicKey, key_type_and_bits, spki_der
from pki.hsmkey import CaPublicKey
from pki.lint import Linter
from pki.model import CertificateState, Role, Urls
from pki.names import BadName, Names, check_text
from pki.profiles import Draft, Leaf, LeafTemplate, builder, leaf
from pki.profiles.leaf import leaf_template
from pki.profiles.splice import Splice
from pki.signing import prepare, prepare_leaf
from tests.pki.bench import START, Bench, load
from tests.pki.outside import lint
from tests.pki.test_faults import rows
from tests.pki.test_lint import Findings
from tests.pki.test_properties import HOST, LABEL

CA_KEYS: list[CaPublicKey] = [
    ec.generate_private_key(ec.SECP256R1()).public_key(),
    ec.generate_private_key(ec.SECP384R1()).public_key(),
    rsa.generate_private_key(65537, 2048).public_key(),
]
LEAF_KEYS: list[LeafPublicKey] = [
    ec.generate_private_key(ec.SECP256R1()).public_key(),
    ec.generate_private_key(ec.SECP384R1()).public_key(),
    ec.generate_private_key(ec.SECP521R1()).public_key(),
    rsa.generate_private_key(65537, 2048).public_key(),
    rsa.generate_private_key(65537, 3072).public_key(),
    ed25519.Ed25519PrivateKey.generate().public_key(),
]
END_OF_2049 = 2_524_607_999
REFERENCE = Names(
    common_name="reference",
    dns=("reference.example.com",),
    emails=("reference@example.com",),
    ips=(ipaddress.ip_address("192.0.2.1"),),
    uris=("spiffe://reference/x",),
    user_ids=("reference",),
    serial_number="7",
)


def _sound(text: str) -> bool:
    try:
        check_text(text, 64, "it")
    except BadName:
        return False
    return True


TEXT = st.one_of(
    HOST, st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=64).filter(_sound)
)
TEXTS = st.lists(TEXT, max_size=2).map(tuple)
ROLES = st.builds(
    Role,
    country=st.sampled_from([(), ("DE",), ("DE", "FR")]),
    organization=TEXTS,
    ou=TEXTS,
    locality=TEXTS,
    province=TEXTS,
    street_address=TEXTS,
    postal_code=st.sampled_from([(), ("10115",)]),
    client_flag=st.booleans(),
    server_flag=st.booleans(),
    ext_key_usage_oids=st.sampled_from([(), ("1.3.6.1.5.5.7.3.17",)]),
    policy_identifiers=st.sampled_from([(), ("2.23.140.1.2.1", "2.999.4294967296")]),
)
NAMES = st.builds(
    Names,
    common_name=st.one_of(st.just(""), TEXT),
    dns=st.lists(st.one_of(HOST, HOST.map("*.{}".format), HOST.map(str.upper)), max_size=40).map(tuple),
    emails=st.lists(st.builds("{}@{}".format, LABEL, HOST), max_size=2).map(tuple),
    ips=st.lists(st.ip_addresses(), max_size=3).map(tuple),
    uris=st.lists(
        st.one_of(LABEL.map("spiffe://td/{}".format), HOST.map("https://{}/a?b#c".format)), max_size=2
    ).map(tuple),
    user_ids=st.lists(TEXT, max_size=2).map(tuple),
    serial_number=st.one_of(st.just(""), st.from_regex(r"[A-Za-z0-9 '()+,./:=?-]{1,64}", fullmatch=True)),
).filter(lambda names: bool(names.common_name or names.has_sans))
URLS = Urls(
    issuing_certificates=("http://ca.example.com/ca",), crl_distribution_points=("http://ca.example.com/crl",)
)
TIMES = st.one_of(st.integers(0, 253_402_300_799), st.integers(END_OF_2049 - 2, END_OF_2049 + 2))


def template(ca: CaPublicKey, role: Role, urls: Urls | None = None) -> LeafTemplate:
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Issuer")])
    aki = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca)
    return leaf_template(issuer, ((aki, False), *url_extensions(urls or URLS)), "sha256", role)


def make(kind: LeafTemplate, names: Names, key: LeafPublicKey = LEAF_KEYS[0]) -> Leaf:
    public = (key, key_type_and_bits(key)[0], spki_der(key))
    return leaf(kind, names, public, (START, START + 60))


def like(names: Names) -> Names:
    """Other names of the same kinds."""
    fields = {field.name: getattr(names, field.name) for field in dataclasses.fields(names)}
    other: dict[str, Any] = {
        name: getattr(REFERENCE, name) if value else value for name, value in fields.items()
    }
    other["user_ids"] = REFERENCE.user_ids * len(names.user_ids)
    return Names(**other)


def built(wanted: Leaf, ca: CaPublicKey) -> bytes:
    return prepare(wanted.draft(), ca, Linter(validators=Findings())).tbs


@settings(max_examples=200, deadline=None)
@given(
    role=ROLES,
    names=NAMES,
    key=st.sampled_from(LEAF_KEYS),
    ca=st.sampled_from(CA_KEYS),
    window=st.tuples(TIMES, TIMES).map(sorted),
    serial=st.integers(1 << 158, (1 << 159) - 1),
)
def test_a_splice_is_what_the_builder_makes(
    role: Role, names: Names, key: LeafPublicKey, ca: CaPublicKey, window: list[int], serial: int
) -> None:
    kind = template(ca, role)
    first = make(kind, like(names), key)
    wanted = dataclasses.replace(
        make(kind, names, key), serial=serial, not_before=window[0], not_after=window[1]
    )
    assert wanted.shape == first.shape
    assert wanted.plain
    assert wanted.tbs(first.learn(built(first, ca))) == built(wanted, ca)


@settings(max_examples=200, deadline=None)
@given(seconds=st.one_of(TIMES, st.just(END_OF_2049), st.just(END_OF_2049 + 1)), number=st.integers(0))
def test_elements_can_be_read_again(seconds: int, number: int) -> None:
    row = [der.time(seconds), der.integer(number), der.tlv(der.OCTET_STRING, bytes(number % 70_000))]
    assert der.elements(der.content(der.tlv(der.SEQUENCE, b"".join(row)))) == row


@pytest.mark.parametrize("data", ["30", "3003", "30800000", "308500", "1f8100", "300200000500ff", "30820001"])
def test_what_is_not_der_is_refused(data: str) -> None:
    with pytest.raises(KmsError) as caught:
        der.content(bytes.fromhex(data))
    assert caught.value.kind is ErrorKind.INTEGRITY


@pytest.mark.parametrize(
    "dotted", ["2.5.4.3", "0.9.2342.19200300.100.1.1", "2.999.1", "1.2.840.113549.1.9.1"]
)
def test_object_identifiers(dotted: str) -> None:
    usage = x509.ExtendedKeyUsage([x509.ObjectIdentifier(dotted)]).public_bytes()
    assert der.content(usage) == der.oid(dotted)


def test_only_the_first_of_a_shape_and_samples_are_built(monkeypatch: pytest.MonkeyPatch) -> None:
    drafts: list[int] = []

    def counted(draft: Draft) -> x509.CertificateBuilder:
        drafts.append(draft.serial)
        return builder(draft)

    monkeypatch.setattr(signing, "builder", counted)
    validators = Findings()
    linter, kind = Linter(sample=10, validators=validators), template(CA_KEYS[0], Role())
    prepared = [prepare_leaf(make(kind, REFERENCE), CA_KEYS[0], linter) for _ in range(20)]
    assert drafts == [prepared[at].draft.serial for at in (0, 9, 19)]
    assert validators.seen == 3
    assert len({one.algorithm for one in prepared}) == 1


def test_other_names_are_always_built() -> None:
    kind = template(CA_KEYS[0], Role())
    wanted = make(kind, dataclasses.replace(REFERENCE, others=(("1.3.6.1.4.1.311.20.2.3", "me"),)))
    assert prepare_leaf(wanted, CA_KEYS[0], Linter(validators=Findings())).tbs == built(wanted, CA_KEYS[0])
    assert kind.splices == {}
    with pytest.raises(KmsError, match="cannot be spliced"):
        wanted.tbs(Splice(b"", b"", b""))


@pytest.mark.parametrize(
    "change", [{"serial": 1 << 159}, {"serial": 1}, {"not_before": -1}, {"not_before": START + 61}]
)
def test_what_no_certificate_of_ours_has_is_not_spliced(change: dict[str, Any]) -> None:
    wanted = dataclasses.replace(make(template(CA_KEYS[0], Role()), REFERENCE), **change)
    with pytest.raises(KmsError, match="cannot be spliced"):
        wanted.tbs(Splice(b"", b"", b""))


@pytest.mark.parametrize("text", ["a_b", "1\n", "ü", "a*"])
def test_a_serial_number_that_is_no_printable_string_is_refused(text: str) -> None:
    with pytest.raises(KmsError, match="serial_number") as caught:
        make(template(CA_KEYS[0], Role()), dataclasses.replace(REFERENCE, serial_number=text))
    assert caught.value.kind is ErrorKind.INVALID


@pytest.mark.parametrize("field", ["signature", "issuer", "constant"])
def test_the_sample_catches_a_corrupted_splice(field: str) -> None:
    linter, kind = Linter(sample=2, validators=Findings()), template(CA_KEYS[0], Role())
    first = make(kind, REFERENCE)
    prepare_leaf(first, CA_KEYS[0], linter)
    [splice] = kind.splices.values()
    good = getattr(splice, field)
    kind.splices[first.shape] = dataclasses.replace(splice, **{field: good[:-1] + bytes([good[-1] ^ 1])})
    with pytest.raises(KmsError, match="differs from the built one") as caught:
        prepare_leaf(make(kind, REFERENCE), CA_KEYS[0], linter)
    assert caught.value.kind is ErrorKind.INTEGRITY


@pytest.mark.parametrize(
    "change",
    [
        {"dns": ("a b.example.com",)},
        {"dns": ("bücher.example",)},
        {"emails": ("me@*.example.com",)},
        {"uris": ("https://ü.example/",)},
    ],
)
def test_a_name_that_nobody_checked_stops_at_the_splice(change: dict[str, Any]) -> None:
    kind = template(CA_KEYS[0], Role())
    linter = Linter(validators=Findings())
    prepare_leaf(make(kind, REFERENCE), CA_KEYS[0], linter)
    with pytest.raises(KmsError, match="cannot stand in a certificate") as caught:
        prepare_leaf(make(kind, dataclasses.replace(REFERENCE, **change)), CA_KEYS[0], linter)
    assert caught.value.kind is ErrorKind.INVALID


def test_what_the_server_splices_passes_every_linter(ca: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    ca.service.linter._sample = 1000
    wanted = {
        "common_name": "a.example.com",
        "alt_names": ["me@a.example.com"],
        "ip_sans": ["192.0.2.1", "::1"],
    }
    ca.issue(**wanted)
    monkeypatch.setattr(signing, "builder", None)
    spliced = load(ca.issue(**wanted)["certificate"])
    assert lint(spliced.public_bytes(Encoding.DER)) == []
    assert spliced.subject.rfc4514_string() == "CN=a.example.com"
    assert len(spliced.extensions.get_extension_for_class(x509.SubjectAlternativeName).value) == 4


Made = Callable[..., bytes]
SPOILS: dict[str, Callable[[Made], Made]] = {
    "serial": lambda tbs: lambda self, serial, *rest: tbs(self, serial ^ 1, *rest),
    "end": lambda tbs: (
        lambda self, serial, window, *rest: tbs(self, serial, (window[0], window[1] + 1), *rest)
    ),
    "start": lambda tbs: (
        lambda self, serial, window, *rest: tbs(self, serial, (window[0] - 1, window[1]), *rest)
    ),
    "key": lambda tbs: (
        lambda self, serial, window, subject, _, names: tbs(
            self, serial, window, subject, spki_der(LEAF_KEYS[0]), names
        )
    ),
    "garbage": lambda tbs: lambda *args: tbs(*args)[:-1],
}


@pytest.mark.parametrize("spoil", SPOILS)
def test_a_wrong_splice_never_leaves(ca: Bench, monkeypatch: pytest.MonkeyPatch, spoil: str) -> None:
    ca.service.linter._sample = 1000
    ca.issue()
    monkeypatch.setattr(Splice, "tbs", SPOILS[spoil](Splice.tbs))
    with pytest.raises(KmsError, match="signed certificate") as caught:
        ca.issue()
    assert caught.value.kind is ErrorKind.INTEGRITY
    assert sorted(rows(ca).values()) == [CertificateState.ISSUED, CertificateState.UNKNOWN]
