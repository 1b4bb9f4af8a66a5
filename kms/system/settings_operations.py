"""sys/config/{cors,ui/headers,auditing/request-headers}: settings that are rows."""

from __future__ import annotations

import re
from typing import Any, Final

from kms.errors import KmsError, invalid, not_found
from kms.operation import Call, Capability, Change, Effect, Field, Operation, Record, Result, Type
from kms.system.crossorigin import CrossOrigin
from kms.system.settings import (
    AUDITED_HEADERS,
    CORS,
    CORS_KEY,
    UI_HEADERS,
    AuditedHeader,
    CorsSettings,
    UiHeader,
)
from kms.tables import Store, Table, Transaction

MAX_ITEMS: Final = 64
MAX_CHARACTERS: Final = 1024
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}\Z")
"""A field name of RFC 9110."""
_VALUE = re.compile(r"[\x20-\x7e]{0,1024}\Z")
_SECRET_HEADERS: Final = frozenset({"x-vault-token", "authorization", "cookie", "proxy-authorization"})


class SettingsHandlers:
    """Handlers over these rows. One per process, safe to use from several threads."""

    def __init__(self, store: Store, cross_origin: CrossOrigin) -> None:
        self._store = store
        self._cross_origin = cross_origin

    # -- cors ---------------------------------------------------------------------------------------

    def cors(self, _call: Call) -> Result:
        settings = self._cross_origin.settings()
        if settings is None:
            return Result({"enabled": False})
        return Result(
            {
                "enabled": True,
                "allowed_origins": list(settings.origins),
                "allowed_headers": list(self._cross_origin.headers()),
                "allow_credentials": False,
            }
        )

    def set_cors(self, call: Call) -> Change:
        origins = tuple(call.args["allowed_origins"] or ())
        headers = tuple(call.args["allowed_headers"] or ())
        if call.args["allow_credentials"]:
            raise invalid("allow_credentials is not available: no credential of a browser is ever looked at")
        if not origins:
            raise _peers_text("at least one origin or the wildcard must be provided")
        if "*" in origins and len(origins) > 1:
            raise _peers_text("to allow all origins the '*' must be the only value for allowed_origins")
        for origin in origins:
            if not origin or not _VALUE.match(origin) or " " in origin:
                raise invalid(
                    f"allowed_origins: {origin[:80]!r} is not an origin like https://app.example.test"
                )
        for name in headers:
            _check_header(name)
        _bound(origins + headers)
        return _put(CORS, CORS_KEY, CorsSettings(origins=origins, headers=headers))

    def unset_cors(self, _call: Call) -> Change:
        return _remove(CORS, CORS_KEY)

    # -- headers of the console ---------------------------------------------------------------------

    def ui_headers(self, _call: Call) -> Result:
        names = self._store.reader().keys(UI_HEADERS)
        if not names:
            raise not_found()
        return Result({"keys": names})

    def ui_header(self, call: Call) -> Result:
        row = self._store.reader().get(UI_HEADERS, _canonical(call.args["header"]))
        if row is None:
            raise not_found()
        values = list(row.value.values)
        return Result({"values": values} if call.args["multivalue"] else {"value": values[0]})

    def set_ui_header(self, call: Call) -> Change:
        name = call.args["header"]
        values = _values(call.args["values"])
        if not values:
            raise invalid("header and values must be specified")
        if name.lower().startswith("x-vault-"):
            raise invalid("X-Vault headers cannot be set")
        _check_header(name)
        for value in values:
            if not _VALUE.match(value):
                raise invalid("values of a header are printable ASCII of at most 1024 characters")
        _bound(values)
        return _put(UI_HEADERS, _canonical(name), UiHeader(values=values))

    def unset_ui_header(self, call: Call) -> Change:
        return _remove(UI_HEADERS, _canonical(call.args["header"]))

    # -- request headers that audit devices keep ------------------------------------------------------

    def audited_headers(self, _call: Call) -> Result:
        rows = self._store.reader().scan(AUDITED_HEADERS)
        return Result({"headers": {row.key: {"hmac": row.value.hmac} for row in rows}})

    def audited_header(self, call: Call) -> Result:
        name = call.args["header"].lower()
        row = self._store.reader().get(AUDITED_HEADERS, name)
        if row is None:
            raise invalid("Could not find header in config")
        return Result({name: {"hmac": row.value.hmac}})

    def set_audited_header(self, call: Call) -> Change:
        name = call.args["header"].lower()
        _check_header(name)
        # A credential in clear in an audit log is a credential for whoever reads the log.
        if name in _SECRET_HEADERS and not call.args["hmac"]:
            raise invalid(f"{name} holds a credential; set hmac=true")
        if self._store.reader().count(AUDITED_HEADERS, {}) >= MAX_ITEMS:
            raise invalid(f"at most {MAX_ITEMS} headers can be audited; delete some")
        return _put(AUDITED_HEADERS, name, AuditedHeader(hmac=bool(call.args["hmac"])))

    def unset_audited_header(self, call: Call) -> Change:
        return _remove(AUDITED_HEADERS, call.args["header"].lower())

    def table(self) -> list[Operation]:
        """The operations."""
        header = Field("header", record=Record.CLEAR)
        strings = Type.STRINGS
        cors = (
            Field("allowed_origins", strings, record=Record.CLEAR),
            Field("allowed_headers", strings, record=Record.CLEAR),
            Field("allow_credentials", Type.BOOL),
            Field("enable", Type.BOOL),
        )
        return [
            _read("sys.config.cors.read", self.cors),
            _change("sys.config.cors.write", Capability.UPDATE, self.set_cors, cors),
            _change("sys.config.cors.delete", Capability.DELETE, self.unset_cors, ()),
            Operation("sys.config.ui_headers.list", Capability.LIST, self.ui_headers, sudo=True),
            _read("sys.config.ui_headers.read", self.ui_header, header, Field("multivalue", Type.BOOL)),
            _change(
                "sys.config.ui_headers.write",
                Capability.UPDATE,
                self.set_ui_header,
                (header, Field("values", Type.ANY), Field("multivalue", Type.BOOL)),
            ),
            _change("sys.config.ui_headers.delete", Capability.DELETE, self.unset_ui_header, (header,)),
            _read("sys.config.audited_headers.list", self.audited_headers),
            _read("sys.config.audited_headers.read", self.audited_header, header),
            _change(
                "sys.config.audited_headers.write",
                Capability.UPDATE,
                self.set_audited_header,
                (header, Field("hmac", Type.BOOL, default=False, record=Record.CLEAR)),
            ),
            _change(
                "sys.config.audited_headers.delete", Capability.DELETE, self.unset_audited_header, (header,)
            ),
        ]


def _read(name: str, act: Any, *fields: Field) -> Operation:
    return Operation(name, Capability.READ, act, sudo=True, fields=fields)


def _change(name: str, capability: Capability, act: Any, fields: tuple[Field, ...]) -> Operation:
    return Operation(name, capability, act, effect=Effect.STATE, sudo=True, fields=fields)


def _put(table: Table[Any], key: str, value: Any) -> Change:
    def write(tx: Transaction) -> Result:
        row = tx.get(table, key)
        if row is None:
            tx.insert(table, key, value)
        else:
            tx.replace(table, row, value)
        return Result()

    return Change(write)


def _remove(table: Table[Any], key: str) -> Change:
    def write(tx: Transaction) -> Result:
        row = tx.get(table, key)
        if row is not None:
            tx.delete(table, row)
        return Result()

    return Change(write)


def _check_header(name: str) -> None:
    if not _TOKEN.match(name):
        raise invalid(f"{name[:80]!r} is not the name of a header")


def _values(given: object) -> tuple[str, ...]:
    """One text is one value, commas and all: some headers are lists in themselves."""
    values = given if isinstance(given, list) else [given] if given else []
    if not all(isinstance(value, str) and value for value in values):
        raise invalid("values must be a text or a list of texts")
    return tuple(values)


def _bound(values: tuple[str, ...]) -> None:
    if len(values) > MAX_ITEMS or any(len(value) > MAX_CHARACTERS for value in values):
        raise invalid(f"at most {MAX_ITEMS} values of {MAX_CHARACTERS} characters each")


def _canonical(name: str) -> str:
    """`x-foo` as the peer shows it: `X-Foo`."""
    return "-".join(part.capitalize() for part in name.split("-"))


def _peers_text(detail: str) -> KmsError:
    """The caller's fault, which the peer answers with 500."""
    return invalid(f"1 error occurred:\n\t* {detail}\n\n")
