"""Signing and verifying with one key version, in software or in the HSM, behind one interface.

Signatures of EC keys are DER (X9.62) here; the JWS form is made at the edge. Verification is always
in software: it needs only the public key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, padding, rsa, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from kms.errors import KmsError, invalid
from kms.hsm import Hsm, KeyRef, Scheme

# hashlib's name -> pyca/cryptography's object. Which of them callers may name is formats' table.
HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "sha1": hashes.SHA1(),  # noqa: S303  (old verifiers need it; the caller names it)
    "sha224": hashes.SHA224(),
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
    "sha3_224": hashes.SHA3_224(),
    "sha3_256": hashes.SHA3_256(),
    "sha3_384": hashes.SHA3_384(),
    "sha3_512": hashes.SHA3_512(),
}
NO_HASH: Final = "none"
SALT_AUTO: Final = 0  # the longest salt when signing, any when verifying
SALT_HASH: Final = -1  # as long as the hash
MAX_CONTEXT_BYTES: Final = 255

MldsaPublicKey = mldsa.MLDSA44PublicKey | mldsa.MLDSA65PublicKey | mldsa.MLDSA87PublicKey
MldsaPrivateKey = mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey | mldsa.MLDSA87PrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | Ed25519PublicKey | MldsaPublicKey


@dataclass(frozen=True, slots=True)
class How:
    """The parameters of one signature.

    Args:
        hash_name: hashlib's name, or "none" (PKCS#1 v1.5 over bytes that are padded as they are).
        prehashed: whether the data is the digest already.
        pkcs1v15: for RSA: PKCS#1 v1.5 instead of PSS.
        salt: for PSS: SALT_AUTO, SALT_HASH, or a length in bytes.
        context: for ML-DSA: the context string (FIPS 204 section 5.2), at most MAX_CONTEXT_BYTES.
    """

    hash_name: str = "sha256"
    prehashed: bool = False
    pkcs1v15: bool = False
    salt: int = SALT_AUTO
    context: bytes = b""


class Signer(Protocol):
    """The private half of one version."""

    def sign(self, data: bytes, how: How) -> bytes:
        """A signature over `data` (or over the digest that `data` is).

        Raises:
            KmsError(INVALID): the parameters do not fit the key or the data.
        """
        ...


def digest(data: bytes, how: How) -> bytes:
    """The digest that is to be signed; a given one must have its hash's length.

    Raises:
        KmsError(INVALID): it has not.
    """
    if not how.prehashed:
        return hashlib.new(how.hash_name, data).digest()
    size = HASHES[how.hash_name].digest_size
    if len(data) != size:
        raise invalid(f"prehashed input must be the {size} bytes of a digest, but has {len(data)}")
    return data


def _hash(data: bytes, how: How) -> hashes.HashAlgorithm | utils.Prehashed:
    if not how.prehashed:
        return HASHES[how.hash_name]
    digest(data, how)
    return utils.Prehashed(HASHES[how.hash_name])


@dataclass(frozen=True, slots=True)
class SoftwareEc:
    """ECDSA with the key in memory."""

    key: ec.EllipticCurvePrivateKey

    def sign(self, data: bytes, how: How) -> bytes:
        return self.key.sign(data, ec.ECDSA(_hash(data, how)))


@dataclass(frozen=True, slots=True)
class HsmEc:
    """ECDSA in the HSM over a digest made here."""

    hsm: Callable[[], Hsm]
    ref: KeyRef

    def sign(self, data: bytes, how: How) -> bytes:
        raw = self.hsm().sign(self.ref, Scheme.ECDSA, digest(data, how))
        return der_of(raw)


@dataclass(frozen=True, slots=True)
class SoftwareEdwards:
    """Ed25519 (RFC 8032) or ML-DSA (FIPS 204) with the key in memory; hash parameters do not apply."""

    key: Ed25519PrivateKey | MldsaPrivateKey

    def sign(self, data: bytes, how: How) -> bytes:
        if isinstance(self.key, Ed25519PrivateKey):
            return self.key.sign(data)
        return self.key.sign(data, how.context)


@dataclass(frozen=True, slots=True)
class HsmEdwards:
    """Ed25519 in the HSM."""

    hsm: Callable[[], Hsm]
    ref: KeyRef

    def sign(self, data: bytes, _how: How) -> bytes:
        return self.hsm().sign(self.ref, Scheme.EDDSA, data)


@dataclass(frozen=True, slots=True)
class SoftwareRsa:
    """RSA with the key in memory."""

    key: rsa.RSAPrivateKey

    def sign(self, data: bytes, how: How) -> bytes:
        try:
            if how.hash_name == NO_HASH:
                return self.key.sign(data, padding.PKCS1v15(), utils.NoDigestInfo())
            return self.key.sign(data, _padding(how, padding.PSS.MAX_LENGTH), _hash(data, how))
        except ValueError:
            # OpenSSL's only other complaints: the digest or the salt does not fit the modulus.
            raise _misfit(how) from None


@dataclass(frozen=True, slots=True)
class HsmRsa:
    """RSA in the HSM. An `auto` PSS salt is as long as the hash, the one length that every token offers."""

    hsm: Callable[[], Hsm]
    ref: KeyRef

    def sign(self, data: bytes, how: How) -> bytes:
        if how.hash_name == NO_HASH:
            return self.hsm().sign(self.ref, Scheme.RSA_PKCS1_NONE, data)
        scheme = _SCHEMES.get((how.pkcs1v15, how.hash_name))
        if scheme is None:
            raise invalid(
                "the HSM cannot sign with this hash_algorithm and signature_algorithm; use sha2-256"
            )
        salt = None if how.pkcs1v15 or how.salt <= 0 else how.salt
        return self.hsm().sign(self.ref, scheme, digest(data, how), salt_length=salt)


_SCHEMES: Final = {
    (True, "sha224"): Scheme.RSA_PKCS1_SHA224,
    (True, "sha256"): Scheme.RSA_PKCS1_SHA256,
    (True, "sha384"): Scheme.RSA_PKCS1_SHA384,
    (True, "sha512"): Scheme.RSA_PKCS1_SHA512,
    (True, "sha3_224"): Scheme.RSA_PKCS1_SHA3_224,
    (True, "sha3_256"): Scheme.RSA_PKCS1_SHA3_256,
    (True, "sha3_384"): Scheme.RSA_PKCS1_SHA3_384,
    (True, "sha3_512"): Scheme.RSA_PKCS1_SHA3_512,
    (False, "sha224"): Scheme.RSA_PSS_SHA224,
    (False, "sha256"): Scheme.RSA_PSS_SHA256,
    (False, "sha384"): Scheme.RSA_PSS_SHA384,
    (False, "sha512"): Scheme.RSA_PSS_SHA512,
}


def _padding(how: How, auto: object) -> padding.PKCS1v15 | padding.PSS:
    if how.pkcs1v15:
        return padding.PKCS1v15()
    salt = {SALT_AUTO: auto, SALT_HASH: padding.PSS.DIGEST_LENGTH}.get(how.salt, how.salt)
    return padding.PSS(padding.MGF1(HASHES[how.hash_name]), salt)  # type: ignore[arg-type]  # int or a marker


def _misfit(how: How) -> KmsError:
    if how.pkcs1v15:
        return invalid("the input is too long for this RSA key")
    if how.salt > 0:
        return invalid(f"requested salt length {how.salt} is invalid")
    return invalid("the hash is too long for this RSA key")


def verify(public: PublicKey, signature: bytes, data: bytes, how: How) -> None:
    """Return only when the signature is good.

    Raises:
        cryptography.exceptions.InvalidSignature: it is not.
        KmsError(INVALID): the parameters fit no signature at all.
    """
    if isinstance(public, Ed25519PublicKey):
        public.verify(signature, data)
    elif isinstance(public, MldsaPublicKey):
        public.verify(signature, data, how.context)
    elif isinstance(public, ec.EllipticCurvePublicKey):
        public.verify(signature, data, ec.ECDSA(_hash(data, how)))
    elif how.hash_name == NO_HASH:
        # The padded bytes are not a DigestInfo here, so they are recovered and compared (public data).
        if public.recover_data_from_signature(signature, padding.PKCS1v15(), None) != data:
            raise InvalidSignature
    else:
        _verify_rsa(public, signature, data, how)


def _verify_rsa(public: rsa.RSAPublicKey, signature: bytes, data: bytes, how: How) -> None:
    size = HASHES[how.hash_name].digest_size
    if not how.pkcs1v15 and how.salt > (public.key_size + 7) // 8 - size - 2:
        raise invalid(f"requested salt length {how.salt} is invalid")
    public.verify(signature, data, _padding(how, padding.PSS.AUTO), _hash(data, how))


def der_of(raw: bytes) -> bytes:
    """R || s -> DER SEQUENCE of two INTEGERs."""
    half = len(raw) // 2
    return utils.encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))


def raw_of(der: bytes, size: int) -> bytes:
    """DER -> r || s, each `size` bytes (RFC 7518 3.4)."""
    r, s = utils.decode_dss_signature(der)
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")
