"""sys/hsm/tokens: built here so that the composition root stays readable."""

from __future__ import annotations

from typing import Protocol

from kms.app.database import instance_of
from kms.app.holdings import bound
from kms.clock import Clock
from kms.config import Config
from kms.keys.copies import Copies
from kms.keys.enrolment import Enroller
from kms.keys.removal import Remover
from kms.storage import SqliteStore
from kms.system.token import TokenHolder
from kms.system.tokens import TokenHandlers
from pki.lost import lose


class Parts(Protocol):
    """What is built already."""

    config: Config
    clock: Clock
    store: SqliteStore
    token: TokenHolder
    instance_id: str


def hsm_tokens(app: Parts, enroller: Enroller) -> TokenHandlers:
    """The handlers of one process."""
    hsm, store = app.config.hsm, app.store
    remover = Remover(
        store,
        app.token.get,
        app.clock,
        epoch=lambda: instance_of(store).epoch,
        lose=lose,
        named=lambda ids: bound(store.reader(), ids),
    )
    copies = Copies(store, app.token.get, app.clock, hsm.title, lambda: app.instance_id)
    return TokenHandlers(store, app.token.get, enroller, copies, remover, hsm.tokens)
