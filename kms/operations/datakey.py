"""Data keys and data key pairs: fresh keys for the caller's own use, sealed by a named key."""

from __future__ import annotations

import os
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from kms.errors import invalid
from kms.keys.catalogue import ALGORITHMS, Kind, Protection
from kms.keys.live import LiveKey
from kms.keys.service import KeyService
from kms.keys.software import generate_private
from kms.operation import Call, Result
from kms.operations.encrypt import key_of, warnings
from kms.operations.formats import encode
from kms.operations.sealing import Sealer, context_of

_BITS: Final = (128, 256, 512)
DEFAULT_PAIR: Final = "ecdsa-p256"


class DataKeys:
    """The handlers of transit.datakey and transit.datakeypair."""

    def __init__(self, service: KeyService) -> None:
        self._service = service

    def datakey(self, call: Call) -> Result:
        """A data key, wrapped, and with kind "plaintext" also in clear.

        Its bytes come from the kernel, or from the HSM where an hsm key seals it.
        """
        args = call.args
        live, context = self._begin(call)
        if args["bits"] not in _BITS:
            raise invalid("invalid bit length")
        size = args["bits"] // 8
        secret = self._service.hsm_random(size) if live.key.protection is Protection.HSM else os.urandom(size)
        return _sealed(call, live, context, secret, {}, {"bits": args["bits"]})

    def datakeypair(self, call: Call) -> Result:
        """A pair: the public half in PEM, the private half (PKCS#8 DER) wrapped.

        With kind "plaintext" the private half is answered in clear too. It is made in this process's
        memory, kept nowhere, and may be of any type of pair that we know.
        """
        algorithm = ALGORITHMS.get(call.args["type"])
        if algorithm is None:
            raise invalid(f"unknown key type {call.args['type']}")
        if not algorithm.title:
            raise invalid(f"key type {algorithm.name} is no pair; use datakey for symmetric keys")
        live, context = self._begin(call)
        if live.algorithm.kind is not Kind.AEAD:
            # One RSA block holds no private key, and clients may not depend on which sizes just fit.
            raise invalid(f"a key of type {live.key.type} cannot wrap pairs; use a symmetric encryption key")
        private = generate_private(algorithm)
        secret = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        facts = {"type": algorithm.name, "public_key": public.decode()}
        return _sealed(call, live, context, secret, facts, {"pair_type": algorithm.name})

    def _begin(self, call: Call) -> tuple[LiveKey, bytes]:
        if call.args["kind"] not in ("plaintext", "wrapped"):
            raise invalid("Invalid path, must be 'plaintext' or 'wrapped'")
        live = key_of(self._service, call)
        return live, context_of(call.args["context"])


def _sealed(
    call: Call,
    live: LiveKey,
    context: bytes,
    secret: bytes,
    facts: dict[str, str],
    recorded: dict[str, str | int],
) -> Result:
    args = call.args
    ciphertext, version = Sealer(live, 1).seal(args["key_version"], secret, args["associated_data"], context)
    data: dict[str, str | int] = {"ciphertext": ciphertext, "key_version": version, **facts}
    if args["kind"] == "plaintext":
        data["plaintext"] = encode(secret)
    return Result(
        data=data,
        subject={"key_id": live.key.id, "key_version": version, **recorded},
        warnings=warnings(live, version),
    )
