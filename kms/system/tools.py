"""sys/tools: random bytes and digests, for callers that have no transit mount."""

from __future__ import annotations

from kms.keys import KeyService
from kms.operation import Capability, Field, Operation, Record, Type
from kms.operations.random import Randomness


def tools(keys: KeyService) -> list[Operation]:
    """The table of operations."""
    randomness = Randomness(keys)

    def clear(name: str, kind: Type = Type.STRING, default: object = None) -> Field:
        return Field(name, kind, default=default, record=Record.CLEAR)

    return [
        Operation(
            "sys.tools.random",
            Capability.UPDATE,
            randomness.random,
            fields=(
                clear("urlsource"),
                clear("urlbytes"),
                clear("source", default="platform"),
                clear("bytes", Type.INT, default=32),
                clear("format", default="base64"),
            ),
        ),
        Operation(
            "sys.tools.hash",
            Capability.UPDATE,
            randomness.hash,
            fields=(
                clear("urlalgorithm"),
                clear("algorithm", default="sha2-256"),
                clear("format", default="hex"),
                Field("input", default=""),
            ),
        ),
    ]
