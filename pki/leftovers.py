"""HSM objects that no row wants: from ceremonies that failed or were cut short.

At start every unfinished ceremony is undone: its key has signed nothing that anybody got. Later, the
background job destroys what a failing HSM made us leave behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from kms.ids import CkaId
from kms.operation import External, Result
from kms.tables import Store, T, Table, Transaction
from pki import ledger
from pki.hsmkey import CaToken
from pki.model import RETIRED_KEY_WAIT, CaKey, Certificate, CertificateState, KeyState
from pki.store import (
    CEL_ROLES,
    CERTIFICATES,
    CRL_MARKS,
    CRL_NUMBERS,
    CRL_SHARDS,
    ISSUERS,
    KEYS,
    MATERIAL,
    MOUNTS,
    PUBLIC_CRLS,
    PUBLIC_ISSUERS,
    RESPONDERS,
    ROLES,
    mount_config,
    put,
)


@dataclass(frozen=True)
class Leftovers:
    """One per process."""

    store: Store
    token: CaToken

    def resolve(self, intent: Mapping[str, str | int], now: int) -> External[bool] | None:
        """Undo a ceremony without an outcome. None when its key is in use (nothing to undo)."""
        mount_id, key_id = str(intent["mount"]), str(intent["key"])
        row = self.store.reader().get(KEYS, f"{mount_id}/{key_id}")
        in_use = row is not None and row.value.state == KeyState.ACTIVE
        if in_use and not self._unfinished(intent):
            return None
        cka_id = CkaId(bytes.fromhex(str(intent["cka_id"])))

        def conclude(tx: Transaction, destroyed: bool) -> Result:
            _forget(tx, mount_id, key_id)
            if "serial" in intent:
                root = Certificate(
                    mount_id=mount_id,
                    serial=str(intent["serial"]),
                    issuer_id=str(intent["issuer"]),
                    profile="root",
                    state=CertificateState.INTENT,
                    not_before=now,
                    not_after=now,
                )
                ledger.unissued(tx, root, now, signed=False)
            return Result(subject={**intent, "destroyed": int(destroyed)}, partial=True)

        def perform() -> bool:
            # A ceremony with a key that was there before it leaves that key alone.
            return False if in_use else self._destroy(cka_id)

        return External(intent, lambda _: None, perform, conclude, lambda _tx, _error: None)

    def _unfinished(self, intent: Mapping[str, str | int]) -> bool:
        """Whether a certificate was planned with a key that was there before, and never concluded."""
        key = f"{intent['mount']}/{intent.get('serial')}"
        row = self.store.reader().get(CERTIFICATES, key)
        return row is not None and row.value.state == CertificateState.INTENT

    def unwanted(self, now: int) -> list[tuple[str, CaKey]]:
        """(mount id, key) of keys that failed ceremonies left behind, or whose waiting time is over."""
        reader = self.store.reader()
        rows = reader.find(KEYS, {"state": KeyState.ABANDONED}) + reader.find(
            KEYS, {"state": KeyState.RETIRED}
        )
        return [(row.key.rpartition("/")[0], row.value) for row in rows if row.value.destroy_after <= now]

    def retire_mount(self, tx: Transaction, mount_id: str, now: int) -> int:
        """Take roles, issuers and documents away; keys wait for their destruction."""
        prefix = f"{mount_id}/"
        tables: tuple[Table[Any], ...] = (
            ROLES,
            CEL_ROLES,
            ISSUERS,
            PUBLIC_ISSUERS,
            PUBLIC_CRLS,
            CRL_NUMBERS,
            CRL_MARKS,
            CRL_SHARDS,
            RESPONDERS,
        )
        for table in tables:
            delete_all(tx, table, prefix)
        keys = tx.scan(KEYS, prefix)
        for row in keys:
            retire_key(tx, mount_id, row.value.id, now)
        delete_all(tx, MOUNTS, mount_id)
        return len(keys)

    def removal(self, mount_id: str, key: CaKey) -> External[bool]:
        """Destroy one of them and forget its row."""
        intent: dict[str, str | int] = {"mount": mount_id, "key": key.id, "cka_id": key.cka_id.hex()}

        def conclude(tx: Transaction, destroyed: bool) -> Result:
            _forget(tx, mount_id, key.id)
            return Result(subject={**intent, "destroyed": int(destroyed)})

        return External(
            intent,
            lambda _: None,
            lambda: self._destroy(CkaId(key.cka_id)),
            conclude,
            lambda _tx, _error: None,
        )

    def _destroy(self, cka_id: CkaId) -> bool:
        if not self.token.exists(cka_id):
            return False
        self.token.destroy(cka_id)
        return True


def retire_key(tx: Transaction, mount_id: str, key_id: str, now: int) -> None:
    """No longer usable; the object waits `RETIRED_KEY_WAIT` for its destruction."""
    row = tx.get(KEYS, f"{mount_id}/{key_id}")
    if row is not None and row.value.state != KeyState.RETIRED:
        retired = msgspec.structs.replace(
            row.value, state=KeyState.RETIRED, destroy_after=now + RETIRED_KEY_WAIT
        )
        tx.replace(KEYS, row, retired)
    config = mount_config(tx, mount_id)
    if config.default_key == key_id:
        put(tx, MOUNTS, mount_id, msgspec.structs.replace(config, default_key=""))


def delete_all(tx: Transaction, table: Table[T], prefix: str) -> None:
    """Delete every row whose key begins with `prefix`."""
    for row in tx.scan(table, prefix):
        tx.delete(table, row)


def _forget(tx: Transaction, mount_id: str, key_id: str) -> None:
    row = tx.get(KEYS, f"{mount_id}/{key_id}")
    if row is not None and row.value.state != KeyState.ACTIVE:
        tx.delete(KEYS, row)
        material = tx.get(MATERIAL, row.key)
        if material is not None:
            tx.delete(MATERIAL, material)
