"""Requests that no tool makes: a certificate, or a refusal that says so, and never a crash of ours (an internal error)."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kms import strangers
from kms.errors import ErrorKind, KmsError
from kms.hsm import Hsm
from pki.est import formats
from pki.lint import Pkilint
from tests.pki import foreign
from tests.pki.bench import Bench, load, make_bench
from tests.support import make_store

KEY = ec.generate_private_key(ec.SECP256R1())
SPKI = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
ECDSA = bytes.fromhex("300a06082a8648ce3d040302")
EXTENSION_REQUEST = bytes.fromhex("06092a864886f70d01090e")
CN, SAN = bytes.fromhex("0603550403"), bytes.fromhex("0603551d11")
UTF8, BITS, OCTETS, UNIVERSAL, BMP, T61, VISIBLE = 0x0C, 0x03, 0x04, 0x1C, 0x1E, 0x14, 0x1A


def tlv(tag: int, value: bytes) -> bytes:
    size = len(value)
    length = (
        bytes([size])
        if size < 128
        else bytes([0x81, size])
        if size < 256
        else b"\x82" + size.to_bytes(2, "big")
    )
    return bytes([tag]) + length + value


def subject(tag: int, value: bytes) -> bytes:
    return tlv(0x30, tlv(0x31, tlv(0x30, CN + tlv(tag, value))))


def wish(oid: str, value: bytes, *, critical: bool = False) -> bytes:
    """One extension."""
    return tlv(0x30, tlv(6, bytes.fromhex(oid)) + (b"\x01\x01\xff" if critical else b"") + tlv(4, value))


def asking(*extensions: bytes) -> bytes:
    return tlv(0x30, EXTENSION_REQUEST + tlv(0x31, tlv(0x30, b"".join(extensions))))


def info(name: bytes, attributes: bytes = b"") -> bytes:
    """CertificationRequestInfo."""
    return tlv(0x30, b"\x02\x01\x00" + name + SPKI + tlv(0xA0, attributes))


def signed(what: bytes) -> bytes:
    """The request, signed by whoever holds the key."""
    return tlv(0x30, what + ECDSA + tlv(3, b"\0" + KEY.sign(what, ec.ECDSA(hashes.SHA256()))))


def pem(der: bytes) -> str:
    text = base64.encodebytes(der).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n"


HOST = subject(UTF8, b"a.example.com")
REFUSED: dict[str, bytes] = {
    "a bit string for a name": info(subject(BITS, b"\0a")),
    "an integer for a name": info(subject(2, b"\1")),
    "half a character": info(subject(BMP, b"\0a\0")),
    "a lone surrogate": info(subject(BMP, b"\xd8\0\0a")),
    "a surrogate in UTF-8": info(subject(UTF8, b"\xed\xa0\x80")),
    "beyond Unicode": info(subject(UNIVERSAL, b"\xff\xff\xff\xff")),
    "Latin-1 in T.61": info(subject(T61, b"M\xfcller")),
    "a TLS feature that nobody registered": info(
        HOST, asking(wish("2b06010505070118", b"\x30\x03\x02\x01\x63"))
    ),
    "extensions twice": info(HOST, asking(wish("551d11", b"\x30\0")) + asking(wish("551d11", b"\x30\0"))),
    "one extension twice": info(HOST, asking(wish("551d11", b"\x30\0"), wish("551d11", b"\x30\0"))),
    "a set of no extensions": info(HOST, tlv(0x30, EXTENSION_REQUEST + b"\x31\0")),
    "version 2": tlv(0x30, b"\x02\x01\x01" + HOST + SPKI + tlv(0xA0, b"")),
    "a set of two": info(HOST, tlv(0x30, EXTENSION_REQUEST + tlv(0x31, b"\x30\0\x30\0"))),
    "no usages": info(HOST, asking(wish("551d25", b"\x30\0"))),
    "a negative path length": info(
        HOST, asking(wish("551d13", bytes.fromhex("30060101ff0201ff"), critical=True))
    ),
    "a huge path length": info(HOST, asking(wish("551d13", b"\x30\x10\x01\x01\xff\x02\x0b" + b"\x7f" * 11))),
    "Latin-1 in a host name": info(
        HOST, asking(wish("551d11", tlv(0x30, tlv(0x82, b"m\xfcnchen.example.com"))))
    ),
    "an empty host name": info(HOST, asking(wish("551d11", b"\x30\x02\x82\x00"))),
    "an address of five octets": info(HOST, asking(wish("551d11", b"\x30\x07\x87\x05\1\2\3\4\5"))),
    "an address of none": info(HOST, asking(wish("551d11", b"\x30\x02\x87\x00"))),
    "a kind of name that does not exist": info(HOST, asking(wish("551d11", b"\x30\x03\x89\x01x"))),
    "an X.400 address": info(HOST, asking(wish("551d11", b"\x30\x04\xa3\x02\x30\x00"))),
    "an other name of nothing": info(HOST, asking(wish("551d11", bytes.fromhex("3007a00506032a0304")))),
    "an other name that is a sequence": info(
        HOST, asking(wish("551d11", bytes.fromhex("300ba00906032a0304a0023000")))
    ),
    "names that are none": info(HOST, asking(wish("551d11", b"\x0c\x01a"))),
}
# Refused or not, as each way has it.
ODD: dict[str, bytes] = {
    "UniversalString": info(subject(UNIVERSAL, "a.example.com".encode("utf-32-be"))),
    "BMPString": info(subject(BMP, "a.example.com".encode("utf-16-be"))),
    "TeletexString": info(subject(T61, b"a.example.com")),
    "VisibleString": info(subject(VISIBLE, b"a.example.com")),
    "octets": info(subject(OCTETS, b"a.example.com")),
    "no names": info(HOST, asking(wish("551d11", b"\x30\0"))),
    "no key usages": info(HOST, asking(wish("551d0f", b"\x03\x01\x00", critical=True))),
    "too many key usages": info(HOST, asking(wish("551d0f", b"\x03\x03\x00\xff\xff", critical=True))),
    "120 extensions": info(HOST, asking(*(wish(f"2a03{number:02x}", b"\5\0") for number in range(120)))),
    "Microsoft's attribute": info(
        HOST, tlv(0x30, bytes.fromhex("060a2b060104018237020 10e".replace(" ", "")) + tlv(0x31, b"\x30\0"))
    ),
}
WAYS: list[tuple[str, dict[str, object]]] = [
    ("sign", {"role": "web"}),
    ("sign-verbatim", {}),
    ("sign-intermediate", {"use_csr_values": True}),
    ("sign-intermediate", {"common_name": "Sub CA"}),
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, hsm: Hsm) -> Iterator[Bench]:
    store = make_store(tmp_path_factory.mktemp("strange"))
    bench = make_bench(store, hsm)
    bench.root()
    bench.role(key_type="any", allow_any_name=True, require_cn=False, allowed_other_sans=["*"])
    yield bench
    store.close()


def outcome(bench: Bench, csr: str, way: str, more: dict[str, object]) -> x509.Certificate | None:
    """The certificate, None for a refusal; anything else fails."""
    before = len(bench.token.calls)
    error: KmsError
    try:
        return load(bench.do(way, csr=csr, **more)["certificate"])
    except KmsError as refused:
        error = refused
    assert error.kind is ErrorKind.INVALID, error.detail
    assert len(bench.token.calls) == before
    return None


@pytest.mark.parametrize("case", REFUSED)
def test_refused(shared: Bench, case: str) -> None:
    csr = pem(signed(REFUSED[case]))
    assert [outcome(shared, csr, way, more) for way, more in WAYS[:3]] == [None] * 3


@pytest.mark.parametrize("case", ODD)
def test_refused_or_signed(shared: Bench, case: str) -> None:
    csr = pem(signed(ODD[case]))
    made = [outcome(shared, csr, way, more) for way, more in WAYS]
    assert made[0] is not None
    # Under a role the text is written anew, in a type that every reader knows.
    text = made[0].subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0]
    assert text.value == "a.example.com"
    assert made[3] is not None


TEMPLATE = info(
    subject(UTF8, b"a.example.com"),
    asking(
        wish(
            "551d11",
            tlv(0x30, tlv(0x82, b"b.example.com") + tlv(0x87, b"\x0a\0\0\1") + tlv(0x86, b"urn:x:1")),
        ),
        wish("551d0f", b"\x03\x02\x05\xa0", critical=True),
        wish("551d25", bytes.fromhex("300a06082b06010505070301")),
        wish("551d13", b"\x30\0"),
        wish("551d20", bytes.fromhex("300630040602 2a03".replace(" ", ""))),
    ),
)
NAMES_AND_WISHES = [
    at for at in range(len(TEMPLATE)) if not TEMPLATE.index(SPKI) <= at < TEMPLATE.index(SPKI) + len(SPKI)
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(
        st.tuples(st.sampled_from(NAMES_AND_WISHES), st.integers(0, 255)), min_size=1, max_size=3
    ),
    way=st.sampled_from(WAYS),
)
@pytest.mark.filterwarnings("ignore:Attribute's length")
def test_whatever_is_signed_is_refused_or_sound(
    shared: Bench, changes: list[tuple[int, int]], way: tuple[str, dict[str, object]]
) -> None:
    """Octets of a good request changed, and the whole signed again by the holder of its key."""
    changed = bytearray(TEMPLATE)
    for at, octet in changes:
        changed[at] = octet
    made = outcome(shared, pem(signed(bytes(changed))), *way)
    if made is not None:
        assert Pkilint().certificate(made.public_bytes(Encoding.DER)) == []


def test_a_certificate_that_cannot_be_read_is_refused(shared: Bench) -> None:
    """Where clients bring certificates: the same parser, the same kinds of crash."""
    good = x509.load_pem_x509_certificate(foreign.root()[1].encode()).public_bytes(Encoding.DER)
    bad = good.replace(b"\x0c\x0cForeign Root", b"\x03\x0c\x00oreign Root")  # a bit string, twice
    assert bad != good
    with pytest.raises(strangers.Unreadable):
        strangers.certificate(bad)
    text = base64.encodebytes(bad).decode()
    bundle = f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n"
    for way, more in (
        ("import-bundle", {"pem_bundle": bundle}),
        ("revoke", {"certificate": bundle}),
        ("sign-self-issued", {"certificate": bundle}),
    ):
        with pytest.raises(KmsError) as refused:
            shared.do(way, **more)
        assert refused.value.kind is ErrorKind.INVALID


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    for read in (strangers.certificate, strangers.request):
        with pytest.raises(strangers.Unreadable):
            read(data)


def test_est_takes_short_requests_in_der() -> None:
    """One of under 256 octets has another length octet: Ed25519, or P-256 without names."""
    short = signed(info(subject(UTF8, b"a")))
    assert short[1] == 0x81 or len(short) < 256
    assert formats.request(short.decode("latin-1")).is_signature_valid
    assert formats.request(base64.b64encode(short).decode()).is_signature_valid
