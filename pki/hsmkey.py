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
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import HashAlgorithm

from kms.errors import integrity, invalid
from kms.hsm import KeyRef, KeySpec, Purpose, Resident, Scheme
from kms.ids import CkaId
from pki import schemes
from pki.cakinds import MLDSA, MLDSA_SIGNATURE_BYTES, ca_kind, kind_of
from pki.schemes import CaPrivateKey, CaPublicKey

_RSA = {
    "sha256": Scheme.RSA_PKCS1_SHA256,
    "sha384": Scheme.RSA_PKCS1_SHA384,
    "sha512": Scheme.RSA_PKCS1_SHA512,
    "pss-sha256": Scheme.RSA_PSS_SHA256,
    "pss-sha384": Scheme.RSA_PSS_SHA384,
    "pss-sha512": Scheme.RSA_PSS_SHA512,
}
_ED25519_SIGNATURE_BYTES = 64


@dataclass(frozen=True, slots=True)
class SoftwareRef:
    """A CA key of protection software.

    Args:
        spec: its kind (pki.cakinds).
        load: gives the private half, for the moment of one signature.
    """

    spec: str
    load: Callable[[], CaPrivateKey] = field(repr=False, compare=False)


CaRef = Resident | SoftwareRef


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
    """Signs in the HSM, or with a key of protection software.

    Args:
        only: if given, the one document that this signer signs.
    """

    def __init__(self, token: CaToken, ref: CaRef, only: bytes | None = None) -> None:
        self._token = token
        self._ref = ref
        self._only = only

    def sign(self, data: bytes, hash_name: str) -> bytes:
        """`hash_name` is a scheme's name (pki.schemes).

        Raises KmsError(INTEGRITY) for another document than `only`; HSM errors pass through.
        """
        if self._only is not None and not hmac.compare_digest(data, self._only):
            raise integrity("the document to sign differs from the one that was checked")
        if isinstance(self._ref, SoftwareRef):
            return schemes.sign(self._ref.load(), data, hash_name)
        if hash_name == schemes.PURE:
            return self._token.sign(self._ref, Scheme.EDDSA, data)
        digest = hashlib.new(schemes.digest_of(hash_name), data).digest()
        if self._ref.spec in {KeySpec.RSA_2048, KeySpec.RSA_3072, KeySpec.RSA_4096}:
            return self._token.sign(self._ref, _RSA[hash_name], digest)
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
        elif isinstance(public, ec.EllipticCurvePublicKey):
            half = 1 << (public.curve.key_size - 2)
            self._filler = encode_dss_signature(half, half)
        else:
            kind = kind_of(public)
            bits = kind.bits if kind is not None else 0
            self._filler = b"\x01" * MLDSA_SIGNATURE_BYTES.get(bits, _ED25519_SIGNATURE_BYTES)

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
    """An RSA key behind a `Signer`."""

    def __init__(self, public: rsa.RSAPublicKey, signer: Signer) -> None:
        self._public = public
        self._signer = signer

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def public_key(self) -> rsa.RSAPublicKey:
        return self._public

    def sign(self, data: bytes, padding: padding.AsymmetricPadding, algorithm: Any) -> bytes:
        """PKCS #1 v1.5 or PSS signature over the hash of `data`."""
        if not isinstance(algorithm, HashAlgorithm) or padding.name not in {"EMSA-PKCS1-v1_5", "EMSA-PSS"}:
            raise TypeError("CA keys sign messages with PKCS #1 v1.5 or PSS")
        prefix = "pss-" if padding.name == "EMSA-PSS" else ""
        return self._signer.sign(data, prefix + algorithm.name)

    def __copy__(self) -> RsaCaKey:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> RsaCaKey:
        return self


class _PureCaKey(_NeverLeaves):
    """A key that signs messages as they are."""

    def __init__(self, public: Any, signer: Signer) -> None:
        self._public = public
        self._signer = signer

    def public_key(self) -> Any:
        return self._public

    def sign(self, data: Any, context: Any = None) -> bytes:
        if context:
            raise TypeError("certificates are signed without a context (RFC 9881 section 2)")
        return self._signer.sign(bytes(data), schemes.PURE)

    def sign_mu(self, mu: Any) -> bytes:
        raise TypeError(f"give the message, not its representative of {len(mu)} bytes")

    def private_bytes_raw(self) -> NoReturn:
        raise TypeError("a CA key never leaves the HSM")

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self


class Ed25519CaKey(_PureCaKey, ed25519.Ed25519PrivateKey):
    """An Ed25519 key behind a `Signer`."""


class Mldsa44CaKey(_PureCaKey, mldsa.MLDSA44PrivateKey):
    """An ML-DSA-44 key behind a `Signer`."""


class Mldsa65CaKey(_PureCaKey, mldsa.MLDSA65PrivateKey):
    """An ML-DSA-65 key behind a `Signer`."""


class Mldsa87CaKey(_PureCaKey, mldsa.MLDSA87PrivateKey):
    """An ML-DSA-87 key behind a `Signer`."""


_MLDSA_KEYS: dict[int, type[Mldsa44CaKey | Mldsa65CaKey | Mldsa87CaKey]] = {
    44: Mldsa44CaKey,
    65: Mldsa65CaKey,
    87: Mldsa87CaKey,
}


def private_key(public: CaPublicKey, signer: Signer) -> Any:
    """The pair as a builder takes it."""
    if isinstance(public, rsa.RSAPublicKey):
        return RsaCaKey(public, signer)
    if isinstance(public, ec.EllipticCurvePublicKey):
        return EcCaKey(public, signer)
    if isinstance(public, ed25519.Ed25519PublicKey):
        return Ed25519CaKey(public, signer)
    bits = next(bits for bits, pair in MLDSA.items() if isinstance(public, pair))
    return _MLDSA_KEYS[bits](public, signer)


def ca_spec(key_type: str, key_bits: int) -> KeySpec:
    """The HSM's name for what the API calls key_type and key_bits (0: the default).

    Raises:
        KmsError(INVALID): not one of the CA key types that a token makes.
    """
    kind = ca_kind(key_type, key_bits)
    if kind.hsm is None:
        raise invalid(f"no HSM makes {kind.spec} keys: use exported, which makes a software key")
    return kind.hsm


__all__ = [
    "CaPublicKey",
    "CaRef",
    "CaToken",
    "DrySigner",
    "HsmSigner",
    "LateToken",
    "SoftwareRef",
    "ca_spec",
    "private_key",
]
