"""One attribute template per purpose. Every attribute that decides what a key may do stands in this file.

- Nothing is left to a default, neither the module's nor python-pkcs11's, whose default AES template may
  wrap and decrypt at once and so gives "sensitive" keys away (H6).
- Token objects are written once: not modifiable, not copyable (H4).
- Wrapping keys carry CKA_UNWRAP_TEMPLATE: whatever they unwrap is sensitive, not extractable, and of
  exactly one use. With it a thief with PIN and database cannot have a blob given back readable. And
  CKA_WRAP_TEMPLATE: they wrap only what was born in the token for that use.
- SoftHSM applies attributes in order and refuses further ones after MODIFIABLE=false, so that comes last.
- `asserted` says what the finished object must show; objects.py reads it back after each generation.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterable
from types import MappingProxyType
from typing import Any, Final

from pkcs11.attributes import AttributeMapper
from pkcs11.constants import DEFAULT, Attribute, ObjectClass
from pkcs11.exceptions import AttributeTypeInvalid, AttributeValueInvalid, TemplateInconsistent
from pkcs11.mechanisms import KeyType

from kms.errors import invalid
from kms.hsm.mechanisms import SPECS
from kms.hsm.model import KeySpec, Purpose

Template = dict[Attribute, Any]

ALL_USES: Final = (
    Attribute.ENCRYPT,
    Attribute.DECRYPT,
    Attribute.SIGN,
    Attribute.VERIFY,
    Attribute.WRAP,
    Attribute.UNWRAP,
    Attribute.DERIVE,
)
# Attributes that exist only on the other half of a pair: SoftHSM refuses them by name (H10).
_NOT_PRIVATE: Final = (Attribute.ENCRYPT, Attribute.VERIFY, Attribute.WRAP)
_NOT_PUBLIC: Final = (Attribute.DECRYPT, Attribute.SIGN, Attribute.UNWRAP)

_OTHER_HALF: Final = MappingProxyType(
    {
        Attribute.DECRYPT: Attribute.ENCRYPT,
        Attribute.SIGN: Attribute.VERIFY,
        Attribute.UNWRAP: Attribute.WRAP,
        Attribute.DERIVE: Attribute.DERIVE,
    }
)

_AES = frozenset({KeySpec.AES_128, KeySpec.AES_256})
_CMAC = _AES | {KeySpec.AES_192}
_PAIRS = frozenset(spec for spec in KeySpec if spec.is_pair)
_ROOT = frozenset({KeySpec.AES_256})
_RSA = frozenset(spec for spec in _PAIRS if SPECS[spec].key_type is KeyType.RSA)
_EC = frozenset(spec for spec in _PAIRS if SPECS[spec].key_type is KeyType.EC)

# Guards that a configuration may give up for a token that does not have them. Never what makes a key
# sensitive, not extractable or of one use.
OMISSIBLE: Final = MappingProxyType({"copyable": Attribute.COPYABLE, "local": Attribute.LOCAL})

# What a token answers to an attribute that it does not know. Nothing was made then.
REFUSED: Final = (AttributeTypeInvalid, AttributeValueInvalid, TemplateInconsistent)

# purpose -> (uses of the secret half, key types that may have it)
USES: Final = MappingProxyType(
    {
        Purpose.ROOT_SEAL: ({Attribute.ENCRYPT, Attribute.DECRYPT}, _ROOT),
        Purpose.ROOT_WRAP_ENC: ({Attribute.WRAP, Attribute.UNWRAP}, _ROOT),
        Purpose.ROOT_WRAP_MAC: ({Attribute.WRAP, Attribute.UNWRAP}, _ROOT),
        Purpose.ROOT_WRAP_SIGN: ({Attribute.WRAP, Attribute.UNWRAP}, _ROOT),
        Purpose.SENTINEL: ({Attribute.ENCRYPT, Attribute.DECRYPT}, _ROOT),
        Purpose.LOG_SIGN: ({Attribute.SIGN}, _PAIRS),
        Purpose.CA_SIGN: ({Attribute.SIGN}, _PAIRS),
        Purpose.KEY_ENC: ({Attribute.ENCRYPT, Attribute.DECRYPT}, _AES),
        Purpose.KEY_MAC: ({Attribute.SIGN, Attribute.VERIFY}, frozenset({KeySpec.HMAC})),
        Purpose.KEY_SIGN: ({Attribute.SIGN}, _PAIRS),
        Purpose.KEY_CMAC: ({Attribute.SIGN, Attribute.VERIFY}, _CMAC),
        Purpose.KEY_DECRYPT: ({Attribute.DECRYPT}, _RSA),
        Purpose.KEY_AGREE: ({Attribute.DERIVE}, _EC),
        Purpose.IMPORT_UNWRAP: ({Attribute.UNWRAP}, _RSA),
        Purpose.ROOT_SEAL_RSA: ({Attribute.DECRYPT}, _RSA),
        Purpose.ROOT_SEAL_SIGN: ({Attribute.SIGN}, _RSA),
        Purpose.SENTINEL_RSA: ({Attribute.SIGN}, _RSA),
    }
)

# What each wrapping key wraps, and the only purpose its blobs can be loaded for.
WRAPS: Final = MappingProxyType(
    {
        Purpose.ROOT_WRAP_ENC: Purpose.KEY_ENC,
        Purpose.ROOT_WRAP_MAC: Purpose.KEY_MAC,
        Purpose.ROOT_WRAP_SIGN: Purpose.KEY_SIGN,
    }
)
WRAPPED_BY: Final = MappingProxyType({wrapped: root for root, wrapped in WRAPS.items()})


def check_pairing(purpose: Purpose, spec: KeySpec) -> None:
    """Refuse a key type that the purpose does not have.

    Raises:
        KmsError(INVALID)
    """
    if spec not in USES[purpose][1]:
        raise invalid(f"a key for {purpose} cannot be of type {spec}")


def _uses(purpose: Purpose, without: tuple[Attribute, ...]) -> Template:
    wanted = USES[purpose][0]
    return {use: DEFAULT if use in without else use in wanted for use in ALL_USES}


def _guards(*, extractable: bool) -> Template:
    return {Attribute.PRIVATE: True, Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: extractable}


def _closing() -> Template:
    return {Attribute.COPYABLE: False, Attribute.MODIFIABLE: False}


def secret_half(purpose: Purpose, spec: KeySpec, *, token: bool, extractable: bool) -> Template:
    """The template of the secret or private key: at birth in the token, or when a blob is loaded.

    `extractable` only for a session object that is about to be wrapped; a token object never is.
    """
    check_pairing(purpose, spec)
    if token and extractable:
        raise invalid("a token object is never extractable")
    template = {Attribute.TOKEN: token, **_guards(extractable=extractable)}
    template |= _uses(purpose, _NOT_PRIVATE if spec.is_pair else ())
    if purpose is Purpose.IMPORT_UNWRAP:
        template[Attribute.UNWRAP_TEMPLATE] = _packed(ephemeral())
    if purpose in WRAPS:
        template[Attribute.UNWRAP_TEMPLATE] = _packed(unwrap_attributes(WRAPS[purpose]))
        template[Attribute.WRAP_TEMPLATE] = _packed(wrap_attributes(WRAPS[purpose]))
    return template | _closing()


def variants(purpose: Purpose, spec: KeySpec, *, token: bool, extractable: bool) -> list[Template]:
    """The templates to try in turn: a token may know no nested templates, and then has to go without.

    All that is lost is who enforces the use of what is unwrapped: then Keystead does, and theft.py says so.
    """
    whole = secret_half(purpose, spec, token=token, extractable=extractable)
    if purpose not in WRAPS and purpose is not Purpose.IMPORT_UNWRAP:
        return [whole]
    concessions: list[tuple[Attribute, ...]] = [
        (),
        (Attribute.WRAP_TEMPLATE,),
        (Attribute.WRAP_TEMPLATE, Attribute.UNWRAP_TEMPLATE),
    ]
    tried = [{name: value for name, value in whole.items() if name not in without} for without in concessions]
    return [each for at, each in enumerate(tried) if each not in tried[:at]]


def public_half(purpose: Purpose, spec: KeySpec, *, token: bool) -> Template:
    """The template of the public key of a pair: the other side of what the private one does.

    Its encryption and wrapping are done in software all the same; NSS checks a new pair by using both halves.
    """
    template: Template = {Attribute.TOKEN: token, Attribute.PRIVATE: False}
    wanted = {_OTHER_HALF.get(use) for use in USES[purpose][0]}
    template |= {use: DEFAULT if use in _NOT_PUBLIC else use in wanted for use in ALL_USES}
    if SPECS[spec].curve:
        template[Attribute.EC_PARAMS] = SPECS[spec].curve
    check_pairing(purpose, spec)
    return template | _closing()


def asserted(
    purpose: Purpose, spec: KeySpec, *, token: bool, extractable: bool, imported: bool = False
) -> Template:
    """What a key must show when it is read back, over and above what was asked for.

    An imported key was known outside, and so is neither LOCAL nor ALWAYS_SENSITIVE; the rest holds for it too.
    """
    template = secret_half(purpose, spec, token=token, extractable=extractable)
    arrays = (Attribute.UNWRAP_TEMPLATE, Attribute.WRAP_TEMPLATE)  # of pointers; theft.py tests their effect
    expected = {
        name: value for name, value in template.items() if value is not DEFAULT and name not in arrays
    }
    if token and not imported:
        expected |= {
            Attribute.NEVER_EXTRACTABLE: True,
            Attribute.ALWAYS_SENSITIVE: True,
            Attribute.LOCAL: True,
        }
    return expected


def transport(use: Attribute) -> Template:
    """What two tokens agree on for one wrapping and unwrapping (joint.py): a session key of this one use."""
    template: Template = {Attribute.TOKEN: False, **_guards(extractable=False)}
    return template | {each: each is use for each in ALL_USES} | _closing()


def ephemeral() -> Template:
    """The AES key that an imported key comes wrapped with: for one unwrapping, and then gone."""
    template: Template = {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.KEY_TYPE: KeyType.AES}
    template |= {Attribute.TOKEN: False, **_guards(extractable=False)}
    return template | {use: use is Attribute.UNWRAP for use in ALL_USES} | _closing()


# What a token cannot say of its objects, by its label (HsmConfig.omit): NSS refuses COPYABLE on token objects.
_OMITTED: Final[dict[str, frozenset[Attribute]]] = {}


def omit(label: str, names: Iterable[str]) -> None:
    """From now on, leave these guards out of the templates and checks for a token."""
    _OMITTED[label] = frozenset(OMISSIBLE[name] for name in names)


def fitting(session: Any, template: Template) -> Template:
    """The template without what the session's token cannot say."""
    omitted = _OMITTED.get(str(session.token.label))
    if not omitted:
        return template
    return {name: DEFAULT if name in omitted else value for name, value in template.items()}


def throwaway(*uses: Attribute, readable: bool) -> Template:
    """A session object for self-tests: never holds anything, destroyed at once, readable for comparison."""
    template: Template = {
        Attribute.TOKEN: False,
        Attribute.PRIVATE: True,
        Attribute.SENSITIVE: not readable,
        Attribute.EXTRACTABLE: True,
    }
    return template | {use: use in uses for use in ALL_USES}


# --- CKA_UNWRAP_TEMPLATE and CKA_WRAP_TEMPLATE -------------------------------------------------------
#
# python-pkcs11 crashes on a dict as an attribute's value, so the value is a packed CK_ATTRIBUTE array
# {type, pointer, length}. The bytes behind the pointers must outlive every call: they are kept for ever
# in _KEPT (six templates of a dozen attributes).

_KEPT: list[ctypes.Array[ctypes.c_char]] = []
_PACKED: dict[tuple[tuple[Attribute, Any], ...], bytes] = {}


def _kind(wrapped: Purpose) -> Template:
    if wrapped is Purpose.KEY_SIGN:
        return {Attribute.CLASS: ObjectClass.PRIVATE_KEY}
    key_type = KeyType.AES if wrapped is Purpose.KEY_ENC else KeyType.GENERIC_SECRET
    return {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.KEY_TYPE: key_type}


def _only_uses(wrapped: Purpose) -> Template:
    uses = _uses(wrapped, _NOT_PRIVATE if wrapped is Purpose.KEY_SIGN else ())
    return {name: value for name, value in uses.items() if value is not DEFAULT}


def unwrap_attributes(wrapped: Purpose) -> Template:
    """What everything unwrapped by the root of `wrapped` is, whatever the caller of C_UnwrapKey says."""
    template = _kind(wrapped) | {Attribute.TOKEN: False, **_guards(extractable=False)}
    return template | _only_uses(wrapped) | _closing()


def wrap_attributes(wrapped: Purpose) -> Template:
    """What a key must be for the root of `wrapped` to wrap it: born here, and never readable.

    Otherwise a thief could wrap a key that he knows, put the blob into a row, and read what is encrypted later.
    """
    born_here = {Attribute.SENSITIVE: True, Attribute.ALWAYS_SENSITIVE: True, Attribute.LOCAL: True}
    return _kind(wrapped) | born_here | _only_uses(wrapped)


def _packed(template: Template) -> bytes:
    key = tuple(template.items())
    if key not in _PACKED:
        plain = AttributeMapper()
        packed = b""
        for name, value in template.items():
            data = plain.pack_attribute(name, value)
            kept = ctypes.create_string_buffer(data, len(data))
            _KEPT.append(kept)
            packed += struct.pack("@LPL", int(name), ctypes.addressof(kept), len(data))
        _PACKED[key] = packed
    return _PACKED[key]


def attribute_mapper() -> AttributeMapper:
    """A mapper that passes packed attribute arrays through."""
    mapper = AttributeMapper()
    mapper.register_handler(Attribute.UNWRAP_TEMPLATE, bytes, bytes)
    mapper.register_handler(Attribute.WRAP_TEMPLATE, bytes, bytes)
    return mapper
