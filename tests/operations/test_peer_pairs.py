"""Certificate requests, certificate chains and key agreement, against the real server."""

from __future__ import annotations

import datetime as dt
from base64 import b64encode
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from cryptography.x509.oid import AttributeOID, NameOID

from kms.errors import KmsError
from tests.keys.rig import Rig
from tests.operations.peer import CLIENT_FAULT, Case, Ours, Pair, compare, post

CA = ec.generate_private_key(ec.SECP256R1())
SIGNING = ["ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519", "rsa-2048", "rsa-3072"]
SETUP = [
    *(post(f"keys/{type_}", type=type_) for type_ in SIGNING),
    post("keys/ecdsa-p256/rotate"),
    post("keys/soft256", type="ecdsa-p256", exportable=True),
    post("keys/aes"),
    post("keys/mac", type="hmac", key_size=32),
    post("keys/derived", type="ed25519", derived=True),
]


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def template() -> str:
    builder = x509.CertificateSigningRequestBuilder(name("template"))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("a.example")]), critical=False)
    builder = builder.add_attribute(AttributeOID.CHALLENGE_PASSWORD, b"not ours")
    return builder.sign(CA, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def certificate(pem: str, subject: str = "leaf", *, ca: bool = False) -> str:
    public: Any = load_pem_public_key(pem.encode())
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder(name("ca"), name(subject), public, 5)
    builder = builder.not_valid_before(start).not_valid_after(start + dt.timedelta(days=900))
    builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    return builder.sign(CA, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def pem_of(key: Any) -> str:
    return str(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def both_chains(peer: httpx.Client, ours: Ours, key: str, after: str = "", **fields: Any) -> Pair:
    """The same certificate for each server's own key."""
    read = Case("GET", f"export/public-key/{key}/latest", {"format": "pem"})
    theirs = next(iter(peer.get(f"transit/{read.path}", params=read.body).json()["data"]["keys"].values()))
    mine = next(iter(ours.data(read)["keys"].values()))
    path = f"keys/{key}/set-certificate"
    return (
        post(path, {"certificate_chain": certificate(theirs) + after, **fields}),
        post(path, {"certificate_chain": certificate(mine) + after, **fields}),
    )


def test_every_request_gets_the_real_servers_answer(peer: httpx.Client, hsm_rig: Rig) -> None:
    ours = Ours(hsm_rig)
    compare(peer, hsm_rig, SETUP, [])
    issuer, stranger = certificate(pem_of(CA), "ca", ca=True), certificate(pem_of(CA), "z")
    request, path = template(), "keys/ecdsa-p256/set-certificate"
    chain = "certificate_chain"
    cases: list[Case | Pair] = [
        *(post(f"keys/{type_}/csr") for type_ in SIGNING),
        *(post(f"keys/{type_}/csr", csr=request) for type_ in SIGNING),
        *(post("keys/ecdsa-p256/csr", version=number) for number in (1, 2, 9, 0, -1)),
        post("keys/none/csr"),
        post("keys/aes/csr"),
        post("keys/mac/csr"),
        post("keys/derived/csr"),
        post("keys/ecdsa-p256/csr", csr="x"),
        post("keys/ecdsa-p256/csr", csr=b64encode(b"x").decode()),
        post(
            "keys/ecdsa-p256/csr",
            {"csr": "-----BEGIN CERTIFICATE REQUEST-----\nYQ==\n-----END CERTIFICATE REQUEST-----"},
            "the peer's text shows its inside",
        ),
        post(path),
        post(path, certificate_chain="x"),
        post(path, certificate_chain=""),
        post(path, certificate_chain=request),
        post(path, certificate_chain="-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----"),
        post(path, {chain: stranger}, CLIENT_FAULT),
        post("keys/none/set-certificate", certificate_chain=stranger),
        post("keys/aes/set-certificate", certificate_chain=stranger),
        both_chains(peer, ours, "ecdsa-p256"),
        both_chains(peer, ours, "ecdsa-p256", issuer),
        both_chains(peer, ours, "ecdsa-p256", "junk"),
        both_chains(peer, ours, "ecdsa-p256", version=2),
        both_chains(peer, ours, "ecdsa-p256", version=9),
        both_chains(peer, ours, "rsa-2048", issuer),
        both_chains(peer, ours, "ed25519", issuer),
        Case("GET", "keys/ecdsa-p256"),
        Case("GET", "export/certificate-chain/ecdsa-p256/2"),
        *_agreements(),
    ]
    compare(peer, hsm_rig, [], cases)


def _agreements() -> list[Case]:
    here, other = (
        pem_of(ec.generate_private_key(ec.SECP256R1())),
        pem_of(ec.generate_private_key(ec.SECP384R1())),
    )

    def derive(allowed: str = "", key: str = "dk", **fields: Any) -> Case:
        body = {"base_key_name": "soft256", "peer_public_key": here, **fields}
        return post(f"derive-key/{key}", body, allowed)

    return [
        post("derive-key/dk"),
        derive(CLIENT_FAULT, peer_public_key="x"),
        derive(CLIENT_FAULT, peer_public_key=other),
        derive(CLIENT_FAULT, peer_public_key=pem_of(Ed25519PrivateKey.generate())),
        derive(base_key_name="none"),
        derive(base_key_name="rsa-2048"),
        derive(key_derivation_algorithm="x"),
        derive(derived_key_type="x"),
        derive(derived_key_type="hmac"),
        derive(derived_key_type="ed25519"),
        derive(CLIENT_FAULT, base_key_version=7),
        derive(),
        derive(),
        Case("GET", "keys/dk"),
        *(
            derive(key=f"dk-{type_}", derived_key_type=type_)
            for type_ in ("aes128-gcm96", "xchacha20-poly1305")
        ),
        Case("GET", "keys/dk-aes128-gcm96"),
    ]


@pytest.mark.parametrize(
    ("type_", "protection"),
    [
        *((type_, "software") for type_ in SIGNING),
        # A larger RSA key in the HSM takes seconds to make and shows nothing new.
        *((type_, "hsm") for type_ in SIGNING if type_ != "rsa-3072"),
    ],
)
def test_a_request_is_whole(hsm_rig: Rig, type_: str, protection: str) -> None:
    """Subject and extensions of the template, the key's own public key, a signature that holds."""
    hsm_rig.create("k", type_, protection=protection)
    text = hsm_rig.run("keys.csr", name="k", csr=template())["csr"]
    made = x509.load_pem_x509_csr(text.encode())
    assert made.is_signature_valid
    assert made.subject == name("template")
    assert [each.value for each in made.extensions] == [
        x509.SubjectAlternativeName([x509.DNSName("a.example")])
    ]
    assert len(made.attributes) == 1
    plain = x509.load_pem_x509_csr(hsm_rig.run("keys.csr", name="k")["csr"].encode())
    assert plain.is_signature_valid
    assert not list(plain.subject)
    assert not list(plain.extensions)


def test_the_certificate_of_another_key_is_refused(rig: Rig) -> None:
    rig.create("k", "ecdsa-p256", protection="software")
    with pytest.raises(KmsError, match="does not match the selected key version"):
        rig.run("keys.set-certificate", name="k", certificate_chain=certificate(pem_of(CA)))


def test_a_certificate_that_cannot_be_read_is_refused(rig: Rig) -> None:
    """A TLS feature that nobody registered: the parser raises what it does not document."""
    rig.create("k", "ecdsa-p256", protection="software")
    read = x509.load_pem_x509_certificate(certificate(pem_of(CA)).encode())
    feature = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.5.5.7.1.24"), b"\x30\x03\x02\x01\x63")
    made = (
        x509.CertificateBuilder()
        .subject_name(read.subject)
        .issuer_name(read.issuer)
        .public_key(CA.public_key())
        .serial_number(1)
        .not_valid_before(read.not_valid_before_utc)
        .not_valid_after(read.not_valid_after_utc)
        .add_extension(feature, critical=False)
        .sign(CA, hashes.SHA256())
    )
    chain = made.public_bytes(Encoding.PEM).decode()
    with pytest.raises(KmsError, match="malformed certificate"):
        rig.run("keys.set-certificate", name="k", certificate_chain=chain)


@pytest.mark.parametrize("type_", ["aes128-gcm96", "aes256-gcm96", "chacha20-poly1305", "xchacha20-poly1305"])
def test_both_servers_agree_on_the_same_key(peer: httpx.Client, rig: Rig, type_: str) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    base = {"exportable": True, "allow_plaintext_backup": True, "type": "ecdsa-p256"}
    peer.post(f"transit/keys/base-{type_}", json=base).raise_for_status()
    text = peer.get(f"transit/backup/base-{type_}").json()["data"]["backup"]
    rig.result("restore", name="base", backup=text)
    asked = {"peer_public_key": pem_of(other), "derived_key_type": type_}
    body = {"base_key_name": f"base-{type_}", **asked}
    peer.post(f"transit/derive-key/agreed-{type_}", json=body).raise_for_status()
    peer.post(f"transit/keys/agreed-{type_}/config", json={"exportable": True}).raise_for_status()
    rig.run("derive-key", name="agreed", base_key_name="base", **asked)
    rig.run("keys.config", name="agreed", exportable=True)
    theirs = peer.get(f"transit/export/encryption-key/agreed-{type_}").json()["data"]["keys"]
    assert rig.run("export", name="agreed", kind="encryption-key")["keys"] == theirs
