"""Signatures of an SSH CA: in the HSM, or with an imported key in this process."""

from __future__ import annotations

import hashlib
import hmac
from typing import Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

from kms.errors import integrity, invalid
from kms.hsm import Resident, Scheme
from pki.hsmkey import CaToken
from pki.schemes import DIGESTS
from pki.ssh.model import Algorithm
from pki.ssh.wire import PublicKey, mpint, string, take_string

SoftwareKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

MAX_PRIVATE_CHARACTERS = 16_384
_CURVE_HASHES = {256: "sha256", 384: "sha384", 521: "sha512"}  # RFC 5656 6.2.1
_RSA = {
    Algorithm.SHA256: ("sha256", Scheme.RSA_PKCS1_SHA256),
    Algorithm.SHA512: ("sha512", Scheme.RSA_PKCS1_SHA512),
}


class Signer(Protocol):
    """Signs in SSH's form."""

    def sign(self, data: bytes) -> bytes:
        """The signature blob: algorithm, then what it defines."""
        ...


def algorithm_for(public: PublicKey, asked: str) -> str:
    """The signature algorithm of a CA key, of an RSA one as its role says.

    Raises:
        KmsError(INVALID): the role asks for one that the key does not have.
    """
    if public.family == "rsa":
        return Algorithm.SHA256 if asked == Algorithm.DEFAULT else Algorithm(asked)
    if asked != Algorithm.DEFAULT:
        raise invalid(
            f"algorithm_signer {asked} needs an RSA issuer, and this one is {public.kind}: use default"
        )
    return public.kind


class HsmSigner:
    """One signature in the HSM.

    Args:
        only: the one document that this signer signs.
    """

    def __init__(self, token: CaToken, ref: Resident, public: PublicKey, algorithm: str, only: bytes) -> None:
        self._token = token
        self._ref = ref
        self._public = public
        self._algorithm = algorithm
        self._only = only

    def sign(self, data: bytes) -> bytes:
        """Raises KmsError(INTEGRITY) for another document than `only`; HSM errors pass through."""
        if not hmac.compare_digest(data, self._only):
            raise integrity("the document to sign differs from the one that was checked")
        name = self._algorithm.encode("ascii")
        if self._public.family == "ed25519":
            return string(name) + string(self._token.sign(self._ref, Scheme.EDDSA, data))
        if self._public.family == "rsa":
            hash_name, scheme = _RSA[Algorithm(self._algorithm)]
            digest = hashlib.new(hash_name, data).digest()
            return string(name) + string(self._token.sign(self._ref, scheme, digest))
        digest = hashlib.new(_CURVE_HASHES[self._public.bits], data).digest()
        raw = self._token.sign(self._ref, Scheme.ECDSA, digest)
        half = len(raw) // 2
        pair = mpint(int.from_bytes(raw[:half], "big")) + mpint(int.from_bytes(raw[half:], "big"))
        return string(name) + string(pair)


class SoftwareSigner:
    """Signs with an imported key."""

    def __init__(self, private: bytes, algorithm: str) -> None:
        self._key = load_private(private.decode("ascii"))
        self._algorithm = algorithm

    def sign(self, data: bytes) -> bytes:
        """In this process."""
        name = string(self._algorithm.encode("ascii"))
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return name + string(self._key.sign(data))
        if isinstance(self._key, rsa.RSAPrivateKey):
            digest = DIGESTS[_RSA[Algorithm(self._algorithm)][0]]
            return name + string(self._key.sign(data, padding.PKCS1v15(), digest))
        digest = DIGESTS[_CURVE_HASHES[self._key.curve.key_size]]
        r, s = decode_dss_signature(self._key.sign(data, ec.ECDSA(digest)))
        return name + string(mpint(r) + mpint(s))


def verify(public: PublicKey, data: bytes, signature: bytes) -> None:
    """Whether a CA made this signature over these bytes.

    Raises:
        InvalidSignature: it did not. ValueError: it is no signature of such a key.
    """
    name, rest = take_string(signature)
    value, rest = take_string(rest)
    if rest:
        raise ValueError("something follows the signature")
    if isinstance(public.key, ed25519.Ed25519PublicKey):
        public.key.verify(value, data)
    elif isinstance(public.key, rsa.RSAPublicKey):
        digest = DIGESTS[_RSA[Algorithm(name.decode("ascii"))][0]]
        public.key.verify(value, data, padding.PKCS1v15(), digest)
    else:
        first, rest = take_string(value)
        second, _ = take_string(rest)
        pair = encode_dss_signature(int.from_bytes(first, "big"), int.from_bytes(second, "big"))
        public.key.verify(pair, data, ec.ECDSA(DIGESTS[_CURVE_HASHES[public.bits]]))


def load_private(text: str) -> SoftwareKey:
    """A private key without a passphrase, in OpenSSH's form or in PEM.

    Raises:
        KmsError(INVALID): not one, or of a type that no CA here has; the text never quotes it.
    """
    if len(text) > MAX_PRIVATE_CHARACTERS:
        raise invalid("could not parse private_key provided value: it is too long for a key")
    if not text.isascii():
        raise invalid("could not parse private_key provided value: not a private key in PEM")
    load = load_ssh_private_key if "BEGIN OPENSSH PRIVATE KEY" in text else load_pem_private_key
    try:
        key = load(text.encode(), password=None)
    except TypeError:
        raise invalid("could not parse private_key provided value: it has a passphrase; remove it") from None
    except (ValueError, UnsupportedAlgorithm):
        raise invalid("could not parse private_key provided value: not a private key in PEM") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey):
        raise invalid("could not parse private_key provided value: use RSA, ECDSA or Ed25519")
    return key
