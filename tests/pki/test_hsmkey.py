"""The key classes, on the cryptography that is installed."""

from __future__ import annotations

import copy
import pickle
from datetime import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_public_key,
)
from cryptography.x509.oid import NameOID

from kms.errors import ErrorKind, KmsError
from kms.hsm import Hsm, KeySpec, Purpose, Resident
from kms.ids import new_cka_id
from pki.hsmkey import CaPublicKey, DrySigner, HsmSigner, ca_spec, private_key

NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "key test")])
SPECS = [KeySpec.EC_P256, KeySpec.EC_P384, KeySpec.RSA_2048]


def make(hsm: Hsm, spec: KeySpec) -> tuple[CaPublicKey, Resident]:
    cka_id = new_cka_id()
    public = load_der_public_key(hsm.generate(Purpose.CA_SIGN, spec, cka_id, f"test {spec}"))
    assert isinstance(public, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
    return public, Resident(cka_id, Purpose.CA_SIGN, spec)


@pytest.mark.parametrize("spec", SPECS)
def test_a_csr_and_a_crl_signed_in_the_hsm_verify(hsm: Hsm, spec: KeySpec) -> None:
    public, ref = make(hsm, spec)
    key = private_key(public, HsmSigner(hsm, ref))
    csr = x509.CertificateSigningRequestBuilder().subject_name(NAME).sign(key, hashes.SHA256())
    assert csr.is_signature_valid
    moment = datetime(2026, 11, 21)  # noqa: DTZ001  (the builder's own form)
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(NAME)
        .last_update(moment)
        .next_update(moment.replace(day=22))
        .sign(key, hashes.SHA384())
    )
    assert crl.is_signature_valid(public)


@pytest.mark.parametrize("spec", SPECS)
def test_the_private_half_is_not_to_be_had(hsm: Hsm, spec: KeySpec) -> None:
    public, ref = make(hsm, spec)
    key = private_key(public, HsmSigner(hsm, ref))
    with pytest.raises(TypeError, match="never leaves"):
        key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(TypeError, match="never leaves"):
        key.private_numbers()
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(key)
    assert copy.copy(key) is key
    assert copy.deepcopy(key) is key
    assert key.key_size == key.public_key().key_size


def test_ca_keys_do_nothing_but_sign(hsm: Hsm) -> None:
    public, ref = make(hsm, KeySpec.EC_P256)
    key = private_key(public, HsmSigner(hsm, ref))
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    with pytest.raises(TypeError, match="only signs"):
        key.exchange(ec.ECDH(), public)
    with pytest.raises(TypeError, match="not its digest"):
        key.sign(b"\0" * 32, ec.ECDSA(utils.Prehashed(hashes.SHA256())))


def test_rsa_ca_keys_only_sign(hsm: Hsm) -> None:
    public, ref = make(hsm, KeySpec.RSA_2048)
    key = private_key(public, HsmSigner(hsm, ref))
    assert isinstance(key, rsa.RSAPrivateKey)
    pss = padding.PSS(padding.MGF1(hashes.SHA384()), padding.PSS.DIGEST_LENGTH)
    public.verify(key.sign(b"x", pss, hashes.SHA384()), b"x", pss, hashes.SHA384())  # type: ignore[call-arg, arg-type]  # RSA
    with pytest.raises(TypeError, match="PKCS #1"):
        key.sign(b"x", padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None), hashes.SHA256())
    with pytest.raises(TypeError, match="only signs"):
        key.decrypt(b"x", padding.PKCS1v15())


@pytest.mark.parametrize("spec", SPECS)
def test_a_signer_bound_to_a_document_signs_no_other(hsm: Hsm, spec: KeySpec) -> None:
    _, ref = make(hsm, spec)
    signer = HsmSigner(hsm, ref, only=b"linted")
    assert signer.sign(b"linted", "sha256")
    with pytest.raises(KmsError) as refused:
        signer.sign(b"linteD", "sha256")
    assert refused.value.kind is ErrorKind.INTEGRITY


@pytest.mark.parametrize("spec", SPECS)
def test_a_dry_signature_is_never_valid(hsm: Hsm, spec: KeySpec) -> None:
    public, _ = make(hsm, spec)
    key = private_key(public, DrySigner(public))
    csr = x509.CertificateSigningRequestBuilder().subject_name(NAME).sign(key, hashes.SHA256())
    assert not csr.is_signature_valid


@pytest.mark.parametrize(
    ("key_type", "bits"), [("ec", 224), ("rsa", 1024), ("rsa", 8192), ("mldsa", 65), ("", 0)]
)
def test_other_ca_key_types_are_refused(key_type: str, bits: int) -> None:
    with pytest.raises(KmsError) as refused:
        ca_spec(key_type, bits)
    assert refused.value.kind is ErrorKind.INVALID
