"""What the server tells of itself: host, versions, plugins, configuration, counts, requests under way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from kms import __version__
from kms.clock import Clock, rfc3339
from kms.config import Config
from kms.errors import ErrorKind, KmsError, not_found
from kms.inflight import InFlight
from kms.operation import Call, Capability, Field, NamespaceRef, Operation, Record, Result
from kms.system.host import host_info
from kms.system.sealing import API_VERSION
from kms.system.settings import VERSIONS, Version
from kms.tables import Store, Transaction

PLUGIN_VERSION: Final = "v1.0.0+builtin"


def note_version(tx: Transaction, now: float) -> None:
    """Remember that this version of the program was started on this database."""
    rows = tx.scan(VERSIONS)
    if not any(row.key == __version__ for row in rows):
        newest = max(rows, key=lambda row: row.value.installed, default=None)
        tx.insert(
            VERSIONS, __version__, Version(installed=now, previous=newest.key if newest is not None else "")
        )


class FactHandlers:
    """Handlers. One per process, safe to use from several threads.

    Args:
        plugins: type of plugin ("auth", "secret") -> names.
        counts: name under sys/internal/counters -> the number now, in a namespace.
    """

    def __init__(
        self,
        store: Store,
        config: Config,
        clock: Clock,
        inflight: InFlight,
        plugins: Mapping[str, tuple[str, ...]],
        counts: Mapping[str, Callable[[NamespaceRef], int]],
    ) -> None:
        self._store = store
        self._config = config
        self._clock = clock
        self._inflight = inflight
        self._plugins = {kind: tuple(sorted(names)) for kind, names in plugins.items()}
        self._counts = counts

    def host(self, _call: Call) -> Result:
        return Result(host_info(self._clock))

    def in_flight(self, _call: Call) -> Result:
        return Result(
            {
                one.request_id: {
                    "start_time": rfc3339(one.started),
                    "client_remote_address": one.peer,
                    "request_path": one.path,
                    "request_method": one.method,
                    "client_id": "",
                }
                for one in self._inflight.running()
            }
        )

    def versions(self, _call: Call) -> Result:
        rows = sorted(self._store.reader().scan(VERSIONS), key=lambda row: row.value.installed)
        return Result(
            {
                "keys": [row.key for row in rows],
                "key_info": {
                    row.key: {
                        "previous_version": row.value.previous or None,
                        "timestamp_installed": rfc3339(row.value.installed),
                        "api_version": API_VERSION,
                    }
                    for row in rows
                },
            }
        )

    def nodes(self, _call: Call) -> Result:
        node = {
            "hostname": host_info(self._clock)["host"]["hostname"],
            "api_address": self._config.url,
            "cluster_address": "",
            "active_node": True,
            "last_echo": None,
            "version": API_VERSION,
        }
        return Result({"nodes": [node]})

    # -- plugins: what is built in, and nothing else ------------------------------------------------

    def plugins(self, _call: Call) -> Result:
        detailed = [
            {
                "builtin": True,
                "deprecation_status": "supported",
                "name": name,
                "type": kind,
                "version": PLUGIN_VERSION,
            }
            for kind in sorted(self._plugins)
            for name in self._plugins[kind]
        ]
        return Result({kind: list(names) for kind, names in self._plugins.items()} | {"detailed": detailed})

    def plugins_of(self, call: Call) -> Result:
        kind = call.args["type"]
        if kind not in self._plugins:
            raise KmsError(ErrorKind.UNSUPPORTED, "unsupported operation")
        return Result({"keys": list(self._plugins[kind])})

    def plugin(self, call: Call) -> Result:
        kind, name = call.args["type"], call.args["name"]
        if name not in self._plugins.get(kind, ()):
            raise not_found()
        return Result(
            {
                "args": None,
                "builtin": True,
                "command": "",
                "declarative": False,
                "deprecation_status": "supported",
                "name": name,
                "oci": False,
                "sha256": "",
                "version": PLUGIN_VERSION,
            }
        )

    def plugin_of_any_type(self, call: Call) -> Result:
        """The path of old, which names no type: the peer answers for every name alike."""
        if call.args["name"] in self._plugins:
            raise KmsError(ErrorKind.UNSUPPORTED, "unsupported operation")
        told = "Deprecated API endpoint, cannot read plugin information from catalog for"
        return Result(warnings=(f'{told} "{call.args["name"]}"',))

    # -- configuration and counts -------------------------------------------------------------------

    def configuration(self, _call: Call) -> Result:
        """What the operator's file says. Names of files and no content of one: secrets are never in it."""
        config = self._config
        listener = {"address": config.listen, "tls_disable": config.tls is None}
        listeners = [{"type": "tcp", "config": listener}]
        if config.documents is not None:
            plain = {"address": config.documents.listen, "tls_disable": True, "documents_only": True}
            listeners.append({"type": "tcp", "config": plain})
        return Result(
            {
                "api_addr": config.url,
                "cluster_addr": "",
                "default_lease_ttl": 0,
                "max_lease_ttl": 0,
                "listeners": listeners,
                "log_format": "json",
                "log_level": "info",
                "raw_storage_endpoint": False,
                "introspection_endpoint": False,
                "unsafe_allow_api_audit_creation": False,
                "seals": [
                    {"disabled": False, "type": "pkcs11", "name": token.title} for token in config.hsm.tokens
                ],
                "storage": {"type": "sqlite", "disable_clustering": True},
                "recovery": config.recovery,
                "workers": config.workers,
                "limits": msgspec.to_builtins(config.limits),
                "keys": msgspec.to_builtins(config.keys),
                "acme": msgspec.to_builtins(config.acme),
                "proxy": None if config.proxy is None else {"trusted": list(config.proxy.trusted)},
            }
        )

    def tokens(self, call: Call) -> Result:
        return Result({"counters": {"service_tokens": {"total": self._counts["tokens"](call.namespace)}}})

    def entities(self, call: Call) -> Result:
        return Result({"counters": {"entities": {"total": self._counts["entities"](call.namespace)}}})

    def requests(self, _call: Call) -> Result:
        raise not_found("The functionality has been removed on this path")

    def table(self) -> list[Operation]:
        """The operations."""
        kind, name = Field("type", record=Record.CLEAR), Field("name", record=Record.CLEAR)
        read, listing = Capability.READ, Capability.LIST
        return [
            Operation("sys.host_info", read, self.host),
            Operation("sys.in_flight", read, self.in_flight),
            Operation("sys.ha_status", read, self.nodes),
            Operation("sys.version_history", listing, self.versions),
            Operation("sys.plugins.catalog", read, self.plugins),
            Operation("sys.plugins.list", listing, self.plugins_of, sudo=True, fields=(kind,)),
            Operation("sys.plugins.read", read, self.plugin, sudo=True, fields=(kind, name)),
            Operation("sys.plugins.read_untyped", read, self.plugin_of_any_type, sudo=True, fields=(name,)),
            Operation("sys.config.state", read, self.configuration),
            Operation("sys.internal.counters.tokens", read, self.tokens),
            Operation("sys.internal.counters.entities", read, self.entities),
            Operation("sys.internal.counters.requests", read, self.requests),
        ]


__all__ = ["FactHandlers", "note_version"]
