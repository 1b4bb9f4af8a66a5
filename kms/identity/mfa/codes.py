"""Codes of TOTP: which period one is for, once."""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b32encode
from typing import Final
from urllib.parse import quote

import pyotp
import segno
from msgspec.structs import replace

from kms.identity.mfa.store import Method, Secret

FAILURE_SECONDS: Final = 300.0
"""For so long failures count; the peer forgets them after a few periods of the code."""
ALGORITHMS: Final = {"SHA1": hashlib.sha1, "SHA256": hashlib.sha256, "SHA512": hashlib.sha512}
# Nothing else is a code: not with blanks, not in digits of another script. What is compared with what was used
# before is then what was compared with the code (CVE-2025-6014, CVE-2025-6015).
_DIGITS: Final = re.compile(r"[0-9]{6}(?:[0-9]{2})?\Z")


class TooManyTriesError(Exception):
    """Nothing is looked at for a while.

    Args:
        seconds: how long.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__(seconds)
        self.seconds = seconds


def checked(method: Method, held: Secret, code: str, now: float) -> tuple[Secret, bool]:
    """What the secret's row is after a try, and whether the code was accepted.

    Raises:
        TooManyTriesError: it was not looked at.
    """
    failures = held.failures if held.forget_at > now else 0
    if failures >= method.max_validation_attempts:
        raise TooManyTriesError(max(1, int(held.forget_at - now)))
    step = _step_of(method, held, code, now)
    if step is None:
        forget_at = held.forget_at if failures else now + FAILURE_SECONDS
        return replace(held, failures=failures + 1, forget_at=forget_at), False
    return replace(held, last_step=step, failures=0, forget_at=0.0), True


def _step_of(method: Method, held: Secret, code: str, now: float) -> int | None:
    """The period that this code is for, if it is one that may still be used."""
    if not _DIGITS.match(code) or len(code) != method.digits:
        return None
    generator = _generator(method, held.secret)
    current = int(now) // method.period
    found = None
    for step in range(current - method.skew, current + method.skew + 1):
        # All are compared, so that the time does not tell which.
        if hmac.compare_digest(generator.generate_otp(max(step, 0)), code) and step > held.last_step:
            found = step
    return found


def _generator(method: Method, secret: bytes) -> pyotp.TOTP:
    return pyotp.TOTP(
        b32encode(secret).decode("ascii"),
        digits=method.digits,
        digest=ALGORITHMS[method.algorithm],
        interval=method.period,
    )


def url_of(method: Method, secret: bytes, account: str) -> str:
    """What authenticator apps read (Key URI format)."""
    text = b32encode(secret).decode("ascii").rstrip("=")
    issuer = quote(method.issuer, safe="")
    return (
        f"otpauth://totp/{issuer}:{quote(account, safe='')}?algorithm={method.algorithm}&digits={method.digits}"
        f"&issuer={issuer}&period={method.period}&secret={text}"
    )


def picture_of(url: str, pixels: int) -> str:
    """A QR code of about so many pixels a side, PNG in base64; "" for none."""
    if pixels <= 0:
        return ""
    code = segno.make(url, error="m", micro=False)
    side = code.symbol_size(scale=1)[0]
    uri: str = code.png_data_uri(scale=max(1, pixels // side))
    return uri.partition(",")[2]
