"""Prepare, then sign: the two steps of the irreversible act (Boulder's issuanceToken).

`prepare` is the only maker of a `Prepared`, and `sign` takes nothing else, so nothing is signed that
was not linted. The HSM is asked to sign exactly the linted bytes: `HsmSigner(only=...)` compares before
C_Sign, and the result is compared and verified again after it (a faulty HSM is caught here, T-15).
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from kms.errors import integrity
from kms.hsm import Resident
from pki.hsmkey import CaPublicKey, CaToken, DrySigner, HsmSigner, private_key
from pki.lint import Linter
from pki.profiles import Draft, builder

_SEQUENCE, _BIT_STRING = 0x30, 0x03
HASHES: dict[str, SHA256 | SHA384 | SHA512] = {"sha256": SHA256(), "sha384": SHA384(), "sha512": SHA512()}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A linted draft and its to-be-signed bytes. Made by `prepare` only."""

    draft: Draft
    tbs: bytes
    algorithm: bytes  # the AlgorithmIdentifier of the signature, DER


def prepare(draft: Draft, issuer_key: CaPublicKey, linter: Linter) -> Prepared:
    """Build the certificate without a signature and lint it.

    Raises:
        KmsError(INVALID): it breaks a rule of X.509. KmsError(INTEGRITY): it is not what the draft says.
    """
    signer = private_key(issuer_key, DrySigner(issuer_key))
    dry = builder(draft).sign(signer, HASHES[draft.hash_name])
    der, tbs = dry.public_bytes(Encoding.DER), dry.tbs_certificate_bytes
    linter.certificate(der, draft)
    return Prepared(draft, tbs, _algorithm(der, tbs, dry.signature))


def sign(prepared: Prepared, issuer_key: CaPublicKey, token: CaToken, ref: Resident) -> bytes:
    """The certificate in DER: the linted bytes, their algorithm, and the HSM's signature.

    Raises:
        KmsError: the HSM's; INTEGRITY when what came back is not the linted certificate, well signed.
    """
    signer = HsmSigner(token, ref, only=prepared.tbs)
    algorithm = HASHES[prepared.draft.hash_name]
    signature = signer.sign(prepared.tbs, algorithm.name)
    # Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signature BIT STRING } (RFC 5280 4.1).
    # Put together here and parsed by another's code: building it twice would cost more than signing it.
    body = prepared.tbs + prepared.algorithm + _tlv(_BIT_STRING, b"\x00" + signature)
    der = _tlv(_SEQUENCE, body)
    signed = x509.load_der_x509_certificate(der)
    if signed.tbs_certificate_bytes != prepared.tbs:
        raise integrity("the signed certificate is not the one that was checked")
    _verify(issuer_key, signed, algorithm)
    return der


def _tlv(tag: int, value: bytes) -> bytes:
    length = len(value)
    if length < 0x80:
        return bytes((tag, length)) + value
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + value


def _algorithm(der: bytes, tbs: bytes, filler: bytes) -> bytes:
    """What stands between the to-be-signed bytes and the signature of the unsigned copy."""
    start = der.index(tbs) + len(tbs)
    end = len(der) - len(_tlv(_BIT_STRING, b"\x00" + filler))
    return der[start:end]


def _verify(key: CaPublicKey, certificate: x509.Certificate, algorithm: HashAlgorithm) -> None:
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(
                certificate.signature, certificate.tbs_certificate_bytes, padding.PKCS1v15(), algorithm
            )
        else:
            key.verify(certificate.signature, certificate.tbs_certificate_bytes, ec.ECDSA(algorithm))
    except InvalidSignature:
        raise integrity("the HSM's signature over a certificate does not verify") from None
