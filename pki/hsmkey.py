"""CA keys as cryptography's builders want them: the private half stays in the HSM.

cryptography accepts any subclass of its abstract key classes and calls `sign` with the whole
to-be-signed bytes (finding H8), so X.509 needs no hand-made DER. Three rules live here:

- nothing but `sign` and `public_key` answers; there are no private bytes to give;
- a `HsmSigner` may be bound to the one document that was linted, and refuses every other before the
  HSM is asked: what was not linted cannot be signed (Boulder's one-use issuance token);
- a `DrySigner` makes no signature at all, so the copy that is linted can never be valid.

The abstract classes grow between majors of cryptography; tests instantiate these.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import HashAlgorithm

from kms.errors import integrity, invalid
from kms.hsm import KeyRef, KeySpec, Purpose, Resident, Scheme
from kms.ids import CkaId

CaPublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

_PKCS1 = {
    "sha256": Scheme.RSA_PKCS1_SHA256,
    "sha384": Scheme.RSA_PKCS1_SHA384,
    "sha512": Scheme.RSA_PKCS1_SHA512,
}


class CaToken(Protocol):
    """What the CA asks of the HSM; `kms.hsm.Hsm` is one."""

    def generate(self, purpose: Purpose, spec: KeySpec, cka_id: CkaId, label: str) -> bytes: ...

    def sign(self, ref: KeyRef, scheme: Scheme, payload: bytes) -> bytes: ...

    def exists(self, cka_id: CkaId) -> bool: ...

    def destroy(self, cka_id: CkaId) -> None: ...


class LateToken:
    """A `CaToken` that is opened when first needed, and again after a seal.

    Args:
        get: gives the open HSM; raises KmsError(SEALED) or KmsError(HSM_UNAVAILABLE).
    """

    def __init__(self, get: Callable[[], CaToken]) -> None:
        self._get = get

    def generate(self, purpose: Purpose, spec: KeySpec, cka_id: CkaId, label: str) -> bytes:
        return self._get().generate(purpose, spec, cka_id, label)

    def sign(self, ref: KeyRef, scheme: Scheme, payload: bytes) -> bytes:
        return self._get().sign(ref, scheme, payload)

    def exists(self, cka_id: CkaId) -> bool:
        return self._get().exists(cka_id)

    def destroy(self, cka_id: CkaId) -> None:
        self._get().destroy(cka_id)


class Signer(Protocol):
    """Makes the DER signature over to-be-signed bytes."""

    def sign(self, data: bytes, hash_name: str) -> bytes: ...


class HsmSigner:
    """Signs in the HSM.

    Args:
        only: if given, the one document that this signer signs.
    """

    def __init__(self, token: CaToken, ref: Resident, only: bytes | None = None) -> None:
        self._token = token
        self._ref = ref
        self._only = only

    def sign(self, data: bytes, hash_name: str) -> bytes:
        """Raises KmsError(INTEGRITY) for another document than `only`; HSM errors pass through."""
        if self._only is not None and not hmac.compare_digest(data, self._only):
            raise integrity("the document to sign differs from the one that was checked")
        digest = hashlib.new(hash_name, data).digest()
        if self._ref.spec in {KeySpec.RSA_2048, KeySpec.RSA_3072, KeySpec.RSA_4096}:
            return self._token.sign(self._ref, _PKCS1[hash_name], digest)
        raw = self._token.sign(self._ref, Scheme.ECDSA, digest)
        half = len(raw) // 2
        return encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))


class DrySigner:
    """Fills the signature's place with a constant of the right form.

    Args:
        public: the issuer's key; decides the form.
    """

    def __init__(self, public: CaPublicKey) -> None:
        if isinstance(public, rsa.RSAPublicKey):
            self._filler = b"\x01" * (public.key_size // 8)
        else:
            half = 1 << (public.curve.key_size - 2)
            self._filler = encode_dss_signature(half, half)

    def sign(self, data: bytes, hash_name: str) -> bytes:
        del data, hash_name
        return self._filler


class _NeverLeaves:
    """What no CA key does."""

    def private_bytes(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("a CA key never leaves the HSM")

    def private_numbers(self) -> NoReturn:
        raise TypeError("a CA key never leaves the HSM")

    def exchange(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("a CA key only signs")

    def decrypt(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("a CA key only signs")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a CA key cannot be pickled")


class EcCaKey(_NeverLeaves, ec.EllipticCurvePrivateKey):
    """An ECDSA key behind a `Signer`."""

    def __init__(self, public: ec.EllipticCurvePublicKey, signer: Signer) -> None:
        self._public = public
        self._signer = signer

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public.curve

    @property
    def key_size(self) -> int:
        return self._public.curve.key_size

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """DER ECDSA-Sig-Value over the hash of `data`."""
        algorithm = signature_algorithm.algorithm
        if not isinstance(algorithm, HashAlgorithm):
            raise TypeError("give the message, not its digest")
        return self._signer.sign(bytes(data), algorithm.name)

    def __copy__(self) -> EcCaKey:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> EcCaKey:
        return self


class RsaCaKey(_NeverLeaves, rsa.RSAPrivateKey):
    """An RSA key behind a `Signer`; PKCS #1 v1.5 only."""

    def __init__(self, public: rsa.RSAPublicKey, signer: Signer) -> None:
        self._public = public
        self._signer = signer

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def public_key(self) -> rsa.RSAPublicKey:
        return self._public

    def sign(self, data: bytes, padding: padding.AsymmetricPadding, algorithm: Any) -> bytes:
        """PKCS #1 v1.5 signature over the hash of `data`."""
        if not isinstance(algorithm, HashAlgorithm) or padding.name != "EMSA-PKCS1-v1_5":
            raise TypeError("CA keys sign messages with PKCS #1 v1.5")
        return self._signer.sign(data, algorithm.name)

    def __copy__(self) -> RsaCaKey:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> RsaCaKey:
        return self


def private_key(public: CaPublicKey, signer: Signer) -> EcCaKey | RsaCaKey:
    """The pair as a builder takes it."""
    if isinstance(public, rsa.RSAPublicKey):
        return RsaCaKey(public, signer)
    return EcCaKey(public, signer)


def ca_spec(key_type: str, key_bits: int) -> KeySpec:
    """The HSM's name for what the API calls key_type and key_bits (0: the default).

    Raises:
        KmsError(INVALID): not one of the CA key types.
    """
    if key_type == "rsa":
        specs = {
            0: KeySpec.RSA_2048,
            2048: KeySpec.RSA_2048,
            3072: KeySpec.RSA_3072,
            4096: KeySpec.RSA_4096,
        }
    elif key_type == "ec":
        specs = {0: KeySpec.EC_P256, 256: KeySpec.EC_P256, 384: KeySpec.EC_P384}
    else:
        raise invalid(f"unknown key type {key_type}")
    if key_bits not in specs:
        raise invalid(f"unsupported bit length for {key_type.upper()} key: {key_bits}")
    return specs[key_bits]
