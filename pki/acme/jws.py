"""Signed requests (RFC 8555 6.2): flattened JSON, one signature, everything that matters under it.

    (1) shape     exactly protected, payload, signature; exactly one of jwk and kid in the protected header
    (2) url       the one that this request came in at, compared as text
    (3) key       of the account that `kid` names, or the `jwk` itself where the resource takes one
    (4) signature over the bytes as they came
    (5) nonce     spent: from here on the request cannot be sent again

The caller does (3) and (5), because they read and write rows; the order is kept by `accounts.Caller`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pki.acme import jwk as keys
from pki.acme.problems import AcmeProblem, malformed
from pki.goodkey import LeafPublicKey

MAX_REQUEST = 128 * 1024  # characters of all members; the largest holds a CSR with 100 names
_HEADER = frozenset({"alg", "jwk", "kid", "nonce", "url"})


@dataclass(frozen=True, slots=True)
class Jws:
    """A request whose signature has not been verified yet.

    Args:
        unverified_payload: the bytes that were signed, "" of a POST-as-GET.
        jwk: RFC 7638 form of the key in the header, or None.
        kid: URL of the account in the header, "" when there is a key.
    """

    algorithm: str
    nonce: str
    url: str
    jwk: bytes | None
    kid: str
    unverified_payload: bytes
    signed: bytes
    signature: bytes

    def verify(self, key: LeafPublicKey) -> bytes:
        """The payload. Raises AcmeProblem."""
        keys.verify(key, self.algorithm, self.signature, self.signed)
        return self.unverified_payload


def parse(body: Mapping[str, Any], *, inner: bool = False) -> Jws:
    """Step (1). `inner` is the request inside a key change, which has no nonce (RFC 8555 7.3.5).

    Raises:
        AcmeProblem(malformed, badNonce, badSignatureAlgorithm, badPublicKey).
    """
    if set(body) != {"protected", "payload", "signature"}:
        raise malformed("a request is a flattened JWS with the members protected, payload and signature")
    protected, payload, signature = body["protected"], body["payload"], body["signature"]
    if not (isinstance(protected, str) and isinstance(payload, str) and isinstance(signature, str)):
        raise malformed("protected, payload and signature are strings")
    if len(protected) + len(payload) + len(signature) > MAX_REQUEST:
        raise malformed(f"the request has more than {MAX_REQUEST} characters", 413)
    header = _header(keys.unbase64url(protected, "protected"))
    algorithm = header.get("alg")
    if algorithm not in keys.ALGORITHMS:
        raise AcmeProblem(
            "badSignatureAlgorithm",
            "the signature algorithm is not one of those offered",
            more={"algorithms": list(keys.ALGORITHMS)},
        )
    if ("jwk" in header) == ("kid" in header):
        raise malformed('the protected header has exactly one of "jwk" and "kid"')
    nonce, url, kid = header.get("nonce", ""), header.get("url"), header.get("kid", "")
    if not isinstance(nonce, str) or not isinstance(kid, str) or not isinstance(url, str):
        raise malformed('"nonce", "url" and "kid" are strings')
    if inner and "nonce" in header:
        raise malformed("the inner request of a key change has no nonce")
    if not inner and not nonce:
        raise AcmeProblem("badNonce", "the protected header has no nonce")
    return Jws(
        algorithm=algorithm,
        nonce=nonce,
        url=url,
        jwk=keys.canonical(header["jwk"]) if "jwk" in header else None,
        kid=kid,
        unverified_payload=keys.unbase64url(payload, "payload"),
        signed=f"{protected}.{payload}".encode("ascii"),
        signature=keys.unbase64url(signature, "signature"),
    )


def _header(text: bytes) -> dict[str, Any]:
    header = json_object(text, "the protected header")
    unknown = set(header) - _HEADER - {"typ", "cty"}
    if unknown:
        # `crit`, `b64` and the like change what a signature means.
        raise malformed(f"the protected header has members that are not known here: {min(unknown)[:40]!r}")
    return header


def json_object(text: bytes, what: str) -> dict[str, Any]:
    """A JSON object in which no name stands twice. Raises AcmeProblem(malformed)."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise malformed(f"{what} has a member twice")
        return found

    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError):
        raise malformed(f"{what} is not JSON") from None
    if not isinstance(value, dict):
        raise malformed(f"{what} is not a JSON object")
    return value
