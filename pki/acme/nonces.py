"""Anti-replay nonces (RFC 8555 6.5): made without a row, spent with one.

    nonce = base64url(time of making (5 bytes) || random (11) || first 16 bytes of HMAC-SHA256(key, mount || both))

Whoever asks for nonces without end costs a MAC each and leaves nothing. Spending inserts the nonce, so of any number
of requests with the same one, in whichever worker, exactly one goes on. A spent nonce is kept until it would have
expired by itself; only requests with a good signature get that far.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable

from kms.errors import ErrorKind, KmsError
from kms.sensitive import ACCESS, Sensitive
from kms.tables import Store
from pki.acme.jwk import base64url, unbase64url
from pki.acme.model import NONCE_LIFETIME, Mark
from pki.acme.problems import AcmeProblem
from pki.acme.store import NONCES

_TIME, _RANDOM, _MAC = 5, 11, 16
_AHEAD = 60  # seconds: the clock may have been set back a little


class Nonces:
    """One per process."""

    def __init__(self, store: Store, key: Callable[[], Sensitive]) -> None:
        self._store = store
        self._key = key

    def make(self, mount_id: str, now: float) -> str:
        """A new one for this mount."""
        body = int(now).to_bytes(_TIME) + secrets.token_bytes(_RANDOM)
        return base64url(body + self._mac(mount_id, body))

    def spend(self, mount_id: str, nonce: str, now: float) -> None:
        """Raise AcmeProblem(badNonce) unless it is ours, fresh, and never spent."""
        try:
            raw = unbase64url(nonce, "nonce")
        except AcmeProblem:
            raise _bad() from None
        body, mac = raw[:-_MAC], raw[-_MAC:]
        if len(body) != _TIME + _RANDOM or not hmac.compare_digest(self._mac(mount_id, body), mac):
            raise _bad()
        made = int.from_bytes(body[:_TIME])
        if not made - _AHEAD <= now < made + NONCE_LIFETIME:
            raise _bad()
        mark = Mark(delete_after=made + NONCE_LIFETIME + _AHEAD)
        try:
            with self._store.transaction() as tx:
                tx.insert(NONCES, f"{mount_id}/{nonce}", mark)
        except KmsError as error:
            if error.kind is ErrorKind.CONFLICT:
                raise _bad() from None
            raise

    def _mac(self, mount_id: str, body: bytes) -> bytes:
        return hmac.digest(self._key().reveal(ACCESS), mount_id.encode() + b"/" + body, "sha256")[:_MAC]


def _bad() -> AcmeProblem:
    return AcmeProblem("badNonce", "the nonce is unknown, expired or was used; take a new one and send again")
