"""The operations of the transit engine, declared."""

from __future__ import annotations

from typing import Final

from kms.keys.catalogue import DEFAULT_TYPE, Use
from kms.keys.service import KeyService
from kms.operation import Capability, Effect, Field, Operation, Record, Runs, Type
from kms.operations.datakey import DataKeys
from kms.operations.encrypt import Encrypting
from kms.operations.mac import Macs
from kms.operations.manage import Management
from kms.operations.pace import quick, quick_verify, small
from kms.operations.random import Randomness
from kms.operations.rewrap import Rewrapping
from kms.operations.sign import Signing

_CLEAR: Final = Record.CLEAR


def _clear(name: str, type_: Type = Type.STRING, default: object = "") -> Field:
    return Field(name, type_, default, record=_CLEAR)


_BATCH: Final = Field("batch_input", Type.ITEMS)
_CONTEXT: Final = (Field("context", default=""), Field("associated_data", default=""))
_VERSION: Final = _clear("key_version", Type.INT, 0)
_PARTIAL: Final = Field("partial_failure_response_code", Type.INT, 0)
_ALGORITHMS: Final = (
    _clear("urlalgorithm"),
    _clear("algorithm"),
    _clear("hash_algorithm"),
    _clear("signature_algorithm"),
    _clear("marshaling_algorithm", default="asn1"),
    _clear("salt_length", default="auto"),
    _clear("prehashed", Type.BOOL, default=False),
)
_FLAGS: Final = (
    _clear("exportable", Type.BOOL, default=False),
    _clear("allow_plaintext_backup", Type.BOOL, default=False),
    _clear("auto_rotate_period", Type.SECONDS, 0),
)
_CREATE: Final = (
    _clear("type", default=DEFAULT_TYPE),
    _clear("protection"),
    _clear("purpose"),
    _clear("derived", Type.BOOL, default=False),
    _clear("convergent_encryption", Type.BOOL, default=False),
    _clear("key_size", Type.INT, 0),
    *_FLAGS,
)
_CONFIG: Final = (
    _clear("min_decryption_version", Type.INT, 0),
    _clear("min_encryption_version", Type.INT, 0),
    _clear("deletion_allowed", Type.BOOL, default=False),
    *_FLAGS,
)


def operations(service: KeyService) -> list[Operation]:
    """Every operation of one `KeyService`, for the registry."""
    return [*_management(service), *_encryption(service), *_authenticity(service), *_keyless(service)]


def _management(service: KeyService) -> list[Operation]:
    manage = Management(service)
    return [
        # A birth in the HSM is an external effect; a sealed row or a wrapped blob is state only.
        Operation(
            "transit.keys.create",
            Capability.UPDATE,
            manage.create,
            effect=Effect.EXTERNAL,
            fields=_CREATE,
            resolve=service.resolve,
        ),
        Operation("transit.keys.read", Capability.READ, manage.read, fields=(Field("context", default=""),)),
        Operation(
            "transit.keys.list",
            Capability.LIST,
            manage.list,
            fields=(_clear("after"), _clear("limit", Type.INT, 0)),
        ),
        Operation(
            "transit.keys.rotate",
            Capability.UPDATE,
            manage.rotate,
            effect=Effect.EXTERNAL,
            resolve=service.resolve,
        ),
        Operation(
            "transit.keys.config", Capability.UPDATE, manage.configure, effect=Effect.STATE, fields=_CONFIG
        ),
        Operation("transit.keys.delete", Capability.DELETE, manage.delete, effect=Effect.STATE),
        Operation("transit.settings.read", Capability.READ, manage.read_settings),
        Operation(
            "transit.settings.update",
            Capability.UPDATE,
            manage.change_settings,
            effect=Effect.STATE,
            fields=(_clear("disable_upsert", Type.BOOL, default=False),),
        ),
    ]


def _encryption(service: KeyService) -> list[Operation]:
    encrypting = Encrypting(service)
    return [
        # Effect state only when it has to create its key; otherwise it returns a plain result.
        Operation(
            "transit.encrypt",
            Capability.UPDATE,
            encrypting.encrypt,
            effect=Effect.STATE,
            exists=encrypting.exists,
            runs=Runs.INLINE,
            inline_if=quick(service, Use.ENCRYPT, "plaintext"),
            fields=(
                Field("plaintext"),
                *_CONTEXT,
                _VERSION,
                _clear("type", default=DEFAULT_TYPE),
                _clear("convergent_encryption", Type.BOOL, default=False),
                _BATCH,
                _PARTIAL,
            ),
        ),
        Operation(
            "transit.decrypt",
            Capability.UPDATE,
            encrypting.decrypt,
            runs=Runs.INLINE,
            inline_if=quick(service, Use.DECRYPT, "ciphertext"),
            fields=(Field("ciphertext", default=""), *_CONTEXT, _BATCH, _PARTIAL),
        ),
        Operation(
            "transit.rewrap",
            Capability.UPDATE,
            Rewrapping(service).rewrap,
            runs=Runs.INLINE,
            inline_if=quick(service, Use.ENCRYPT, "ciphertext"),
            fields=(Field("ciphertext", default=""), _CONTEXT[0], _VERSION, _BATCH),
        ),
        Operation(
            "transit.datakey",
            Capability.UPDATE,
            DataKeys(service).datakey,
            runs=Runs.INLINE,
            inline_if=quick(service, Use.ENCRYPT),
            fields=(_clear("kind"), *_CONTEXT, _VERSION, _clear("bits", Type.INT, 256)),
        ),
    ]


def _authenticity(service: KeyService) -> list[Operation]:
    signing, macs = Signing(service), Macs(service)
    return [
        Operation(
            "transit.sign",
            Capability.UPDATE,
            signing.sign,
            runs=Runs.INLINE,
            inline_if=quick(service, Use.SIGN, "input"),
            fields=(Field("input", default=""), *_CONTEXT[:1], _VERSION, *_ALGORITHMS, _BATCH),
        ),
        Operation(
            "transit.verify",
            Capability.UPDATE,
            signing.verify,
            runs=Runs.INLINE,
            inline_if=quick_verify(service),
            fields=(
                Field("input", default=""),
                Field("signature"),
                Field("hmac"),
                Field("cmac"),
                _clear("mac_length", Type.INT, 0),
                *_CONTEXT[:1],
                *_ALGORITHMS,
                _BATCH,
            ),
        ),
        Operation(
            "transit.hmac",
            Capability.UPDATE,
            macs.hmac,
            runs=Runs.INLINE,
            inline_if=quick(service, Use.MAC, "input"),
            fields=(
                Field("input"),
                _clear("algorithm", default="sha2-256"),
                _clear("urlalgorithm"),
                _VERSION,
                _BATCH,
            ),
        ),
        Operation(
            "transit.cmac",
            Capability.UPDATE,
            macs.cmac,
            runs=Runs.INLINE,
            inline_if=quick(service, Use.CMAC, "input"),
            fields=(
                Field("input"),
                _clear("mac_length", Type.INT, 0),
                _clear("urlmaclength"),
                _VERSION,
                _BATCH,
            ),
        ),
    ]


def _keyless(service: KeyService) -> list[Operation]:
    randomness = Randomness(service)
    return [
        Operation(
            "transit.random",
            Capability.UPDATE,
            randomness.random,
            runs=Runs.INLINE,
            fields=(
                _clear("bytes", Type.INT, 32),
                _clear("format", default="base64"),
                _clear("source", default="platform"),
                _clear("urlsource"),
                _clear("urlbytes"),
            ),
        ),
        Operation(
            "transit.hash",
            Capability.UPDATE,
            randomness.hash,
            runs=Runs.INLINE,
            inline_if=small("input"),
            fields=(
                Field("input"),
                _clear("algorithm", default="sha2-256"),
                _clear("urlalgorithm"),
                _clear("format", default="hex"),
            ),
        ),
    ]
