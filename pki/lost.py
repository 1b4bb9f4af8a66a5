"""CA keys that went with their HSM: they sign nothing any more, and their certificates stay for the record."""

from __future__ import annotations

from collections.abc import Container

import msgspec

from kms.tables import Reader, Transaction
from pki.model import CaKey, KeyState, Protection
from pki.store import ISSUERS, KEYS


class LostAuthority(msgspec.Struct, frozen=True, kw_only=True):
    """A CA key and what it signed for. `issuers` are names, or ids where there is none."""

    mount_id: str
    key_id: str
    key_name: str
    issuers: tuple[str, ...]


def lose(tx: Transaction, kept: Container[str] = ()) -> None:
    """Every CA key of protection hsm was in the HSM that is lost, but for those with a CKA_ID (hex) that is kept.

    In the caller's transaction.
    """
    for row in tx.scan(KEYS):
        if _held(row.value) and row.value.cka_id.hex() not in kept:
            tx.replace(KEYS, row, msgspec.structs.replace(row.value, state=KeyState.LOST))


def bound_authorities(reader: Reader, ids: Container[str]) -> list[LostAuthority]:
    """Those whose key is one of these objects (hex CKA_IDs) of an HSM."""
    return [
        _describe(reader, row.key, row.value)
        for row in reader.scan(KEYS)
        if _held(row.value) and row.value.cka_id.hex() in ids
    ]


def _held(key: CaKey) -> bool:
    return key.state == KeyState.ACTIVE and key.protection == Protection.HSM


def lost_authorities(reader: Reader) -> list[LostAuthority]:
    """By mount and name."""
    rows = reader.find(KEYS, {"state": KeyState.LOST})
    return [_describe(reader, row.key, row.value) for row in rows if not row.value.responds]


def _describe(reader: Reader, row_key: str, key: CaKey) -> LostAuthority:
    mount_id = row_key.partition("/")[0]
    signed = [row.value for row in reader.scan(ISSUERS, f"{mount_id}/") if row.value.key_id == key.id]
    return LostAuthority(
        mount_id=mount_id,
        key_id=key.id,
        key_name=key.name,
        issuers=tuple(issuer.name or issuer.id for issuer in signed),
    )
