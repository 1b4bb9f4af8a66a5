"""What a namespace leaves behind in the identity tables, to be removed with it (`kms.system.namespaces.Remains`).

Nothing of it is in force any more when this runs: the namespace's tokens died with the deletion, and no request enters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from kms.identity.entities.model import TABLES as ENTITY_TABLES
from kms.identity.mfa.store import ENFORCEMENTS, METHODS, SECRETS, WAITING
from kms.identity.oidc.model import CODES, KEYS
from kms.identity.oidc.model import TABLES as OIDC_TABLES
from kms.identity.within import Writing
from kms.operation import NamespaceRef
from kms.tables import Table, Transaction

NAMED: tuple[Table[Any], ...] = (
    *ENTITY_TABLES,
    *(table for table in OIDC_TABLES if table is not KEYS),
    CODES,
    ENFORCEMENTS,
    WAITING,
)
"""Tables whose rows go as they are, by their keys."""


def factors(tx: Transaction, namespace: NamespaceRef, limit: int) -> int:
    """Methods of login MFA, and the secrets of the namespace's entities with the methods of those above."""
    ends = f".{namespace.id}"
    secrets = [key for key in tx.keys(SECRETS) if key.endswith(ends)][:limit]
    for key in secrets:
        row = tx.get(SECRETS, key)
        if row is not None:
            tx.delete(SECRETS, row)
    methods = [row for row in tx.scan(METHODS) if row.value.namespace == namespace.id]
    for method in methods[: limit - len(secrets)]:
        tx.delete(METHODS, method)
    return min(limit, len(secrets) + len(methods))


class _Remains(Protocol):
    def __call__(self, tx: Transaction, namespace: NamespaceRef, limit: int) -> int: ...


def signing_keys(retire: Callable[[Transaction, str], None]) -> _Remains:
    """Named keys of identity tokens, with the end of the signing keys that they name.

    Args:
        retire: ends the signing key with this name.
    """

    def remove(tx: Transaction, namespace: NamespaceRef, limit: int) -> int:
        own = Writing(tx, namespace)
        rows = own.scan(KEYS, limit=limit)
        for row in rows:
            for entry in row.value.ring:
                retire(tx, entry.kid)
            own.delete(KEYS, row)
        return len(rows)

    return remove
