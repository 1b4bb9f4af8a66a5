"""The database before anything is built on it: its schema, and the instance's name."""

from __future__ import annotations

from kms.clock import Clock
from kms.config import Config
from kms.errors import ErrorKind, KmsError
from kms.ids import new_id, new_uuid
from kms.storage import SqliteStore, prepare
from kms.system.facts import note_version
from kms.system.instance import Instance, insert_instance, read_instance


def prepare_database(config: Config, clock: Clock) -> None:
    """What must happen once, before any worker: the database's schema and the instance's name."""
    store = SqliteStore.open(prepare(config.data.storage))
    try:
        with store.transaction() as tx:
            if read_instance(tx) is None:
                name = f"keystead-{new_id()[:8]}"
                insert_instance(tx, Instance(id=new_uuid(), cluster_name=name, created=clock.now()))
            note_version(tx, clock.now())
    finally:
        store.close()


def instance_of(store: SqliteStore) -> Instance:
    """The instance that this database belongs to."""
    row = read_instance(store.reader())
    if row is None:
        raise KmsError(ErrorKind.STORAGE_UNAVAILABLE, "the database was not prepared; run 'keystead serve'")
    return row.value
