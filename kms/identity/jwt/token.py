"""One compact JWS (RFC 7515): the signature, before anything in it is believed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.api_jws import PyJWS
from jwt.exceptions import PyJWTError

from kms.errors import KmsError, invalid

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
MAX_TOKEN: Final = 16 * 1024
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
ALGORITHMS: Final = (*_RSA, *_CURVES.values(), "EdDSA")
LEAST_RSA_BITS: Final = 2048


def fitting(key: PublicKey) -> tuple[str, ...]:
    """The algorithms that a key may have signed with; none for a weak or unknown one."""
    if isinstance(key, rsa.RSAPublicKey):
        return _RSA if key.key_size >= LEAST_RSA_BITS else ()
    if isinstance(key, ec.EllipticCurvePublicKey):
        algorithm = _CURVES.get(key.curve.name)
        return (algorithm,) if algorithm is not None else ()
    return ("EdDSA",)


def key_id(token: str) -> str:
    """`kid` of the header, "" for none. Nothing of it is verified.

    Raises:
        KmsError(INVALID): not a compact JWS.
    """
    if len(token) > MAX_TOKEN:
        raise refused(f"the token is longer than {MAX_TOKEN} characters")
    if token.count(".") != 2:
        raise refused("compact JWS format must have three parts")
    try:
        header = PyJWS().get_unverified_header(token)
    except PyJWTError:
        raise refused("the header cannot be read") from None
    if "crit" in header:
        raise refused("the header demands extensions (crit) that are not known here")
    kid = header.get("kid", "")
    return kid if isinstance(kid, str) else ""


def verified(token: str, keys: Iterable[PublicKey], algorithms: tuple[str, ...]) -> dict[str, Any]:
    """The claims of a token that one of the keys signed.

    Args:
        token: see `key_id`.
        keys: of the issuer.
        algorithms: those that the operator takes; empty for all that fit a key.

    Raises:
        KmsError(INVALID): no key did.
    """
    for key in keys:
        allowed = [name for name in fitting(key) if not algorithms or name in algorithms]
        if not allowed:
            continue
        try:
            payload = PyJWS().decode(token, key, algorithms=allowed)
        except PyJWTError:
            continue
        return _object(payload)
    raise refused("no known key successfully validated the token signature")


def unverified(token: str) -> dict[str, Any]:
    """The claims of a token whose signature somebody else judges; until then they are nobody's word.

    Raises:
        KmsError(INVALID): not a compact JWS of an asymmetric algorithm.
    """
    key_id(token)
    parts = PyJWS().decode_complete(token, options={"verify_signature": False})
    if parts["header"].get("alg") not in ALGORITHMS:
        raise refused("the algorithm is not known here")
    return _object(parts["payload"])


def _object(payload: bytes) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError
        return found

    try:
        claims = json.loads(payload.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError):
        raise refused("the claims are not JSON, or one stands there twice") from None
    if not isinstance(claims, dict):
        raise refused("the claims are not a JSON object")
    return claims


def refused(reason: str) -> KmsError:
    """The token proves nothing."""
    return invalid(f"error validating token: error verifying token signature: {reason}")
