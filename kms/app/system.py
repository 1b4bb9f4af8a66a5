"""sys/ beyond seal, mounts and policies: built here so that the composition root stays readable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from kms.app.blocked import blocklist
from kms.app.engines import Engine
from kms.app.methods import Method
from kms.app.specs import specs
from kms.clock import Clock
from kms.config import Config
from kms.devices import AUDIT_DEVICES, Devices
from kms.devices.entries import Kept
from kms.devices.making import Maker
from kms.http.vault.route import Route
from kms.identity import TokenService
from kms.identity.entities.model import ENTITIES
from kms.identity.store import TOKENS
from kms.identity.within import Within
from kms.keys import KeyService
from kms.leases.desk import LeaseDesk
from kms.namespaces import NamespaceTable
from kms.operation import NamespaceRef, Operation, Principal
from kms.policy import PolicyService
from kms.registry import Registry
from kms.shared import Shared
from kms.storage import SqliteStore
from kms.system.auditing import AuditHandlers
from kms.system.crossorigin import CrossOrigin
from kms.system.facts import FactHandlers
from kms.system.inspecting import inspecting
from kms.system.loggers import loggers
from kms.system.monitor import MonitorHandlers
from kms.system.mounts import MountTable
from kms.system.reload import ReloadHandlers
from kms.system.remount import RemountHandlers
from kms.system.resultant import ResultantHandlers
from kms.system.settings import TABLES as SETTINGS_TABLES
from kms.system.settings_operations import SettingsHandlers
from kms.system.state import ServerState
from kms.system.tools import tools
from kms.tlsfiles import check_tls

TABLES = (*SETTINGS_TABLES, AUDIT_DEVICES)
"""Those that hold settings."""


class Parts(Protocol):
    """What is built already."""

    config: Config
    shared: Shared
    clock: Clock
    store: SqliteStore
    state: ServerState
    mounts: MountTable
    namespaces: NamespaceTable
    policies: PolicyService
    keys: KeyService
    leases: LeaseDesk
    tokens: TokenService
    routes: Mapping[str, tuple[Route, ...]]
    registry: Registry
    engines: tuple[Engine, ...]
    methods: tuple[Method, ...]

    @property
    def role(self) -> str: ...


class SystemParts:
    """Its parts in one process."""

    def __init__(self, app: Parts) -> None:
        self.cross_origin = CrossOrigin(app.store, lambda: app.state.serving)
        maker = Maker(app.config.audit_devices)

        def kept(path: str) -> Kept:
            row = app.mounts.rows().get(path)
            if row is None:
                return Kept()
            return Kept(row.value.audit_non_hmac_request_keys, row.value.audit_non_hmac_response_keys)

        self.devices = Devices(app.store, maker, app.clock, lambda: app.state.serving, kept)
        plugins = {
            "auth": tuple(method.name for method in app.methods),
            "secret": tuple(engine.name for engine in app.engines),
            "database": (),
        }
        counts = {
            "tokens": lambda here: _tokens(app, here),
            "entities": lambda here: _entities(app, here),
        }
        facts = FactHandlers(app.store, app.config, app.clock, app.shared.inflight, plugins, counts)

        def stands(principal: Principal) -> bool:
            app.store.refresh()  # what another process has ended; requests do it, and this is none
            return app.tokens.stands(principal)

        self._tables = [
            SettingsHandlers(app.store, self.cross_origin).table(),
            facts.table(),
            RemountHandlers(app.store, app.clock, app.leases.end_mount).table(),
            ResultantHandlers(app.policies).table(),
            inspecting(app.mounts, app.namespaces),
            tools(app.keys),
            loggers(),
            MonitorHandlers(app.clock, stands).table(),
            self._reload(app).table(),
            specs(app, app.tokens.authenticate),
            AuditHandlers(app.store, self.devices).table(),
        ]

    @staticmethod
    def _reload(app: Parts) -> ReloadHandlers:
        def blocked() -> None:
            blocklist(app.config.pki.blocklist)

        checks = {"tls": lambda: check_tls(app.config), "blocklist": blocked, "audit": lambda: None}
        # Of the others nobody looks at the page, or nobody is to be replaced.
        return ReloadHandlers(checks, app.shared.ask_reload if app.role == "worker" else None)

    def tables(self) -> Sequence[Sequence[Operation]]:
        """Their operations."""
        return self._tables


def _entities(app: Parts, namespace: NamespaceRef) -> int:
    """The same of entities; their keys alone are counted."""
    reader = app.store.reader()
    return len(Within(reader, namespace).keys(ENTITIES)) if namespace.id else reader.count(ENTITIES, {})


def _tokens(app: Parts, namespace: NamespaceRef) -> int:
    """The root namespace is told of all, which an index counts; another one of its own."""
    return len(app.tokens.accessors(namespace)) if namespace.id else app.store.reader().count(TOKENS, {})
