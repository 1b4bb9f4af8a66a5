"""The calls on a key, by session and handle. No policy, no translation: PKCS#11 errors pass through.

python-pkcs11 ties a key object to the session that found it, and finding it again costs a search (43 ms
among 2,000 objects). Its operations need no more than a session and a handle, so `Handle` gives them those:
one handle, resolved once, then serves every session of the pool.
"""

from __future__ import annotations

from typing import Any

from pkcs11 import _pkcs11, types
from pkcs11.constants import Attribute, ObjectClass
from pkcs11.mechanisms import KDF, MGF, GCMParams, KeyType, Mechanism

from kms.hsm.mechanisms import OAEPS

TAG_SIZE = 16

# The stub of the extension module names only its entry point, and the key classes declare `session` read-only.
_native: Any = _pkcs11
_Operations: Any = type(
    "_Operations",
    (
        _native.EncryptMixin,
        _native.DecryptMixin,
        _native.SignMixin,
        _native.WrapMixin,
        _native.UnwrapMixin,
        _native.DeriveMixin,
        types.Key,
    ),
    {},
)


class Handle(_Operations):  # type: ignore[misc]  # a base of type Any, see above
    """A key as one session sees it. Cheap to make, thrown away after the call."""

    __slots__ = ("handle", "session")  # these shadow the properties of the library's own key objects
    key_type = None  # every call names its mechanism, so no default is ever looked up

    def __init__(self, session: Any, handle: int) -> None:
        self.session = session
        self.handle = handle


def encrypt(session: Any, key: int, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """AES-GCM with a 128-bit tag: ciphertext || tag."""
    sealed: bytes = Handle(session, key).encrypt(
        plaintext,
        buffer_size=len(plaintext) + TAG_SIZE,
        mechanism=Mechanism.AES_GCM,
        mechanism_param=GCMParams(nonce, aad, TAG_SIZE * 8),
    )
    return sealed


def decrypt(session: Any, key: int, nonce: bytes, data: bytes, aad: bytes) -> bytes:
    """Inverse of `encrypt`. Modules differ in the error for a wrong tag; SoftHSM says GeneralError."""
    plaintext: bytes = Handle(session, key).decrypt(
        data,
        buffer_size=max(len(data), TAG_SIZE),
        mechanism=Mechanism.AES_GCM,
        mechanism_param=GCMParams(nonce, aad, TAG_SIZE * 8),
    )
    return plaintext


def mac(session: Any, key: int, mechanism: Mechanism, size: int, data: bytes) -> bytes:
    """A MAC of `size` bytes."""
    tag: bytes = Handle(session, key).sign(data, buffer_size=size, mechanism=mechanism)
    return tag


def sign(
    session: Any,
    key: int,
    mechanism: Mechanism,
    parameter: tuple[Mechanism, MGF, int] | None,
    payload: bytes,
    size: int,
) -> bytes:
    """A signature of `size` bytes."""
    signature: bytes = Handle(session, key).sign(
        payload, buffer_size=size, mechanism=mechanism, mechanism_param=parameter
    )
    return signature


def wrap(session: Any, wrapping: int, key: int, mechanism: Mechanism) -> bytes:
    """The key, encrypted inside the token."""
    blob: bytes = Handle(session, wrapping).wrap_key(Handle(session, key), mechanism=mechanism)
    return blob


def unwrap(
    session: Any,
    wrapping: int,
    blob: bytes,
    mechanism: Mechanism,
    kind: tuple[ObjectClass, KeyType],
    template: dict[Attribute, Any],
    **more: Any,
) -> Any:
    """The key that the token took out of the blob: python-pkcs11's object, made in this session.

    `more` are a mechanism's parameter, and a token object's id and label.
    """
    return Handle(session, wrapping).unwrap_key(
        kind[0], kind[1], blob, mechanism=mechanism, capabilities=0, template=template, **more
    )


def decrypt_oaep(session: Any, key: int, hash_name: str, block: bytes) -> bytes:
    """RSA-OAEP: the plaintext of one block."""
    plaintext: bytes = Handle(session, key).decrypt(
        block,
        buffer_size=len(block),
        mechanism=Mechanism.RSA_PKCS_OAEP,
        mechanism_param=OAEPS[hash_name][0],
    )
    return plaintext


def agree(session: Any, key: int, point: bytes, size: int) -> bytes:
    """ECDH with an uncompressed point: the x coordinate, `size` bytes. The token's copy is destroyed."""
    template = {Attribute.TOKEN: False, Attribute.PRIVATE: True, Attribute.SENSITIVE: False}
    shared = Handle(session, key).derive_key(
        KeyType.GENERIC_SECRET,
        size * 8,
        mechanism=Mechanism.ECDH1_DERIVE,
        mechanism_param=(KDF.NULL, None, point),
        capabilities=0,
        template={**template, Attribute.EXTRACTABLE: True},
    )
    try:
        value: bytes = shared[Attribute.VALUE]
        return value
    finally:
        shared.destroy()
