"""A receipt: the place and the hash of one record, handed to the caller with the answer."""

from __future__ import annotations

import re

import msgspec

from kms.errors import invalid

HEADER = "X-Keystead-Receipt"
MAX_RECEIPT = 512

_FORM = re.compile(
    r"(?P<origin>[!-~]{1,128});(?P<segment>[0-9a-f]{32});(?P<seq>0|[1-9][0-9]{0,17});(?P<leaf>[0-9a-f]{64})\Z"
)


class Receipt(msgspec.Struct, frozen=True):
    """Proof for the caller: a log that does not hold `leaf` at (`segment`, `seq`) has been changed."""

    origin: str
    segment: str
    seq: int
    leaf: bytes

    def header(self) -> str:
        """Value of the X-Keystead-Receipt header: origin;segment;seq;leaf in hex."""
        return f"{self.origin};{self.segment};{self.seq};{self.leaf.hex()}"


def parse_receipt(text: str) -> Receipt:
    """Read a header value. Raises KmsError(INVALID)."""
    match = _FORM.match(text) if len(text) <= MAX_RECEIPT else None
    if match is None:
        raise invalid("not a receipt: expected origin;segment;seq;leaf")
    return Receipt(match["origin"], match["segment"], int(match["seq"]), bytes.fromhex(match["leaf"]))
