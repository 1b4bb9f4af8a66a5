"""Keys of callers, unwrapped inside the token: their bytes are never in this process.

The caller sends what CKM_RSA_AES_KEY_WRAP makes, RSA-OAEP(ephemeral AES key) || AES-KWP(ephemeral key, target). Few
tokens have that mechanism, so its two steps are taken one by one: C_UnwrapKey with the mount's RSA pair gives a
session key that can do nothing but unwrap (the pair's CKA_UNWRAP_TEMPLATE says so), C_UnwrapKey with that one gives
the target, straight as a token object that is sensitive, not extractable and of one use. It stays resident: the
roots wrap only keys that were born in the token (templates.wrap_attributes), and that is not loosened for it.

Then the key has to show what it is: attributes, size, curve, and that it works; for a pair, its public key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from pkcs11 import exceptions as p11
from pkcs11.constants import Attribute
from pkcs11.mechanisms import KeyType, Mechanism

from kms.errors import KmsError, integrity, invalid
from kms.hsm import objects, proof, rawops, recover, templates
from kms.hsm.connection import Connection
from kms.hsm.failures import LOST, lacking, name_of
from kms.hsm.mechanisms import HMACS, OAEPS, SPECS, sign_call
from kms.hsm.model import KeySpec, Purpose, Resident
from kms.hsm.public import PROOF_SCHEME, PROOF_SIZE, curve_of
from kms.hsm.turns import turn
from kms.ids import CkaId

WRAPPING_SPEC: Final = KeySpec.RSA_4096
IMPORTED_FOR: Final = frozenset(
    {
        Purpose.KEY_ENC,
        Purpose.KEY_MAC,
        Purpose.KEY_CMAC,
        Purpose.KEY_SIGN,
        Purpose.KEY_DECRYPT,
        Purpose.KEY_AGREE,
    }
)
UNREADABLE: Final = (
    "the ciphertext cannot be unwrapped; wrap the key with this mount's wrapping_key, an AES-256 key, "
    "and the hash_function that the request names"
)
_RSA_BYTES: Final = SPECS[WRAPPING_SPEC].bits // 8
_LEAST_KWP: Final = 16
_MAX_TARGET: Final = 8192


@dataclass(frozen=True)
class Parcel:
    """What a caller sends.

    Args:
        wrapping: CKA_ID of the pair (Purpose.IMPORT_UNWRAP) that it is wrapped for.
        hash_name: of OAEP, "sha1" to "sha512".
        data: the RSA block, and after it the AES-KWP.
        public: SubjectPublicKeyInfo of a pair, where the caller gave it; else empty.
    """

    wrapping: CkaId
    hash_name: str
    data: bytes
    public: bytes = b""


def bring(
    connection: Connection, session: Any, parcel: Parcel, ref: Resident, label: str, hashes: tuple[str, ...]
) -> bytes:
    """Unwrap into a token object with the id, purpose and type of `ref`; SubjectPublicKeyInfo, or empty.

    `hashes` are those of OAEP that the token unwraps with. What turns out wrong is destroyed again.

    Raises:
        KmsError(INVALID): not what the parcel claims to be; one answer for all that can be wrong with it. Or the
            token cannot unwrap so; names the mechanism.
        KmsError(INTEGRITY): the id is taken.
    """
    if ref.purpose not in IMPORTED_FOR:
        raise invalid(f"keys for {ref.purpose} are never imported")
    templates.check_pairing(ref.purpose, ref.spec)
    if connection.kwp is None:
        raise lacking("CKM_AES_KEY_WRAP_KWP (RFC 5649), so it takes in no keys")
    _check_hash(parcel.hash_name, hashes)
    if not _RSA_BYTES + _LEAST_KWP <= len(parcel.data) <= _RSA_BYTES + _MAX_TARGET:
        raise invalid("provided ciphertext is too short or too long")
    with turn(session):
        present = objects.search(session, ref.cka_id)
        if present.secrets or present.publics:
            raise integrity(f"the HSM already holds a key with CKA_ID {ref.cka_id.hex()}")
        key = _unwrap(connection, session, parcel, ref, (connection.kwp, label))
    accepted = False
    try:
        spki = examine(session, key, ref, parcel.public, len(parcel.data) - _RSA_BYTES)
        accepted = True
        return spki
    finally:
        if not accepted:
            with turn(session):
                key.destroy()


def _check_hash(hash_name: str, hashes: tuple[str, ...]) -> None:
    if hash_name not in OAEPS or hash_name not in hashes:
        can = f" but with {', '.join(name.upper() for name in hashes)}" if hashes else ""
        raise lacking(f"CKM_RSA_PKCS_OAEP with {hash_name.upper()} that unwraps{can}")


def _unwrap(
    connection: Connection, session: Any, parcel: Parcel, ref: Resident, how: tuple[Mechanism, str]
) -> Any:
    """The token object. `how` is AES-KWP as this token calls it, and the label."""
    row = SPECS[ref.spec]
    pair = connection.resident(session, Resident(parcel.wrapping, Purpose.IMPORT_UNWRAP, WRAPPING_SPEC))
    block, wrapped = parcel.data[:_RSA_BYTES], parcel.data[_RSA_BYTES:]
    template = templates.secret_half(ref.purpose, ref.spec, token=True, extractable=False)
    template = templates.fitting(session, template)
    try:
        ephemeral = proof.open_ephemeral(session, pair, parcel.hash_name, block)
        try:
            kind = (row.object_class, row.key_type)
            return rawops.unwrap(
                session,
                ephemeral.handle,
                wrapped,
                how[0],
                kind,
                template,
                id=ref.cka_id,
                label=how[1],
                store=True,
            )
        finally:
            ephemeral.destroy()
    except LOST:
        raise
    except p11.PKCS11Error as error:
        connection.prove_alive(session)
        if not takes(connection, session, ref.spec):
            what = f"CKM_AES_KEY_WRAP_KWP that unwraps keys of type {ref.spec} ({name_of(error)})"
            raise lacking(what) from error
        raise invalid(UNREADABLE) from error


def takes(connection: Connection, session: Any, spec: KeySpec) -> bool:
    """Whether the token unwraps keys of this type: tried with a throwaway key that is made here."""
    if connection.kwp is None:
        return False
    row = SPECS[spec]
    made: list[Any] = []
    try:
        template = templates.throwaway(Attribute.WRAP, Attribute.UNWRAP, Attribute.ENCRYPT, readable=True)
        kek = session.generate_key(
            KeyType.AES, 256, capabilities=0, mechanism=Mechanism.AES_KEY_GEN, template=template
        )
        made.append(kek)
        wrapped = proof.wrap_in_software(bytes(kek[Attribute.VALUE]), spec)
        purpose = purpose_of(spec)
        target = templates.secret_half(purpose, spec, token=False, extractable=False)
        kind = (row.object_class, row.key_type)
        made.append(rawops.unwrap(session, kek.handle, wrapped, connection.kwp, kind, target))
    except LOST:
        raise
    except p11.PKCS11Error:
        return False
    finally:
        for each in made:
            each.destroy()
    return True


def purpose_of(spec: KeySpec) -> Purpose:
    """A purpose that keys of this type are imported for."""
    if spec.is_pair:
        return Purpose.KEY_SIGN
    if spec is KeySpec.HMAC:
        return Purpose.KEY_MAC
    return Purpose.KEY_CMAC if spec is KeySpec.AES_192 else Purpose.KEY_ENC


# --- what came in ---


def examine(session: Any, key: Any, ref: Resident, public: bytes, wrapped_size: int = 0) -> bytes:
    """Check a key that was unwrapped; SubjectPublicKeyInfo, or empty.

    `wrapped_size` 0 leaves the size of a secret key to the token.

    Raises:
        KmsError(INVALID)
    """
    wrong = invalid(f"the wrapped key is not of type {ref.spec}, or too weak")
    objects.assert_template(key, ref.purpose, ref.spec, token=True, extractable=False, imported=True)
    try:
        if not ref.spec.is_pair:
            if (
                wrapped_size
                and ref.spec is not KeySpec.HMAC
                and wrapped_size != SPECS[ref.spec].bits // 8 + 8
            ):
                raise wrong
            _works(session, int(key.handle), ref)
            return b""
        spki = _public(session, key, ref, public)
        if spki == b"" or (public and public != spki):
            raise invalid("the wrapped private key and the public key are no pair")
        proof.prove_pair(session, int(key.handle), ref.purpose, ref.spec, spki)
    except LOST:
        raise
    except p11.PKCS11Error as error:
        raise wrong from error
    return spki


def _works(session: Any, handle: int, ref: Resident) -> None:
    """A first use: a token takes in keys of lengths that it then cannot use."""
    if ref.purpose is Purpose.KEY_MAC:
        rawops.mac(session, handle, *HMACS["sha256"], b"keystead import")
    elif ref.purpose is Purpose.KEY_CMAC:
        rawops.mac(session, handle, Mechanism.AES_CMAC, 16, b"keystead import")
    else:
        nonce = bytes(session.generate_random(96))
        rawops.encrypt(session, handle, nonce, b"keystead import", b"")


def _public(session: Any, key: Any, ref: Resident, given: bytes) -> bytes:
    """The public key: read, computed from signatures, or what the caller gave."""
    row = SPECS[ref.spec]
    if row.key_type is KeyType.RSA:
        numbers = key.get_attributes([Attribute.MODULUS, Attribute.PUBLIC_EXPONENT])
        modulus = int.from_bytes(numbers.get(Attribute.MODULUS, b""), "big")
        exponent = int.from_bytes(numbers.get(Attribute.PUBLIC_EXPONENT, b""), "big")
        if modulus.bit_length() != row.bits:
            raise invalid(f"the wrapped key is not of type {ref.spec}")
        return _der(rsa.RSAPublicNumbers(exponent, modulus).public_key())
    if bytes(key[Attribute.EC_PARAMS]) != row.curve:
        raise invalid(f"the wrapped key is not of type {ref.spec}")
    if row.key_type is KeyType.EC and ref.purpose is Purpose.KEY_SIGN:
        signed = []
        for _ in range(2):
            digest = bytes(session.generate_random(PROOF_SIZE[ref.spec] * 8))
            mechanism, _none, data, size = sign_call(ref.spec, PROOF_SCHEME[ref.spec], digest, None)
            signed.append((digest, rawops.sign(session, int(key.handle), mechanism, None, data, size)))
        found = recover.public_key(ref.spec, signed)
        return b"" if found is None else _der(found)
    if not given:
        raise invalid("the HSM shows no public key for this type: send public_key beside the ciphertext")
    public = serialization.load_der_public_key(given)
    if row.key_type is KeyType.EC and not (
        isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name == curve_of(ref.spec).name
    ):
        return b""
    return given  # prove_pair shows whether it belongs to the key


def _der(public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> bytes:
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def adopt(session: Any, ref: Resident, public: bytes) -> bytes | None:
    """After a crash: what `bring` would have answered if the key is there and whole; else destroy what is."""
    found = objects.search(session, ref.cka_id)
    if found.secrets:
        try:
            return examine(session, found.secrets[0], ref, public)
        except (KmsError, p11.PKCS11Error):
            pass  # not whole; if the token itself is in trouble, destroying says so
    objects.destroy(session, ref.cka_id)
    return None
