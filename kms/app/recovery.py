"""`keystead recover`: the parts of a server whose HSM is lost, put together without starting it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kms.app.database import instance_of, prepare_database
from kms.app.holdings import named
from kms.app.process import build
from kms.audit.epochs import log_summary
from kms.clock import Clock
from kms.config import Config
from kms.errors import invalid
from kms.hsm.profiles import configured
from kms.keys.keyring import TERMS, Keyring, open_keyring
from kms.keys.lost import Losses, bound_versions, lost_ids, open_knowing
from kms.keys.roots import Roots
from kms.shared import Shared
from kms.storage import FILE_NAME, RowSealer, SqliteStore
from kms.system.recover import Recoverer
from kms.system.token import TokenHolder
from pki.lost import lose, lost_authorities


def recover_server(config: Config, clock: Clock, shares: Callable[[], Sequence[str]]) -> dict[str, Any]:
    """`keystead recover`: a restored server under a new token. The caller holds the server's lock.

    Returns:
        What was done and what is lost, by name.

    Raises:
        KmsError: see `Recoverer.run`.
    """
    if not (config.data.storage / FILE_NAME).exists():
        raise invalid(f"{config.data.storage} holds no database; restore the backup into it first")
    prepare_database(config, clock)
    store = SqliteStore.open(config.data.storage / FILE_NAME)
    token = TokenHolder(lambda: open_knowing(configured(config.hsm), clock, Losses(store)))

    def unlock(instance_id: str, keyring: Keyring) -> None:
        store.unlock(RowSealer(instance_id, keyring.keys, ended=keyring.ended))

    roots = Roots(store, token.get, clock)
    try:
        recoverer = Recoverer(store, token.get, roots, clock, config.data.audit, unlock, lose)
        recovered = recoverer.run(shares)
        if not store.unlocked:
            instance = instance_of(store)
            unlock(instance.id, open_keyring(token.get(), instance.id, store.reader()))
        info = token.get().info
        report = {"recovered": recovered, "token": {"label": info.label, "serial": info.serial}}
        report |= _losses(store)
    finally:
        token.close()
        store.close()
    app = build(config, Shared(), clock, "start")  # it writes what is due to the new log
    try:
        app.log_keeper.step()
    finally:
        app.close()
    return report | {"log": log_summary(config.data.audit)}


def _losses(store: SqliteStore) -> dict[str, Any]:
    """What went with a lost HSM, by name."""
    reader = store.reader()
    return {
        "epoch": instance_of(store).epoch,
        "terms": reader.count(TERMS, {}),
        **named(reader, bound_versions(reader, lost_ids(reader)), lost_authorities(reader)),
    }
