"""Rows of ACME. Keys begin with the mount's id; accounts, their keys and bindings also with their directory."""

from __future__ import annotations

import hashlib
from typing import Any

from kms.tables import Table
from pki.acme.model import (
    Account,
    AccountKey,
    AcmeConfig,
    Authorization,
    Binding,
    Mark,
    Order,
    Replacement,
    Tally,
)

_DOMAIN = "pki"  # an old account or configuration that is put back is found by the sweep

CONFIG = Table(tag="acme.config", name="acme_config", model=AcmeConfig, cached=True, digest=_DOMAIN)  # mount
ACCOUNTS = Table(tag="acme.account", name="acme_accounts", model=Account, digest=_DOMAIN)  # mount/id
ACCOUNT_KEYS = Table(
    tag="acme.account-key", name="acme_account_keys", model=AccountKey, digest=_DOMAIN
)  # mount/directory/thumbprint
BINDINGS = Table(
    tag="acme.binding", name="acme_bindings", model=Binding, index=("delete_after",), digest=_DOMAIN
)  # mount/id
ORDERS = Table(
    tag="acme.order",
    name="acme_orders",
    model=Order,
    index=("mount_id", "account_id", "serial", "delete_after"),
)  # mount/id
AUTHORIZATIONS = Table(
    tag="acme.authorization",
    name="acme_authorizations",
    model=Authorization,
    index=("account_id", "status", "queue", "next_at", "expires_at", "free_for"),
)  # mount/id
REPLACEMENTS = Table(
    tag="acme.replacement", name="acme_replacements", model=Replacement, index=("delete_after",)
)  # mount/certificate
NONCES = Table(tag="acme.nonce", name="acme_nonces", model=Mark, index=("delete_after",))  # nonce
TALLIES = Table(
    tag="acme.tally", name="acme_tallies", model=Tally, index=("delete_after",)
)  # mount/kind/subject

TABLES: tuple[Table[Any], ...] = (CONFIG, ACCOUNTS, ACCOUNT_KEYS, BINDINGS)
"""Those whose state digests the sweep compares."""
OTHERS: tuple[Table[Any], ...] = (ORDERS, AUTHORIZATIONS, REPLACEMENTS, NONCES, TALLIES)


def key_row(mount_id: str, directory: str, thumbprint: str) -> str:
    """The key of an account's key. Directories contain '/', so they stand in it as a digest."""
    return f"{mount_id}/{hashlib.sha256(directory.encode()).hexdigest()}/{thumbprint}"
