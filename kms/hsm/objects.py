"""Token objects: found exactly once, written once, read back after they are made.

An object is found by CKA_ID, 16 random bytes of ours; labels are for people. Tokens do not keep ids unique
(H7), so each search checks that there is exactly one key. A search that finds nothing proves nothing either:
a token that has gone answers the same (H3), which is why nothing here says "not found" to a caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pkcs11 import types
from pkcs11.constants import DEFAULT, Attribute
from pkcs11.exceptions import PKCS11Error
from pkcs11.mechanisms import KeyType, Mechanism

from kms.errors import KmsError, integrity, invalid
from kms.hsm import templates
from kms.hsm.failures import AbsentError, SeenTwiceError
from kms.hsm.mechanisms import SPECS
from kms.hsm.model import KeySpec, Purpose
from kms.hsm.proof import prove_pair
from kms.hsm.public import spec_of, spki_of
from kms.hsm.turns import turn
from kms.ids import CkaId

CKA_ID_SIZE: Final = 16
MAX_LABEL: Final = 128


@dataclass(frozen=True)
class Found:
    """What stands under one CKA_ID: secret or private keys, and public keys. python-pkcs11 objects."""

    secrets: list[Any]
    publics: list[Any]


def check_id(cka_id: bytes) -> None:
    """Refuse ids that are not ours.

    Raises:
        KmsError(INVALID)
    """
    if len(cka_id) != CKA_ID_SIZE:
        raise invalid(f"a CKA_ID has {CKA_ID_SIZE} bytes")


def search(session: Any, cka_id: bytes) -> Found:
    """All keys with this id. Comes before any effect, so that a call may be repeated when this raises.

    Raises:
        SeenTwiceError: more than one key has it; the gate turns that into KmsError(INTEGRITY) if it is true.
    """
    check_id(cka_id)
    found = Found([], [])
    with turn(session):
        seen = list(session.get_objects({Attribute.ID: cka_id}))
    for each in seen:
        if isinstance(each, types.SecretKey | types.PrivateKey):
            found.secrets.append(each)
        elif isinstance(each, types.PublicKey):
            found.publics.append(each)
    if len(found.secrets) > 1 or len(found.publics) > 1:
        raise SeenTwiceError(bytes(cka_id))
    return found


def one_secret(session: Any, cka_id: bytes) -> Any:
    """The secret or private key.

    Raises:
        AbsentError: none was found, for whatever reason.
    """
    found = search(session, cka_id)
    if not found.secrets:
        raise AbsentError(cka_id.hex())
    return found.secrets[0]


def public_key(session: Any, cka_id: bytes) -> bytes:
    """SubjectPublicKeyInfo in DER.

    Raises:
        AbsentError: no public key was found.
    """
    found = search(session, cka_id)
    if not found.publics:
        raise AbsentError(cka_id.hex())
    spec = spec_of(found.publics[0])
    if spec is None:
        raise integrity(f"the public key with CKA_ID {cka_id.hex()} is of no type that Keystead makes")
    return spki_of(found.publics[0], spec)


def assert_template(
    key: Any, purpose: Purpose, spec: KeySpec, *, token: bool, extractable: bool, imported: bool = False
) -> None:
    """Read the attributes back and compare them with what the purpose demands.

    Raises:
        KmsError(INTEGRITY): the token made, or holds, something else. Names the attributes.
    """
    expected = templates.asserted(purpose, spec, token=token, extractable=extractable, imported=imported)
    expected = {
        name: value
        for name, value in templates.fitting(key.session, expected).items()
        if value is not DEFAULT
    }
    seen = key.get_attributes(list(expected))
    wrong = sorted(name.name for name, value in expected.items() if seen.get(name) != value)
    if key[Attribute.KEY_TYPE] is not SPECS[spec].key_type:
        wrong.append("KEY_TYPE")
    if wrong:
        raise integrity(f"a key in the HSM is not what its purpose {purpose} demands: {', '.join(wrong)}")


def described(session: Any, purpose: Purpose, spec: KeySpec, cka_id: bytes) -> dict[str, bool | str]:
    """What the token says of a key, by CKA_ names: everything that decides what it may do.

    Raises:
        KmsError(INTEGRITY): it is not what its purpose demands.
        AbsentError: none was found.
    """
    key = one_secret(session, cka_id)
    assert_template(key, purpose, spec, token=True, extractable=False)
    expected = templates.asserted(purpose, spec, token=True, extractable=False)
    names = [name for name, value in templates.fitting(session, expected).items() if value is not DEFAULT]
    answered = key.get_attributes(names)
    seen = {f"CKA_{name.name}": bool(answered[name]) for name in names}
    texts = {"CKA_LABEL": str(key[Attribute.LABEL]), "CKA_KEY_TYPE": key[Attribute.KEY_TYPE].name}
    return {**seen, **texts, "CKA_ID": bytes(cka_id).hex()}


def make(
    session: Any, purpose: Purpose, spec: KeySpec, *, token: bool, cka_id: bytes, label: str
) -> tuple[Any, Any]:
    """Generate a key or pair with its whole template at once; (secret half, public half or None)."""
    common = {"id": cka_id, "label": label, "store": token}
    *full, last = templates.variants(purpose, spec, token=token, extractable=not token)
    for secret in full:
        try:
            return _generate(session, purpose, spec, secret, common)
        except templates.REFUSED:
            continue  # nothing was made; the theft test will say what the token does not enforce
    return _generate(session, purpose, spec, last, common)


def make_passing(session: Any, purpose: Purpose, spec: KeySpec) -> tuple[Any, Any]:
    """A key or pair for this moment, as session objects that nothing takes out of the token."""
    secret = templates.secret_half(purpose, spec, token=False, extractable=False)
    return _generate(session, purpose, spec, secret, {"store": False})


def make_readable(session: Any, purpose: Purpose, spec: KeySpec) -> tuple[Any, Any]:
    """A session key whose value can be read. Only the theft test makes one, to see it refused."""
    secret = templates.secret_half(purpose, spec, token=False, extractable=True)
    return _generate(session, purpose, spec, secret | {Attribute.SENSITIVE: False}, {"store": False})


def _generate(
    session: Any, purpose: Purpose, spec: KeySpec, secret: templates.Template, common: dict[str, Any]
) -> tuple[Any, Any]:
    row = SPECS[spec]
    common = {**common, "capabilities": 0, "mechanism": row.generate}
    secret = templates.fitting(session, secret)
    if spec.is_pair:
        public, private = session.generate_keypair(
            row.key_type,
            row.bits if row.key_type is KeyType.RSA else None,
            public_template=templates.fitting(
                session, templates.public_half(purpose, spec, token=common["store"])
            ),
            private_template=secret,
            **common,
        )
        return private, public
    return session.generate_key(row.key_type, row.bits, template=secret, **common), None


def generate_resident(
    session: Any, purpose: Purpose, spec: KeySpec, cka_id: bytes, label: str, kwp: Mechanism | None = None
) -> bytes:
    """Make a token object and check what came out; SubjectPublicKeyInfo, or empty for secret keys.

    Raises:
        KmsError(INVALID): wrong id, label or pairing of purpose and key type.
        KmsError(INTEGRITY): the id is taken, or the token did not make what was asked for. What it made
            is destroyed again.
    """
    check_id(cka_id)
    templates.check_pairing(purpose, spec)
    if not label or len(label.encode()) > MAX_LABEL:
        raise invalid(f"the label of an HSM object has 1 to {MAX_LABEL} bytes")
    with turn(session):
        present = search(session, cka_id)
        if present.secrets or present.publics:
            raise integrity(f"the HSM already holds a key with CKA_ID {cka_id.hex()}")
        secret, public = make(session, purpose, spec, token=True, cka_id=cka_id, label=label)
    accepted = False
    try:
        assert_template(secret, purpose, spec, token=True, extractable=False)
        spki = b""
        if public is not None:
            spki = spki_of(public, spec)
            prove_pair(session, secret.handle, purpose, spec, spki, kwp)
        accepted = True
        return spki
    finally:
        if not accepted:
            with turn(session):
                secret.destroy()
                if public is not None:
                    public.destroy()


def adopt(
    session: Any, purpose: Purpose, spec: KeySpec, cka_id: bytes, kwp: Mechanism | None = None
) -> bytes | None:
    """What `generate_resident` would have answered, if all of the object is there; else destroy what is.

    A process that is killed while its token stores a key can leave half a key: SoftHSM was seen with
    an object that lacked the attributes it had not yet written. Nobody can have used it.
    """
    found = search(session, cka_id)
    try:
        if found.secrets:
            secret = found.secrets[0]
            assert_template(secret, purpose, spec, token=True, extractable=False)
            if not spec.is_pair:
                return b""
            if found.publics:
                spki = spki_of(found.publics[0], spec)
                prove_pair(session, secret.handle, purpose, spec, spki, kwp)
                return spki
    except (KmsError, PKCS11Error):
        pass  # not whole; if the token itself is in trouble, destroying says so
    destroy(session, cka_id)
    return None


def destroy(session: Any, cka_id: bytes) -> bool:
    """Destroy the key and its public half; False if nothing was found.

    The private half goes first, so that a crash in between leaves no usable key; a second call takes the
    lone public half.
    """
    with turn(session):
        found = search(session, cka_id)
        for each in (*found.secrets, *found.publics):
            each.destroy()
    return bool(found.secrets or found.publics)


def listing(session: Any, label_prefix: str) -> list[tuple[CkaId, str]]:
    """Id and label of every secret or private token object whose label starts with the prefix."""
    rows = []
    with turn(session):
        found = list(session.get_objects({Attribute.TOKEN: True}))
    for each in found:
        if isinstance(each, types.SecretKey | types.PrivateKey):
            seen = each.get_attributes([Attribute.ID, Attribute.LABEL])
            if seen[Attribute.LABEL].startswith(label_prefix):
                rows.append((CkaId(bytes(seen[Attribute.ID])), str(seen[Attribute.LABEL])))
    return sorted(rows)
