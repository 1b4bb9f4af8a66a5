"""datakey: a fresh key for the caller's own encryption, sealed by a named key."""

from __future__ import annotations

import os
from typing import Final

from kms.errors import invalid
from kms.keys.catalogue import Protection
from kms.keys.service import KeyService
from kms.operation import Call, Result
from kms.operations.encrypt import key_of, warnings
from kms.operations.formats import encode
from kms.operations.sealing import Sealer, context_of

_BITS: Final = (128, 256, 512)


class DataKeys:
    """The handler of transit.datakey."""

    def __init__(self, service: KeyService) -> None:
        self._service = service

    def datakey(self, call: Call) -> Result:
        """A data key, wrapped, and with kind "plaintext" also in clear.

        Its bytes come from the kernel, or from the HSM where an hsm key seals it.
        """
        args = call.args
        if args["kind"] not in ("plaintext", "wrapped"):
            raise invalid("Invalid path, must be 'plaintext' or 'wrapped'")
        live = key_of(self._service, call)
        context = context_of(args["context"])
        if args["bits"] not in _BITS:
            raise invalid("invalid bit length")
        size = args["bits"] // 8
        secret = self._service.hsm_random(size) if live.key.protection is Protection.HSM else os.urandom(size)
        sealer = Sealer(live, 1)
        ciphertext, version = sealer.seal(args["key_version"], secret, args["associated_data"], context)
        data: dict[str, str | int] = {"ciphertext": ciphertext, "key_version": version}
        if args["kind"] == "plaintext":
            data["plaintext"] = encode(secret)
        return Result(
            data=data,
            subject={"key_id": live.key.id, "key_version": version, "bits": args["bits"]},
            warnings=warnings(live, version),
        )
