"""Service accounts of Google: what a key file says, the machine's own, and what is signed with either (RFC 7523)."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from kms.errors import KmsError, invalid
from kms.identity.jwt.token import LEAST_RSA_BITS
from kms.identity.outward import check_url

GSUITE: Final = "gsuite"
MACHINE: Final = "GOOGLE_APPLICATION_CREDENTIALS"
"""The environment variable by which whoever starts this server names a key file for it (Google's convention)."""
ASSERTED_SECONDS: Final = 3600
MAX_ACCOUNT: Final = 16 * 1024
_TOKENS: Final = "https://oauth2.googleapis.com/token"
_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"


@dataclass(frozen=True)
class Account:
    """A service account, by its key file."""

    email: str
    key_id: str
    key: rsa.RSAPrivateKey = field(repr=False)
    token_uri: str


def account(text: str, *, checked: bool = False) -> Account:
    """A service account. Raises KmsError(INVALID); nothing of the key file is in the text, but its type.

    `checked`: the text passed here before it was stored, so the key's numbers are not checked again, which takes 45 ms.
    """
    try:
        found = json.loads(text[:MAX_ACCOUNT])
    except (ValueError, RecursionError):
        raise _key_file("the content of a key file is expected, which is JSON; no file is read") from None
    if not isinstance(found, dict):
        raise _key_file("it is no JSON object")
    if found.get("type") != "service_account":
        kind = str(found.get("type", ""))[:32]
        raise _key_file(f'\'type\' field is "{kind}" (expected "service_account")')
    email, key_id, pem = (found.get(name, "") for name in ("client_email", "private_key_id", "private_key"))
    place = found.get("token_uri") or _TOKENS
    if not all(isinstance(each, str) for each in (email, key_id, pem, place)) or not email:
        raise _key_file("client_email, private_key_id, private_key and token_uri are texts")
    try:
        encoded = pem.encode("utf-8", "surrogatepass")
        key = load_pem_private_key(encoded, None, unsafe_skip_rsa_key_validation=checked)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _key_file("private_key is no private key in PEM") from None
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < LEAST_RSA_BITS:
        raise _key_file(f"private_key is no RSA key from {LEAST_RSA_BITS} bits on")
    check_url(place)
    return Account(email, key_id, key, place)


def machine() -> Account | None:
    """The account that this server's machine was given, if it was. Raises KmsError(INVALID) for what is none."""
    named = os.environ.get(MACHINE, "")
    if not named:
        return None
    try:
        with Path(named).open(encoding="utf-8") as file:
            text = file.read(MAX_ACCOUNT)
    except (OSError, ValueError) as error:
        raise unfit(f"the file that {MACHINE} names cannot be read: {type(error).__name__}") from None
    return _of_machine(text)


@lru_cache(maxsize=1)
def _of_machine(text: str) -> Account:
    """`account`, kept: the file says the same at each login, and checking the key's numbers takes 45 ms."""
    return account(text)


def claims_of(issuer: str, scope: str, subject: str, audience: str, now: float) -> dict[str, Any]:
    """What an assertion says. `subject`: the user whom the account speaks as; "" for itself."""
    said: dict[str, Any] = {"iss": issuer, "scope": scope, "aud": audience, "iat": int(now)}
    said["exp"] = int(now) + ASSERTED_SECONDS
    return {**said, "sub": subject} if subject else said


def signed(who: Account, said: dict[str, Any]) -> str:
    """The assertion."""
    return jwt.encode(said, who.key, "RS256", {"kid": who.key_id} if who.key_id else {})


def granting(assertion: str) -> bytes:
    """The form with which a token endpoint is asked."""
    return urlencode({"grant_type": _GRANT, "assertion": assertion}).encode()


def unfit(reason: str) -> KmsError:
    """A provider_config that cannot work."""
    return invalid(f'invalid provider_config: error initializing "{GSUITE}" provider_config: {reason}')


def _key_file(reason: str) -> KmsError:
    return unfit(f"error parsing service account JSON: {reason}")
