"""Helpers that several suites share: a real database file with a throw-away keyring."""

from __future__ import annotations

import secrets
from pathlib import Path

from kms.sensitive import Sensitive
from kms.storage import RowSealer, SqliteStore, prepare


def make_sealer(instance: str = "test-instance") -> RowSealer:
    """A sealer with random terms 0 (derivation) and 1."""
    return RowSealer(instance, {term: Sensitive(secrets.token_bytes(32)) for term in (0, 1)})


def make_store(folder: Path, sealer: RowSealer | None = None) -> SqliteStore:
    """A migrated, unlocked SqliteStore in `folder`; give the same sealer to open it again."""
    store = SqliteStore.open(prepare(folder))
    store.unlock(sealer or make_sealer())
    return store
