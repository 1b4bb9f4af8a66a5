"""Sealing under a root: one of two closed mechanisms, and the root itself says which.

    1 || nonce (12) || AES-256-GCM                      the root is an AES key that encrypts and decrypts
    2 || hash (1) || RSA-OAEP block || RSA signature    the root is an RSA pair that decrypts, with a second that signs

Anybody can encrypt to a public key, so a sealed value of the second kind would prove nothing about who made it: whoever
can write the database could put a key of his own there and read what is sealed with it later. Hence the signature,
by a resident pair beside the root, checked with the public key that the token (not the database) shows. It covers
the root, the block and the associated data, which OAEP's label cannot carry on every token.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any, Final

from kms.errors import integrity, invalid
from kms.hsm import objects, rawops
from kms.hsm.connection import Connection
from kms.hsm.mechanisms import OAEPS, SPECS, sign_call
from kms.hsm.model import KeySpec, Purpose, Resident, Scheme
from kms.hsm.public import load_rsa, oaep_encrypt, verify_proof
from kms.ids import CkaId

NONCE_SIZE: Final = 12
AES_V1: Final = b"\x01"
RSA_V2: Final = b"\x02"
_DOMAIN: Final = b"keystead seal v1"
_RSA_DOMAIN: Final = b"keystead seal v2"
_SIGNER: Final = b"keystead seal signer"
_HASHES: Final = ("sha256", "sha384", "sha512", "sha224", "sha1")  # their places are stored, so only append
_UNKNOWN: Final = "a sealed value has an unknown format"
_CLOSED: Final = "a sealed value does not open under its root key"


def signer_id(root: bytes) -> CkaId:
    """CKA_ID of the pair that signs what is sealed to an RSA root."""
    return CkaId(hashlib.sha256(_SIGNER + root).digest()[: objects.CKA_ID_SIZE])


def is_pair(connection: Connection, session: Any, root: CkaId) -> bool:
    """Whether a root is an RSA pair. From memory after the first time.

    Raises:
        AbsentError
    """
    return connection.is_pair(session, root)


def seal(connection: Connection, session: Any, root: CkaId, plaintext: bytes, aad: bytes, oaep: str) -> bytes:
    """The sealed value. `oaep` is the hash to use if the root is an RSA pair."""
    if not is_pair(connection, session, root):
        nonce = secrets.token_bytes(NONCE_SIZE)
        key = connection.resident(session, Resident(root, Purpose.ROOT_SEAL, KeySpec.AES_256))
        return AES_V1 + nonce + rawops.encrypt(session, key, nonce, plaintext, _DOMAIN + root + aad)
    if oaep not in OAEPS:
        raise invalid("the HSM has no CKM_RSA_PKCS_OAEP, so it seals nothing with an RSA root")
    public = load_rsa(connection.public_key(session, root))
    body = RSA_V2 + bytes([_HASHES.index(oaep)]) + oaep_encrypt(public, oaep, plaintext)
    ref = Resident(signer_id(root), Purpose.ROOT_SEAL_SIGN, _spec(public.key_size))
    call = sign_call(ref.spec, Scheme.RSA_PKCS1_SHA256, _digest(root, body, aad), None)
    return body + rawops.sign(session, connection.resident(session, ref), *call)


def unseal(connection: Connection, session: Any, root: CkaId, sealed: bytes, aad: bytes) -> bytes:
    """Inverse of `seal`. A wrong tag or block passes as the token's own error.

    Raises:
        KmsError(INTEGRITY): another format, or a signature that this root's signer did not make.
    """
    if sealed[:1] == AES_V1 and len(sealed) >= 1 + NONCE_SIZE + rawops.TAG_SIZE:
        nonce, data = sealed[1 : 1 + NONCE_SIZE], sealed[1 + NONCE_SIZE :]
        key = connection.resident(session, Resident(root, Purpose.ROOT_SEAL, KeySpec.AES_256))
        return rawops.decrypt(session, key, nonce, data, _DOMAIN + root + aad)
    if sealed[:1] != RSA_V2 or len(sealed) < 2 or sealed[1] >= len(_HASHES):
        raise integrity(_UNKNOWN)
    if not is_pair(connection, session, root):
        raise integrity(_CLOSED)
    size = load_rsa(connection.public_key(session, root)).key_size
    body, signature = sealed[: 2 + size // 8], sealed[2 + size // 8 :]
    signer = connection.public_key(session, signer_id(root))
    if not verify_proof(signer, _spec(size), _digest(root, body, aad), signature):
        raise integrity(_CLOSED)
    key = connection.resident(session, Resident(root, Purpose.ROOT_SEAL_RSA, _spec(size)))
    return rawops.decrypt_oaep(session, key, _HASHES[sealed[1]], body[2:])


def generate_signer(session: Any, purpose: Purpose, spec: KeySpec, root: CkaId, label: str) -> None:
    """Before an RSA root: the pair that signs what is sealed to it. Nothing for other purposes."""
    if purpose is Purpose.ROOT_SEAL_RSA:
        signer = f"{label} signer"
        objects.generate_resident(session, Purpose.ROOT_SEAL_SIGN, spec, signer_id(root), signer)


def adopt_signer(session: Any, purpose: Purpose, spec: KeySpec, root: CkaId, *, wanted: bool) -> bool:
    """After a crash: whether a root's signer is whole, if it has one; else, or if not wanted, it is destroyed."""
    if purpose is not Purpose.ROOT_SEAL_RSA:
        return True
    if not wanted:
        objects.destroy(session, signer_id(root))
        return False
    return objects.adopt(session, Purpose.ROOT_SEAL_SIGN, spec, signer_id(root)) is not None


def _digest(root: bytes, body: bytes, aad: bytes) -> bytes:
    text = b"".join(len(part).to_bytes(4, "big") + part for part in (_RSA_DOMAIN, root, aad, body))
    return hashlib.sha256(text).digest()


def _spec(bits: int) -> KeySpec:
    for spec in (KeySpec.RSA_2048, KeySpec.RSA_3072, KeySpec.RSA_4096):
        if SPECS[spec].bits == bits:
            return spec
    raise integrity("a root key is an RSA key of a size that Keystead never makes")
