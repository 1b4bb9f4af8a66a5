"""Rows of leases and revoked prefixes.

Leases are not among the state digests: there may be a million, and the sweep reads every row. A lease that somebody
deletes from the file is one that is not taken back early; nothing gets in by it.
"""

from __future__ import annotations

from kms.leases.model import Barrier, Lease
from kms.tables import Table

LEASES = Table("lease", "leases", Lease, index=("token", "expires_at", "irrevocable"))
BARRIERS = Table(
    "revoked-prefix", "revoked_prefixes", Barrier, index=("pending",), cached=True, digest="identity"
)
