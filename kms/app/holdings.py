"""What is bound to which HSM token, by name."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from kms.app.database import instance_of
from kms.clock import Clock
from kms.config import Config
from kms.identity.oidc.signing import MOUNT as OIDC_KEYS
from kms.keys.joint import in_each, shared_roots, sharing
from kms.keys.keyring import open_keyring
from kms.keys.lost import Losses, LostVersion, bound_versions
from kms.keys.removal import Elsewhere
from kms.keys.store import NAMED_KEYS
from kms.keys.tokens import enrolled, open_tokens
from kms.storage import FILE_NAME, RowSealer, SqliteStore
from kms.system.choices import strange_token
from kms.system.mounts import MOUNTS
from kms.tables import Reader
from pki.lost import LostAuthority, bound_authorities


def named(
    reader: Reader, keys: Iterable[LostVersion], authorities: Iterable[LostAuthority]
) -> dict[str, list[dict[str, Any]]]:
    """Key versions and CA keys, with the paths of their mounts."""
    mounts = {row.value.id: row.key for row in reader.scan(MOUNTS)} | {OIDC_KEYS: "identity/oidc/"}

    def shown(found: Iterable[LostVersion | LostAuthority]) -> list[dict[str, Any]]:
        rows = [msgspec.structs.asdict(one) for one in found]
        placed = [{"mount": mounts.get(row.pop("mount_id"), "(removed)"), **row} for row in rows]
        return sorted(placed, key=lambda row: [str(value).zfill(8) for value in row.values()])

    return {"keys": shown(keys), "authorities": shown(authorities)}


def bound(reader: Reader, ids: Container[str]) -> dict[str, list[dict[str, Any]]]:
    """What is bound to one of these objects (hex CKA_IDs)."""
    return named(reader, bound_versions(reader, ids), bound_authorities(reader, ids))


@dataclass(frozen=True)
class Alone:
    """What exists in one token only.

    Args:
        answers: whether the token does; of one that does not, it is what no other holds.
        keys: "mount/name, version n".
        authorities: "mount/name".
    """

    token: str
    answers: bool
    keys: tuple[str, ...]
    authorities: tuple[str, ...]


@dataclass(frozen=True)
class Sharing:
    """What is in several tokens.

    Args:
        tokens: those that share the wrapping roots of today.
        missing: those with keys of their own that do not.
        keys: "mount/name" of keys with multi_token whose newest version a serving token does not have.
    """

    tokens: tuple[str, ...]
    missing: tuple[str, ...]
    keys: tuple[str, ...]


def alone(config: Config, clock: Clock) -> tuple[list[Alone], Sharing | None]:
    """For each enrolled token, what would be lost with it, and what they share. Opens the keyring; nothing is written.

    Returns:
        Nothing where there is one token only.

    Raises:
        KmsError: the database or no token can be opened.
    """
    store = SqliteStore.open(config.data.storage / FILE_NAME)
    try:
        names = sorted(enrolled(store.reader()))
        if len(names) < 2:
            return [], None
        instance = instance_of(store)
        hsm = open_tokens(config.hsm, clock, store, Losses(store), lambda: strange_token(instance))
        try:
            keyring = open_keyring(hsm, instance.id, store.reader())
            store.unlock(RowSealer(instance.id, keyring.keys, ended=keyring.ended))
            away = hsm.away()
            held = {
                name: frozenset(cka_id.hex() for cka_id, _ in hsm.at(name).objects(""))
                for name in names
                if name not in away
            }
        finally:
            hsm.close()
        reader = store.reader()
        return [_alone(reader, name, held) for name in names], _sharing(reader)
    finally:
        store.close()


def _alone(reader: Reader, name: str, held: dict[str, frozenset[str]]) -> Alone:
    others = frozenset(cka_id for other, ids in held.items() if other != name for cka_id in ids)
    ids: Container[str] = held[name] - others if name in held else Elsewhere(others)
    found = bound(reader, ids)
    return Alone(
        name,
        name in held,
        tuple(f"{row['mount']}{row['name']} version {row['version']}" for row in found["keys"]),
        tuple(f"{row['mount']}{row['key_name'] or row['key_id']}" for row in found["authorities"]),
    )


def _sharing(reader: Reader) -> Sharing | None:
    own = sharing(reader)
    if len(own) < 2:
        return None
    today = shared_roots(reader)
    mounts = {row.value.id: row.key for row in reader.scan(MOUNTS)}
    behind = [
        f"{mounts.get(key.mount, '(removed)')}{key.name}"
        for key in (row.value for row in reader.scan(NAMED_KEYS))
        if key.multi_token and not in_each(reader, key, own)
    ]
    return Sharing(tuple(today["tokens"]), tuple(today["not_in"]), tuple(sorted(behind)))
