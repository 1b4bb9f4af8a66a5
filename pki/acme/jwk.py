"""Account keys: JSON Web Keys (RFC 7517, 8037) of closed types, their thumbprints (RFC 7638), and signatures.

Strict on purpose: one spelling of every number, no member that we do not know in a position that matters, and an
algorithm only with the key that it belongs to. `cryptography` checks that points lie on their curve.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from pki.acme.problems import AcmeProblem, malformed
from pki.goodkey import LeafPublicKey

_CURVES: dict[str, tuple[ec.EllipticCurve, int]] = {
    "P-256": (ec.SECP256R1(), 32),
    "P-384": (ec.SECP384R1(), 48),
    "P-521": (ec.SECP521R1(), 66),
}
_EC_ALGORITHMS: dict[str, tuple[str, hashes.HashAlgorithm]] = {
    "ES256": ("secp256r1", hashes.SHA256()),
    "ES384": ("secp384r1", hashes.SHA384()),
    "ES512": ("secp521r1", hashes.SHA512()),
}
_RSA_ALGORITHMS: dict[str, hashes.HashAlgorithm] = {
    "RS256": hashes.SHA256(),
    "RS384": hashes.SHA384(),
    "RS512": hashes.SHA512(),
}
ALGORITHMS = ("ES256", "ES384", "ES512", "EdDSA", "RS256", "RS384", "RS512")
_MEMBERS = {"EC": ("crv", "x", "y"), "RSA": ("e", "n"), "OKP": ("crv", "x")}
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*\Z")
_MAX_RSA_BYTES = 1024


def unbase64url(text: str, what: str) -> bytes:
    """RFC 7515 base64url: no padding, no other characters, no stray bits.

    Raises:
        AcmeProblem(malformed): with `what` in the text.
    """
    if not _BASE64URL.match(text) or len(text) % 4 == 1:
        raise malformed(f"{what} is not base64url without padding")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise malformed(f"{what} is not base64url without padding") from None
    if base64url(data) != text:
        raise malformed(f"{what} is not canonical base64url")
    return data


def base64url(data: bytes) -> str:
    """Without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def canonical(jwk: Any) -> bytes:
    """The required members in RFC 7638's order: what a thumbprint is made of, and what is stored.

    Raises:
        AcmeProblem(badPublicKey, malformed).
    """
    if not isinstance(jwk, Mapping):
        raise malformed('"jwk" is not a JSON object')
    kind = jwk.get("kty")
    members = _MEMBERS.get(kind) if isinstance(kind, str) else None
    if members is None:
        raise AcmeProblem("badPublicKey", "unsupported key type: use EC, OKP (Ed25519) or RSA")
    if not _PRIVATE.isdisjoint(jwk):
        raise AcmeProblem(
            "badPublicKey", "the key has private members: make a new one, this one is known now"
        )
    needed = {"kty": kind, **{name: jwk.get(name) for name in members}}
    if not all(isinstance(value, str) for value in needed.values()):
        raise malformed(f"a key of type {kind} needs the text members {', '.join(members)}")
    return json.dumps(needed, sort_keys=True, separators=(",", ":")).encode("ascii")


def thumbprint(canonical_jwk: bytes) -> str:
    """RFC 7638 with SHA-256."""
    return base64url(hashlib.sha256(canonical_jwk).digest())


def load(canonical_jwk: bytes) -> LeafPublicKey:
    """The key. Raises AcmeProblem(badPublicKey, malformed)."""
    jwk: dict[str, str] = json.loads(canonical_jwk)
    try:
        if jwk["kty"] == "EC":
            return _load_ec(jwk)
        if jwk["kty"] == "RSA":
            return _load_rsa(jwk)
        if jwk["crv"] != "Ed25519":
            raise AcmeProblem("badPublicKey", "unsupported OKP curve: use Ed25519")
        return ed25519.Ed25519PublicKey.from_public_bytes(unbase64url(jwk["x"], '"x"'))
    except ValueError:
        raise AcmeProblem("badPublicKey", "the numbers of the key are not a public key") from None


def _load_ec(jwk: Mapping[str, str]) -> ec.EllipticCurvePublicKey:
    found = _CURVES.get(jwk["crv"])
    if found is None:
        raise AcmeProblem("badPublicKey", "unsupported curve: use P-256, P-384 or P-521")
    curve, size = found
    x, y = unbase64url(jwk["x"], '"x"'), unbase64url(jwk["y"], '"y"')
    if len(x) != size or len(y) != size:
        raise AcmeProblem("badPublicKey", f"coordinates on {jwk['crv']} have {size} bytes (RFC 7518 6.2.1.2)")
    return ec.EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), curve).public_key()


def _load_rsa(jwk: Mapping[str, str]) -> rsa.RSAPublicKey:
    n, e = unbase64url(jwk["n"], '"n"'), unbase64url(jwk["e"], '"e"')
    if n[:1] in {b"", b"\0"} or e[:1] in {b"", b"\0"} or len(n) > _MAX_RSA_BYTES or len(e) > 8:
        raise AcmeProblem(
            "badPublicKey", "the RSA numbers have leading zeros or the wrong size (RFC 7518 6.3.1)"
        )
    return rsa.RSAPublicNumbers(int.from_bytes(e), int.from_bytes(n)).public_key()


def verify(key: LeafPublicKey, algorithm: str, signature: bytes, signed: bytes) -> None:
    """Raise AcmeProblem(badSignatureAlgorithm, malformed) unless `signature` is the key's over `signed`."""
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            _verify_ec(key, algorithm, signature, signed)
        elif isinstance(key, rsa.RSAPublicKey):
            digest = _RSA_ALGORITHMS.get(algorithm)
            if digest is None:
                raise _wrong_algorithm(algorithm)
            key.verify(signature, signed, padding.PKCS1v15(), digest)
        else:
            if algorithm != "EdDSA":
                raise _wrong_algorithm(algorithm)
            key.verify(signature, signed)
    except InvalidSignature:
        raise malformed("the signature does not verify under the key") from None


def _verify_ec(key: ec.EllipticCurvePublicKey, algorithm: str, signature: bytes, signed: bytes) -> None:
    curve, digest = _EC_ALGORITHMS.get(algorithm, ("", None))
    if digest is None or curve != key.curve.name:
        raise _wrong_algorithm(algorithm)
    size = (key.curve.key_size + 7) // 8
    if len(signature) != 2 * size:
        raise malformed(f"a signature with {algorithm} has {2 * size} bytes (RFC 7518 3.4)")
    r, s = int.from_bytes(signature[:size]), int.from_bytes(signature[size:])
    key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(digest))


def _wrong_algorithm(algorithm: str) -> AcmeProblem:
    return AcmeProblem(
        "badSignatureAlgorithm",
        f"the algorithm {algorithm[:20]!r} is not known here, or not one for this key",
        more={"algorithms": list(ALGORITHMS)},
    )
