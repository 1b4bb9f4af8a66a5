"""Rows of quotas."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from kms.operation import NamespaceRef
from kms.tables import Table, Transaction

SETTINGS: Final = "config"
"""Row key of the settings."""
EXEMPT: Final = (
    "sys/generate-recovery-token/attempt",
    "sys/generate-recovery-token/update",
    "sys/generate-root/attempt",
    "sys/generate-root/update",
    "sys/health",
    "sys/seal-status",
    "sys/unseal",
)
"""Paths that no quota counts, until somebody says otherwise."""


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """One rule. The row key is its name.

    Args:
        path: "" for all; a mount, with a slash at its end; a path below one; or the beginning of paths, before a `*`.
        role: of an auth mount; logins under it only.
        rate: requests of one client in an interval; a broken one counts as the next whole number.
        interval: seconds.
        block_interval: seconds for which a client that asked too often is refused; 0 for the rest of the interval.
        inheritable: whether it holds below the namespace it is for.
    """

    path: str
    role: str
    rate: float
    interval: int
    block_interval: int
    inheritable: bool


class QuotaSettings(msgspec.Struct, frozen=True, kw_only=True):
    """For all rules.

    Args:
        exempt: paths that no rule counts.
        headers: answers say what is left.
        audit: as asked for; refusals are on record either way, the first few of a client in full.
    """

    exempt: tuple[str, ...] = EXEMPT
    headers: bool = False
    audit: bool = False


def limits(tx: Transaction, namespace: NamespaceRef, limit: int) -> int:
    """Remove rules for a namespace and what is in it, when it is removed; how many it were."""
    rows = [row for row in tx.scan(QUOTAS) if row.value.path.startswith(namespace.path)][:limit]
    for row in rows:
        tx.delete(QUOTAS, row)
    return len(rows)


QUOTAS = Table("rate-quota", "rate_quotas", Quota, cached=True, digest="system")
QUOTA_SETTINGS = Table("quota-settings", "quota_settings", QuotaSettings, cached=True, digest="system")
TABLES: tuple[Table[Any], ...] = (QUOTAS, QUOTA_SETTINGS)
