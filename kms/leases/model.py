"""Leases and revoked prefixes: what is stored of them. Pure values."""

from __future__ import annotations

from typing import Final

import msgspec

# The end of the year 9999, so that one index comparison serves all rows.
NEVER: Final = 253_402_300_799.0
# Any time in the past: due, whatever was granted.
DUE: Final = 0.0
OWN: Final = "token"
"""The kind of a token's own lease."""
MAX_ATTEMPTS: Final = 6
"""Failed tries after which a lease waits for an operator: the peer's number."""


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """One lease. The row key is its ID: the path that issued it, a slash, and a name of its own.

    Args:
        kind: which `Revoker` takes it back; OWN for the lease of a token, which ends with the token's own row.
        token: row key of the token that owns it; of the token itself for OWN; "" once it is given up.
        mount_id: the mount that issued it, "" for OWN.
        path: what was called.
        issued: seconds since the epoch.
        expires_at: when it is taken back; DUE once revoked; NEVER for OWN, whose end the token's row says.
        max_expires_at: no renewal goes beyond it.
        ttl: seconds granted last.
        data: what the revoker needs. Sealed with the row.
        attempts: failed tries to take it back.
        error: why the last one failed; public.
        irrevocable: 1 after `MAX_ATTEMPTS`: nothing tries any more.
    """

    kind: str
    token: str
    path: str
    issued: float
    expires_at: float
    mount_id: str = ""
    max_expires_at: float = NEVER
    ttl: int = 0
    renewable: bool = False
    last_renewal: float = 0.0
    data: dict[str, str | int] = {}
    attempts: int = 0
    error: str = ""
    irrevocable: int = 0

    @property
    def own(self) -> bool:
        """Whether it is the lease of the token itself, and not of something that the token holds."""
        return self.kind == OWN


class Barrier(msgspec.Struct, frozen=True, kw_only=True):
    """All that was issued below a prefix until a moment is out of force.

    The row key is the prefix, which ends in '/'; with the name of a user or role behind it, in `barriers.key_of`'s
    form, what that one got there.

    Args:
        at: seconds since the epoch, of what was issued last.
        pending: 1 while rows below it may still be there.
        keep_until: until then tokens that have no row may be presented.
    """

    at: float
    keep_until: float
    pending: int = 1
