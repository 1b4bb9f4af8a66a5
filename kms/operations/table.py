"""The operations of the transit engine, declared."""

from __future__ import annotations

from typing import Final

from kms.keys.catalogue import DEFAULT_TYPE, Use
from kms.keys.service import KeyService
from kms.operation import Capability, Effect, Field, Operation, Runs, Type
from kms.operations.datakey import DEFAULT_PAIR, DataKeys
from kms.operations.encrypt import Encrypting
from kms.operations.keytable import clear, management
from kms.operations.mac import Macs
from kms.operations.pace import quick, quick_between, quick_verify, small
from kms.operations.random import Randomness
from kms.operations.reencrypt import Decide, FindMount, Reencryption, no_mount, nobody
from kms.operations.rehearsal import with_dry_run
from kms.operations.rewrap import Rewrapping
from kms.operations.sign import Signing
from kms.operations.wrap import Encapsulation, Wrapping

_BATCH: Final = Field("batch_input", Type.ITEMS)
_CONTEXT: Final = (Field("context", default=""), Field("associated_data", default=""))
_VERSION: Final = clear("key_version", Type.INT, 0)
_PARTIAL: Final = Field("partial_failure_response_code", Type.INT, 0)
_ALGORITHMS: Final = (
    clear("urlalgorithm"),
    clear("algorithm"),
    clear("hash_algorithm"),
    clear("signature_algorithm"),
    clear("marshaling_algorithm", default="asn1"),
    clear("salt_length", default="auto"),
    clear("prehashed", Type.BOOL, default=False),
    Field("signature_context", default=""),
)


def operations(service: KeyService, decide: Decide = nobody, find: FindMount = no_mount) -> list[Operation]:
    """Every operation of one `KeyService`, for the registry.

    Args:
        service: where the keys are.
        decide: policy, for the operations that ask it about a second key.
        find: another transit mount, for those that reach one.
    """

    def table(keys: KeyService) -> list[Operation]:
        return [
            *management(keys, decide),
            *_encryption(keys),
            *_beyond(keys, decide, find),
            *_authenticity(keys),
            *_wrapping(keys),
            *_keyless(keys),
        ]

    return with_dry_run(service, table)


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
                clear("type", default=DEFAULT_TYPE),
                clear("convergent_encryption", Type.BOOL, default=False),
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
            fields=(clear("kind"), *_CONTEXT, _VERSION, clear("bits", Type.INT, 256)),
        ),
    ]


def _beyond(service: KeyService, decide: Decide, find: FindMount) -> list[Operation]:
    """What the Vault API has no path for, in its style."""
    return [
        Operation(
            "transit.reencrypt",
            Capability.UPDATE,
            Reencryption(service, decide, find).reencrypt,
            runs=Runs.INLINE,
            inline_if=quick_between(service),
            fields=(
                clear("destination"),
                clear("destination_mount"),
                Field("ciphertext", default=""),
                *_CONTEXT,
                Field("destination_context", default=""),
                Field("destination_associated_data", default=""),
                _VERSION,
                _BATCH,
            ),
        ),
        # An RSA pair takes seconds to make.
        Operation(
            "transit.datakeypair",
            Capability.UPDATE,
            DataKeys(service).datakeypair,
            runs=Runs.THREAD,
            fields=(clear("kind"), clear("type", default=DEFAULT_PAIR), *_CONTEXT, _VERSION),
        ),
    ]


def _wrapping(service: KeyService) -> list[Operation]:
    wrapping, encapsulation = Wrapping(service), Encapsulation(service)
    padding = clear("padding", Type.BOOL, default=True)
    ciphertext = Field("ciphertext", default="")
    return [
        Operation(
            "transit.wrap",
            Capability.UPDATE,
            wrapping.wrap,
            runs=Runs.INLINE,
            inline_if=quick(service, Use.WRAP, "plaintext"),
            fields=(Field("plaintext", default=""), padding, _VERSION, _BATCH),
        ),
        Operation(
            "transit.unwrap",
            Capability.UPDATE,
            wrapping.unwrap,
            runs=Runs.INLINE,
            inline_if=quick(service, Use.WRAP, "ciphertext"),
            fields=(ciphertext, padding, _BATCH),
        ),
        Operation(
            "transit.encapsulate",
            Capability.UPDATE,
            encapsulation.encapsulate,
            runs=Runs.INLINE,
            inline_if=quick(service, Use.ENCAPSULATE),
            fields=(_VERSION,),
        ),
        Operation(
            "transit.decapsulate",
            Capability.UPDATE,
            encapsulation.decapsulate,
            runs=Runs.INLINE,
            inline_if=quick(service, Use.ENCAPSULATE, "ciphertext"),
            fields=(ciphertext,),
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
                clear("mac_length", Type.INT, 0),
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
                clear("algorithm", default="sha2-256"),
                clear("urlalgorithm"),
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
                clear("mac_length", Type.INT, 0),
                clear("urlmaclength"),
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
                clear("bytes", Type.INT, 32),
                clear("format", default="base64"),
                clear("source", default="platform"),
                clear("urlsource"),
                clear("urlbytes"),
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
                clear("algorithm", default="sha2-256"),
                clear("urlalgorithm"),
                clear("format", default="hex"),
            ),
        ),
    ]
