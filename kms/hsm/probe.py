"""Probes: what ties a wrapped blob to the row that it lies in.

AES-KWP has no associated data, so a blob does not know whose it is: whoever can write rows could put the
blob of one key under the name of another. Therefore, at birth, the new key itself makes a probe over what
it is; loading a blob makes the probe again with what came out and compares.

- AES keys: the tag of an AES-GCM encryption of nothing, with the message as associated data. The nonce is
  derived from the message. A caller of `encrypt` cannot make such a tag for a context of his choice,
  because nonces of encryptions come from the random source: he would have to hit 96 bits.
- MAC keys: HMAC-SHA-256 of the marked message.
- Pairs: a signature over the marked message, checked in software with the row's public key, then a second
  one made at loading: the first shows that the owner of the public key signed this context, the second that
  the blob is the private half.

A caller of `mac` or `sign` could ask for just these bytes and so forge a probe for another row. The mark is
16 fixed bytes at the front of everything that a probe MACs or signs (of digests, too), and the public
operations refuse any payload that has it. What is left of a digest is at least 128 bits, and an attacker needs
a second preimage, as he cannot choose the key ids in a context.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any, Final

from kms.errors import integrity, invalid
from kms.hsm import rawops
from kms.hsm.mechanisms import HMACS, sign_call
from kms.hsm.model import KeySpec, Purpose
from kms.hsm.public import PROOF_SCHEME, PROOF_SIZE, verify_proof
from kms.ids import CkaId

MARK: Final = hashlib.sha256(b"keystead probe v1").digest()[:16]
MAX_CONTEXT: Final = 4096


def message(purpose: Purpose, spec: KeySpec, wrapping: CkaId, context: bytes, public: bytes) -> bytes:
    """Everything that a blob is bound to, each part with its length in front."""
    if len(context) > MAX_CONTEXT:
        raise invalid(f"the context of a wrapped key has at most {MAX_CONTEXT} bytes")
    parts = (purpose.encode(), spec.encode(), wrapping, context, public)
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def refuse_marked(payload: bytes) -> None:
    """Keep the public operations from making probes.

    Raises:
        KmsError(INVALID)
    """
    if MARK in payload:
        raise invalid("the data contains a mark that is reserved for binding keys to their records")


def _digest(spec: KeySpec, text: bytes) -> bytes:
    size = PROOF_SIZE[spec]
    return MARK + hashlib.sha512(MARK + text).digest()[: size - len(MARK)]


def _sign(session: Any, key: int, spec: KeySpec, text: bytes) -> bytes:
    mechanism, parameter, data, size = sign_call(spec, PROOF_SCHEME[spec], _digest(spec, text), None)
    return rawops.sign(session, key, mechanism, parameter, data, size)


def make(session: Any, key: int, spec: KeySpec, text: bytes) -> bytes:
    """The probe, made inside the token with the key itself."""
    if spec.is_pair:
        return _sign(session, key, spec, text)
    if spec is KeySpec.HMAC:
        return rawops.mac(session, key, *HMACS["sha256"], MARK + text)
    nonce = hashlib.sha256(MARK + text).digest()[:12]
    return rawops.encrypt(session, key, nonce, b"", MARK + text)


def check(session: Any, key: int, spec: KeySpec, text: bytes, public: bytes, probe: bytes) -> None:
    """Compare a loaded key with the probe of its row.

    Raises:
        KmsError(INTEGRITY): the blob, the probe or the public key belongs to another row.
    """
    again = make(session, key, spec, text)
    if spec.is_pair:
        digest = _digest(spec, text)
        good = verify_proof(public, spec, digest, probe) and verify_proof(public, spec, digest, again)
    else:
        good = secrets.compare_digest(again, probe)
    if not good:
        raise integrity("a wrapped key does not belong to its record: its probe does not match")
