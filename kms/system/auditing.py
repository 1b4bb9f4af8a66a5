"""sys/audit: devices, enabled and disabled, and the HMACs that they write."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from kms.devices import AUDIT_DEVICES, AuditDevice, Devices
from kms.devices.entries import Writer, digest
from kms.devices.model import TYPES
from kms.errors import KmsError, invalid
from kms.operation import (
    Call,
    Capability,
    Change,
    Effect,
    External,
    Field,
    Operation,
    Record,
    Result,
    Type,
)
from kms.system.mounts import canonical_path
from kms.tables import Store, Transaction

MAX_DEVICES = 16


class AuditHandlers:
    """Handlers. One per process, safe to use from several threads.

    The tamper-evident log is not among the devices: it is always written and cannot be disabled.
    """

    def __init__(self, store: Store, devices: Devices) -> None:
        self._store = store
        self._devices = devices

    def listing(self, _call: Call) -> Result:
        rows = self._store.reader().scan(AUDIT_DEVICES)
        return Result(
            {
                row.key: {
                    "type": row.value.type,
                    "description": row.value.description,
                    "local": row.value.local,
                    "options": row.value.options,
                    "path": row.key,
                }
                for row in rows
            }
        )

    def enable(self, call: Call) -> External[None]:
        """Check, write a test line to where the device is to write, and only then keep it."""
        path, kind = canonical_path(call.args["path"]), call.args["type"] or ""
        self._refuse_taken(self._store.reader().keys(AUDIT_DEVICES), path)
        if kind not in TYPES:
            raise invalid(f'unknown backend type: "{kind}"')
        options = _options(call.args["options"] or {})
        form = self._devices.maker.form(options)
        sink = self._devices.maker.sink(kind, options)
        device = AuditDevice(
            type=kind,
            description=call.args["description"] or "",
            options=options,
            local=bool(call.args["local"]),
            key=secrets.token_bytes(32),
        )

        def perform() -> None:
            try:
                sink.send(Writer(device.key, form).test(call.request_id, call.now))
            except OSError as error:
                raise invalid(f"audit backend failed test message: {error}") from None
            finally:
                sink.close()

        def conclude(tx: Transaction, _done: None) -> Result:
            self._refuse_taken(tx.keys(AUDIT_DEVICES), path)
            tx.insert(AUDIT_DEVICES, path, device)
            return Result(subject={"device": path, "type": kind})

        return External(
            {"device": path, "type": kind},
            begin=lambda _tx: None,
            perform=perform,
            conclude=conclude,
            abandon=lambda _tx, _error: None,
        )

    @staticmethod
    def _refuse_taken(keys: list[str], path: str) -> None:
        if any(key.startswith(path) or path.startswith(key) for key in keys):
            raise invalid("path already in use")
        if len(keys) >= MAX_DEVICES:
            raise invalid(f"at most {MAX_DEVICES} audit devices; disable one")

    def disable(self, call: Call) -> Change:
        path = canonical_path(call.args["path"])

        def write(tx: Transaction) -> Result:
            row = tx.get(AUDIT_DEVICES, path)
            if row is not None:
                tx.delete(AUDIT_DEVICES, row)
            return Result(subject={"device": path, "removed": int(row is not None)})

        return Change(write)

    def hash(self, call: Call) -> Result:
        path = canonical_path(call.args["path"])
        if not call.args["input"]:
            raise invalid('the "input" parameter is empty')
        row = self._store.reader().get(AUDIT_DEVICES, path)
        if row is None:
            raise invalid(f'unknown audit backend "{path}"')
        return Result({"hash": digest(row.value.key, call.args["input"])})

    def table(self) -> list[Operation]:
        """The operations."""
        path = Field("path", record=Record.CLEAR)
        return [
            Operation("sys.audit.list", Capability.READ, self.listing, sudo=True),
            Operation(
                "sys.audit.enable",
                Capability.UPDATE,
                self.enable,
                effect=Effect.EXTERNAL,
                sudo=True,
                # A test line may have been written; nothing else happened.
                resolve=_never_enabled,
                fields=(
                    path,
                    Field("type", record=Record.CLEAR),
                    Field("description", record=Record.CLEAR),
                    Field("options", Type.MAP),
                    Field("local", Type.BOOL),
                ),
            ),
            Operation(
                "sys.audit.disable",
                Capability.DELETE,
                self.disable,
                effect=Effect.STATE,
                sudo=True,
                fields=(path,),
            ),
            Operation("sys.audit.hash", Capability.UPDATE, self.hash, fields=(path, Field("input"))),
        ]


def _options(given: Mapping[str, Any]) -> dict[str, str]:
    options = {}
    for name, value in given.items():
        if isinstance(value, bool):
            options[str(name)] = "true" if value else "false"
        elif isinstance(value, str | int):
            options[str(name)] = str(value)
        else:
            raise _bad_option(str(name))
        if len(options[str(name)]) > 2048 or len(str(name)) > 64 or len(options) > 32:
            raise _bad_option(str(name)[:64])
    return options


def _bad_option(name: str) -> KmsError:
    return invalid(f"option {name!r} must be a short text, a number or a truth value")


def _never_enabled(_intent: object) -> External[None]:
    return External(
        {},
        begin=lambda _tx: None,
        perform=lambda: None,
        conclude=lambda _tx, _done: Result(partial=True),
        abandon=lambda _tx, _error: None,
    )
