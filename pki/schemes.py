"""Signature schemes of CAs, by name, and signing and verifying with them.

A scheme is the digest's name for ECDSA and RSA PKCS #1 v1.5 ("sha256"), the same after "pss-" for RSASSA-PSS
(RFC 4055; salt as long as the digest), or "pure" for keys that sign the message itself (RFC 8410, RFC 9881).
"""

from __future__ import annotations

from typing import Any, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512

MldsaPublicKey = mldsa.MLDSA44PublicKey | mldsa.MLDSA65PublicKey | mldsa.MLDSA87PublicKey
MldsaPrivateKey = mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey | mldsa.MLDSA87PrivateKey
CaPublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey | MldsaPublicKey
CaPrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | MldsaPrivateKey

PURE = "pure"
_PSS = "pss-"
DIGESTS: dict[str, SHA256 | SHA384 | SHA512] = {
    "sha256": SHA256(),
    "sha384": SHA384(),
    "sha512": SHA512(),
}
HASHES: dict[str, SHA256 | SHA384 | SHA512 | None] = {
    **DIGESTS,
    **{_PSS + name: digest for name, digest in DIGESTS.items()},
    PURE: None,
}
_ECDSA = {name: ec.ECDSA(algorithm) for name, algorithm in DIGESTS.items()}
# Names of `revocation_signature_algorithm`, in lower case.
_NAMED = {
    **{f"{name}withrsa": name for name in DIGESTS},
    **{f"{name}withrsapss": _PSS + name for name in DIGESTS},
    **{f"ecdsawith{name}": name for name in DIGESTS},
    "ed25519": PURE,
    "pureed25519": PURE,
}
_BY_BITS = {256: "sha256", 384: "sha384", 512: "sha512"}

_Builder = TypeVar(
    "_Builder",
    x509.CertificateBuilder,
    x509.CertificateSigningRequestBuilder,
    x509.CertificateRevocationListBuilder,
)


def scheme_for(public: CaPublicKey, signature_bits: int = 0, *, pss: bool = False) -> str:
    """What a key signs with: fixed by the curve or the type; for RSA as asked."""
    if isinstance(public, ec.EllipticCurvePublicKey):
        return {256: "sha256", 384: "sha384"}.get(public.curve.key_size, "sha512")
    if isinstance(public, rsa.RSAPublicKey):
        return (_PSS if pss else "") + _BY_BITS.get(signature_bits, "sha256")
    return PURE


def named_scheme(public: CaPublicKey, name: str) -> str | None:
    """The scheme that an algorithm's name stands for, or None when a key does not sign so."""
    plain = name.lower().replace("-", "")
    scheme = _NAMED.get(plain)
    if isinstance(public, rsa.RSAPublicKey):
        return scheme if "rsa" in plain else None
    return scheme if scheme == scheme_for(public) and "rsa" not in plain else None


def algorithm_name(public: CaPublicKey, scheme: str) -> str:
    """A scheme under the peer's name for it."""
    digest = digest_of(scheme).upper()
    if isinstance(public, ec.EllipticCurvePublicKey):
        return f"ECDSAWith{digest}"
    if isinstance(public, rsa.RSAPublicKey):
        return f"{digest}WithRSA{'PSS' if is_pss(scheme) else ''}"
    return "Ed25519" if isinstance(public, ed25519.Ed25519PublicKey) else ""


def digest_of(scheme: str) -> str:
    """The digest's name in a scheme that has one."""
    return scheme.removeprefix(_PSS)


def is_pss(scheme: str) -> bool:
    """Whether it is one of RSASSA-PSS."""
    return scheme.startswith(_PSS)


def padding_of(scheme: str) -> padding.PSS | None:
    """What a builder wants to be told for RSASSA-PSS."""
    if not is_pss(scheme):
        return None
    return padding.PSS(padding.MGF1(DIGESTS[digest_of(scheme)]), padding.PSS.DIGEST_LENGTH)


def build(builder: _Builder, key: Any, scheme: str) -> Any:
    """A builder's document, signed by `key`, which is one of `pki.hsmkey`."""
    return builder.sign(key, HASHES[scheme], rsa_padding=padding_of(scheme))


def sign(private: CaPrivateKey, data: bytes, scheme: str) -> bytes:
    """A signature over the whole message by a key in this process, as X.509 carries it."""
    if isinstance(private, rsa.RSAPrivateKey):
        return private.sign(data, padding_of(scheme) or padding.PKCS1v15(), DIGESTS[digest_of(scheme)])
    if isinstance(private, ec.EllipticCurvePrivateKey):
        return private.sign(data, _ECDSA[scheme])
    return private.sign(data)


def verifies(public: CaPublicKey, signature: bytes, data: bytes, scheme: str) -> bool:
    """Whether it is this key's signature over the message."""
    try:
        if isinstance(public, rsa.RSAPublicKey):
            public.verify(
                signature, data, padding_of(scheme) or padding.PKCS1v15(), DIGESTS[digest_of(scheme)]
            )
        elif isinstance(public, ec.EllipticCurvePublicKey):
            public.verify(signature, data, _ECDSA[scheme])
        else:
            public.verify(signature, data)
    except InvalidSignature:
        return False
    return True
