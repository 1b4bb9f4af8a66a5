"""Forgetting what is over: spent nonces, finished orders and their authorizations, counts, unused bindings."""

from __future__ import annotations

from typing import Any

from kms.tables import Store, Table, Transaction
from pki.acme.model import DAY
from pki.acme.store import AUTHORIZATIONS, BINDINGS, NONCES, ORDERS, OTHERS, REPLACEMENTS, TABLES, TALLIES

BATCH = 500  # rows in one transaction: no request waits long for the lock
_DATED: tuple[Table[Any], ...] = (NONCES, TALLIES, REPLACEMENTS, BINDINGS, ORDERS)


def clean(store: Store, now: float) -> int:
    """Delete what has passed its time; returns how many rows."""
    gone = 0
    for table in _DATED:
        gone += _delete(store, table, "delete_after", now)
    # As long as an authorization is valid its account may revoke by it, and orders show it for a day more.
    return gone + _delete(store, AUTHORIZATIONS, "expires_at", now - DAY)


def _delete(store: Store, table: Table[Any], column: str, before: float) -> int:
    gone = 0
    while True:
        keys = [row.key for row in store.reader().find(table, {}, below=(column, before), limit=BATCH)]
        if not keys:
            return gone
        with store.transaction() as tx:
            for key in keys:
                row = tx.get(table, key)
                if row is not None:
                    tx.delete(table, row)
                    gone += 1


def retire_mount(tx: Transaction, mount_id: str) -> int:
    """A mount is being removed: all that it had of ACME goes with it. Returns how many accounts it had."""
    accounts = 0
    for table in (*TABLES, *OTHERS):
        for row in tx.scan(table, f"{mount_id}"):
            accounts += table.tag == "acme.account"
            tx.delete(table, row)
    return accounts
