"""sys/ beyond seal, mounts and policies: built here so that the composition root stays readable."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from kms.clock import Clock
from kms.config import Config
from kms.identity.entities.model import ENTITIES
from kms.identity.store import TOKENS
from kms.keys import KeyService
from kms.leases.desk import LeaseDesk
from kms.operation import Operation
from kms.policy import PolicyService
from kms.shared import Shared
from kms.storage import SqliteStore
from kms.system.auditing import AuditHandlers
from kms.system.crossorigin import CrossOrigin
from kms.system.facts import FactHandlers
from kms.system.loggers import loggers
from kms.system.mounts import MountTable
from kms.system.remount import RemountHandlers
from kms.system.resultant import ResultantHandlers
from kms.system.settings_operations import SettingsHandlers
from kms.system.state import ServerState
from kms.system.tools import tools


class Parts(Protocol):
    """What is built already."""

    config: Config
    shared: Shared
    clock: Clock
    store: SqliteStore
    state: ServerState
    mounts: MountTable
    policies: PolicyService
    keys: KeyService
    leases: LeaseDesk


class SystemParts:
    """Its parts in one process.

    Args:
        engines: names of the secrets engines.
        methods: names of the auth methods.
    """

    def __init__(self, app: Parts, engines: Iterable[str], methods: Iterable[str]) -> None:
        self.cross_origin = CrossOrigin(app.store, lambda: app.state.serving)
        plugins = {"auth": tuple(methods), "secret": tuple(engines), "database": ()}
        counts = {
            "tokens": lambda: app.store.reader().count(TOKENS, {}),
            "entities": lambda: app.store.reader().count(ENTITIES, {}),
        }
        facts = FactHandlers(app.store, app.config, app.clock, app.shared.inflight, plugins, counts)
        self._tables = [
            SettingsHandlers(app.store, self.cross_origin).table(),
            facts.table(),
            RemountHandlers(app.store, app.clock, app.leases.end_mount).table(),
            ResultantHandlers(app.policies).table(),
            tools(app.keys),
            loggers(),
            AuditHandlers(app.config.data.audit).table(),
        ]

    def tables(self) -> Sequence[Sequence[Operation]]:
        """Their operations."""
        return self._tables
