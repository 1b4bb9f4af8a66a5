"""A new or imported pair shows that its halves belong together, each purpose by doing what it is for.

Pairwise consistency (FIPS 140-3 10.3.A): the token acts with the private half, this process checks with the
public one. Keys that may not sign cannot be proved by a signature, so they decrypt, agree or unwrap.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Final

from cryptography.hazmat.primitives import keywrap
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_public_key,
)
from pkcs11 import exceptions as p11
from pkcs11.constants import Attribute, ObjectClass
from pkcs11.mechanisms import KeyType, Mechanism

from kms.errors import integrity
from kms.hsm import rawops, templates
from kms.hsm.failures import LOST
from kms.hsm.mechanisms import OAEPS, SPECS, sign_call
from kms.hsm.model import KeySpec, Purpose
from kms.hsm.public import PROOF_SCHEME, PROOF_SIZE, curve_of, load_rsa, oaep_encrypt, point_of, verify_proof

EPHEMERAL_BYTES: Final = 32


def prove_pair(
    session: Any, handle: int, purpose: Purpose, spec: KeySpec, spki: bytes, kwp: Mechanism | None = None
) -> None:
    """Use the private half and check the answer with the public one.

    Raises:
        KmsError(INTEGRITY): they do not belong together, or the token cannot do what the key is for.
    """
    uses = templates.USES[purpose][0]
    if Attribute.SIGN in uses:
        good = signs(session, handle, spec, spki)
    elif Attribute.DECRYPT in uses:
        good = bool(decrypting(session, handle, spki))
    elif Attribute.DERIVE in uses:
        good = agrees(session, handle, spki)
    else:
        good = bool(unwrapping(session, handle, spki, kwp))
    if not good:
        raise integrity(f"a new key pair for {purpose} does not do with one half what the other one undoes")


def signs(session: Any, handle: int, spec: KeySpec, spki: bytes) -> bool:
    """Sign a fresh challenge in the token and check it in software."""
    challenge = bytes(session.generate_random(PROOF_SIZE[spec] * 8))
    mechanism, parameter, data, size = sign_call(spec, PROOF_SCHEME[spec], challenge, None)
    signature = rawops.sign(session, handle, mechanism, parameter, data, size)
    return verify_proof(spki, spec, challenge, signature)


def agrees(session: Any, handle: int, spki: bytes) -> bool:
    """ECDH of the token with a pair made here, against ours with the token's public key."""
    public = load_der_public_key(spki)
    if not isinstance(public, ec.EllipticCurvePublicKey):
        return False
    mine = ec.generate_private_key(public.curve)
    size = (public.curve.key_size + 7) // 8
    theirs = rawops.agree(session, handle, point_of(mine.public_key()), size)
    return secrets.compare_digest(theirs, mine.exchange(ec.ECDH(), public))


def decrypting(session: Any, handle: int, spki: bytes) -> tuple[str, ...]:
    """The OAEP hashes with which the token decrypts what was encrypted here."""

    def attempt(name: str) -> bool:
        message = secrets.token_bytes(EPHEMERAL_BYTES)
        block = oaep_encrypt(load_rsa(spki), name, message)
        return secrets.compare_digest(rawops.decrypt_oaep(session, handle, name, block), message)

    return _which(spki, attempt)


def unwrapping(session: Any, handle: int, spki: bytes, kwp: Mechanism | None) -> tuple[str, ...]:
    """The OAEP hashes with which the token takes a key out of an envelope made here."""
    inner = kwp
    if inner is None:
        return ()

    def attempt(name: str) -> bool:
        ephemeral, target = secrets.token_bytes(EPHEMERAL_BYTES), secrets.token_bytes(32)
        made: list[Any] = []
        try:
            made.append(open_ephemeral(session, handle, name, oaep_encrypt(load_rsa(spki), name, ephemeral)))
            wrapped = keywrap.aes_key_wrap_with_padding(ephemeral, target)
            kind = (ObjectClass.SECRET_KEY, KeyType.AES)
            template = templates.throwaway(Attribute.ENCRYPT, readable=False)
            made.append(rawops.unwrap(session, made[0].handle, wrapped, inner, kind, template))
        finally:
            for each in made:
                each.destroy()
        return True

    return _which(spki, attempt)


def open_ephemeral(session: Any, handle: int, hash_name: str, block: bytes) -> Any:
    """The session key that an RSA-OAEP block carries; it can only unwrap."""
    template: templates.Template = {
        name: value
        for name, value in templates.ephemeral().items()
        if name not in (Attribute.CLASS, Attribute.KEY_TYPE)
    }
    return rawops.unwrap(
        session,
        handle,
        block,
        Mechanism.RSA_PKCS_OAEP,
        (ObjectClass.SECRET_KEY, KeyType.AES),
        templates.fitting(session, template),
        mechanism_param=OAEPS[hash_name][0],
    )


def _which(spki: bytes, attempt: Callable[[str], bool]) -> tuple[str, ...]:
    public = load_der_public_key(spki)
    if not isinstance(public, rsa.RSAPublicKey):
        return ()
    found = []
    for name, (_, size) in OAEPS.items():
        if public.key_size // 8 < 2 * size + 2 + EPHEMERAL_BYTES:
            continue
        try:
            if attempt(name):
                found.append(name)
        except LOST:
            raise
        except p11.PKCS11Error:
            continue  # the token does not have this hash
    return tuple(found)


def wrap_in_software(kek: bytes, spec: KeySpec) -> bytes:
    """A fresh key of a type, made and wrapped here: to find out whether a token unwraps it."""
    row = SPECS[spec]
    if row.key_type is KeyType.RSA:
        pair: Any = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    elif row.key_type is KeyType.EC:
        pair = ec.generate_private_key(curve_of(spec))
    elif spec.is_pair:
        pair = ed25519.Ed25519PrivateKey.generate()
    else:
        return keywrap.aes_key_wrap_with_padding(kek, secrets.token_bytes(row.bits // 8))
    target = pair.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return keywrap.aes_key_wrap_with_padding(kek, target)
