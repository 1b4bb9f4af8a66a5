"""Keys that live outside the token as blobs: born, wrapped, loaded, used.

A wrapped key is born in the token as a session object that is sensitive, and extractable only so that it can be
wrapped; it is wrapped there with AES-KWP under a resident wrapping key, makes its probe, and is
destroyed. From then on it exists as a blob. Loading unwraps it inside the token into a session object that
is sensitive and not extractable, and checks the probe before the first use.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from pkcs11 import exceptions as p11
from pkcs11.constants import Attribute
from pkcs11.mechanisms import KeyType, Mechanism

from kms.errors import ErrorKind, KmsError
from kms.hsm import objects, probe, rawops, templates
from kms.hsm.connection import Connection
from kms.hsm.failures import LOST, lacking
from kms.hsm.loaded import Loaded
from kms.hsm.mechanisms import SPECS
from kms.hsm.model import KeyRef, KeySpec, Purpose, Resident, Wrapped
from kms.hsm.public import spki_of
from kms.ids import CkaId

# Whether a token wraps a type does not depend on the size, so the cheapest of each family is tried.
FAMILY: Final = {
    KeySpec.AES_128: KeySpec.AES_128,
    KeySpec.AES_192: KeySpec.AES_128,
    KeySpec.AES_256: KeySpec.AES_128,
    KeySpec.HMAC: KeySpec.HMAC,
    KeySpec.EC_P256: KeySpec.EC_P256,
    KeySpec.EC_P384: KeySpec.EC_P256,
    KeySpec.EC_P521: KeySpec.EC_P256,
    KeySpec.ED25519: KeySpec.ED25519,
    KeySpec.RSA_2048: KeySpec.RSA_2048,
    KeySpec.RSA_3072: KeySpec.RSA_2048,
    KeySpec.RSA_4096: KeySpec.RSA_2048,
}
_BLOB_LIMIT: Final = 8192


def purpose_of(spec: KeySpec) -> Purpose:
    """The purpose under which keys of this type are wrapped."""
    if spec.is_pair:
        return Purpose.KEY_SIGN
    return Purpose.KEY_MAC if spec is KeySpec.HMAC else Purpose.KEY_ENC


def _mechanism(connection: Connection) -> Mechanism:
    if connection.kwp is None:
        raise lacking("CKM_AES_KEY_WRAP_KWP (RFC 5649), so it makes no wrapped keys")
    return connection.kwp


def _unwrap(connection: Connection, session: Any, root: int, ref: Wrapped) -> int:
    row = SPECS[ref.spec]
    template = templates.secret_half(ref.purpose, ref.spec, token=False, extractable=False)
    kind = (row.object_class, row.key_type)
    template = templates.fitting(session, template)
    return int(rawops.unwrap(session, root, ref.blob, _mechanism(connection), kind, template).handle)


def _root(connection: Connection, session: Any, purpose: Purpose, wrapping: CkaId, *, joint: bool) -> int:
    if purpose not in templates.WRAPPED_BY:
        raise KmsError(ErrorKind.INVALID, f"keys for {purpose} are never wrapped")
    ref = Resident(wrapping, templates.WRAPPED_BY[purpose], KeySpec.AES_256, imported=joint)
    return connection.resident(session, ref)


def birth(
    connection: Connection,
    session: Any,
    purpose: Purpose,
    spec: KeySpec,
    wrapping: CkaId,
    context: bytes,
    *,
    joint: bool = False,
) -> Wrapped:
    """Make a key, wrap it, probe it, destroy it.

    Raises:
        KmsError(INVALID): the token cannot wrap this type; make it resident instead.
    """
    templates.check_pairing(purpose, spec)
    mechanism = _mechanism(connection)
    root = _root(connection, session, purpose, wrapping, joint=joint)
    secret, public = objects.make(session, purpose, spec, token=False, cka_id=b"", label="")
    try:
        objects.assert_template(secret, purpose, spec, token=False, extractable=True)
        spki = b"" if public is None else spki_of(public, spec)
        blob = rawops.wrap(session, root, secret.handle, mechanism)
        text = probe.message(purpose, spec, wrapping, context, spki)
        mark = probe.make(session, secret.handle, spec, text)
    finally:
        secret.destroy()
        if public is not None:
            public.destroy()
    return Wrapped(purpose, spec, wrapping, blob, mark, context, spki, joint)


def load(connection: Connection, session: Any, ref: Wrapped) -> Loaded:
    """The session object of a wrapped key, counted as in use; give it to `release`.

    Raises:
        KmsError(INTEGRITY): blob, probe, context or public key do not belong together.
    """
    loaded = connection.loaded.take(ref)
    if loaded is not None:
        return loaded
    if len(ref.blob) > _BLOB_LIMIT:
        raise KmsError(ErrorKind.INTEGRITY, "a wrapped key is longer than any key type allows")
    root = _root(connection, session, ref.purpose, ref.wrapping, joint=ref.joint)
    text = probe.message(ref.purpose, ref.spec, ref.wrapping, ref.context, ref.public)
    try:
        handle = _unwrap(connection, session, root, ref)
    except _NOT_THIS_KEY as error:
        connection.prove_alive(session)
        raise KmsError(
            ErrorKind.INTEGRITY,
            f"a wrapped key does not open under its wrapping key ({type(error).__name__})",
        ) from error
    good = False
    try:
        probe.check(session, handle, ref.spec, text, ref.public, ref.probe)
        good = True
    finally:
        if not good:
            connection.module.destroy_object(session.handle, handle)
    loaded, spare = connection.loaded.add(ref, handle)
    connection.destroy_idle(session, spare)
    return loaded


# SoftHSM says GeneralError for a blob whose check value is wrong, others WrappedKeyInvalid.
_NOT_THIS_KEY: Final = (
    p11.WrappedKeyInvalid,
    p11.WrappedKeyLenRange,
    p11.GeneralError,
    p11.FunctionFailed,
    p11.TemplateInconsistent,
    p11.EncryptedDataInvalid,
)


@contextmanager
def usable(connection: Connection, session: Any, ref: KeyRef) -> Iterator[int]:
    """The handle of any key, for one use."""
    if isinstance(ref, Resident):
        yield connection.resident(session, ref)
        return
    loaded = load(connection, session, ref)
    try:
        yield loaded.handle
    finally:
        idle = connection.loaded.release(loaded)
        if idle is not None:
            connection.destroy_idle(session, [idle])


_CANNOT: Final = (
    p11.KeyNotWrappable,
    p11.KeyUnextractable,
    p11.KeySizeRange,
    p11.KeyTypeInconsistent,
    p11.MechanismInvalid,
    p11.MechanismParamInvalid,
    p11.FunctionNotSupported,
    p11.AttributeTypeInvalid,
    p11.AttributeValueInvalid,
    p11.TemplateInconsistent,
    p11.TemplateIncomplete,
    p11.DomainParamsInvalid,
    p11.WrappingKeyTypeInconsistent,
    p11.WrappedKeyInvalid,
)


def try_wrapping(connection: Connection, session: Any, spec: KeySpec) -> bool:
    """Make a throwaway key of this family, wrap and unwrap it. Costs a key generation."""
    if connection.kwp is None:
        return False
    spec = FAMILY[spec]
    purpose = purpose_of(spec)
    made: list[int] = []
    try:
        template = templates.throwaway(Attribute.WRAP, Attribute.UNWRAP, readable=False)
        root = session.generate_key(
            KeyType.AES, 256, capabilities=0, mechanism=Mechanism.AES_KEY_GEN, template=template
        ).handle
        made.append(root)
        secret, public = objects.make(session, purpose, spec, token=False, cka_id=b"", label="")
        made += [secret.handle] + ([] if public is None else [public.handle])
        blob = rawops.wrap(session, root, secret.handle, connection.kwp)
        ref = Wrapped(purpose, spec, CkaId(b""), blob, b"", b"", b"")
        made.append(_unwrap(connection, session, root, ref))
    except LOST:
        raise
    except _CANNOT:
        return False
    finally:
        connection.destroy_idle(session, made)
    return True
