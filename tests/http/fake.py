"""A small stand-in for the composition root: real doors and servers, pretended services.

Only for tests of the doors and the processes. Each operation answers with what it was given, so that a
test sees exactly what came through.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from kms.clock import Clock
from kms.config import Config
from kms.errors import ErrorKind, KmsError, not_found
from kms.http.vault.route import Route
from kms.jobs.scheduler import Task
from kms.operation import (
    ROOT_NAMESPACE,
    Call,
    Caller,
    Capability,
    Field,
    MountRef,
    NamespaceRef,
    Needs,
    Operation,
    Result,
    Runs,
    Type,
)
from kms.sensitive import Sensitive
from kms.shared import Shared

ROOT = "root"
TRANSIT = MountRef("m1", "transit/", "transit", "transit_1")
SYSTEM = MountRef("m0", "sys/", "system", "system_0")
CUBBY = MountRef("m2", "cubbyhole/", "cubbyhole", "cubbyhole_1")


class FakeReceipt:
    """A receipt."""

    def header(self) -> str:
        return "keystead/test,seg,1,00"


class FakePipeline:
    """Knows one token; runs the handler."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.crashes: list[Call] = []

    def run(self, call: Call) -> tuple[Result, FakeReceipt | None]:
        self.calls = [*self.calls[-50:], call]
        if call.operation.caller is Caller.TOKEN:
            if call.credential == "denied":
                raise KmsError(ErrorKind.DENIED, "permission denied")
            if call.credential != ROOT:
                raise KmsError(ErrorKind.UNAUTHENTICATED, "permission denied")
        result = call.operation.act(call)
        assert isinstance(result, Result)
        return result, None if call.operation.caller is Caller.PUBLIC else FakeReceipt()

    def crashed(self, call: Call) -> None:
        self.crashes.append(call)


class FakeMounts:
    """Three mounts."""

    def resolve(self, path: str) -> tuple[MountRef, str] | None:
        for mount in (SYSTEM, TRANSIT, CUBBY):
            if path.startswith(mount.path):
                return mount, path.removeprefix(mount.path)
        return None


def _echo(call: Call) -> Result:
    shown = {name: value for name, value in call.args.items() if value is not None}
    return Result({"args": shown, "given": sorted(call.given), "path": call.path, "peer": call.peer})


def _encrypt(call: Call) -> Result:
    text = base64.b64decode(call.args["plaintext"] or "")
    return Result({"ciphertext": "vault:v1:" + base64.b64encode(text[::-1]).decode(), "key_version": 1})


def _health(_call: Call) -> Result:
    return Result({"initialized": True, "sealed": False, "pid": os.getpid()})


def _slow(_call: Call) -> Result:
    time.sleep(1.0)
    return Result({"slow": True})


def _block(_call: Call) -> Result:
    time.sleep(60)
    return Result()


def _no_route(call: Call) -> Result:
    kind = ErrorKind.UNSUPPORTED if call.args["reason"] == "verb" else ErrorKind.NO_ROUTE
    raise KmsError(kind, "no route")


def _nothing(_call: Call) -> Result:
    return Result()


def _missing(_call: Call) -> Result:
    raise KmsError(ErrorKind.NOT_FOUND, "")


def _crash(_call: Call) -> Result:
    raise ZeroDivisionError("canary-in-exception-text")


def _warn(_call: Call) -> Result:
    return Result(warnings=("careful",))


def _document(_call: Call) -> Result:
    return Result(raw=(b"-----BEGIN", "application/pem-certificate-chain"))


def _partial(_call: Call) -> Result:
    return Result({"batch_results": [{"error": "x"}]}, partial=True)


def _quoting(_call: Call) -> Result:
    return Result({"b": "<&>\u2028", "a": {"z": 1, "c": None}})


def _auth(_call: Call) -> Result:
    return Result(auth={"accessor": "acc", "client_token": "hvs.x", "policies": ["root"], "renewable": False})


_FIELDS = (
    Field("plaintext"),
    Field("key_version", Type.INT, default=0),
    Field("exportable", Type.BOOL, default=False),
    Field("ttl", Type.SECONDS, default=0),
    Field("policies", Type.STRINGS),
    Field("meta", Type.MAP),
    Field("batch_input", Type.ITEMS),
    Field("anything", Type.ANY),
)


def operations() -> dict[str, Operation]:
    """The registry."""
    inline, pool = Runs.INLINE, Runs.POOL
    read, update = Capability.READ, Capability.UPDATE
    public = {"caller": Caller.PUBLIC, "needs": Needs.NOTHING, "runs": inline}
    table = [
        Operation("sys.no_route", read, _no_route, runs=inline),
        Operation("sys.health", read, _health, **public),  # type: ignore[arg-type]  # a table of keywords
        Operation("sys.echo", update, _echo, runs=inline, fields=_FIELDS),
        Operation("sys.pool", update, _echo, runs=pool, fields=_FIELDS),
        Operation("sys.slow", update, _slow, runs=pool),
        Operation("sys.block", update, _block, runs=inline),
        Operation("sys.required", update, _echo, fields=(Field("name", required=True),)),
        Operation("sys.nothing", update, _nothing, runs=inline),
        Operation("sys.missing", read, _missing, runs=inline),
        Operation("sys.crash", update, _crash, runs=inline),
        Operation("sys.crash_pool", update, _crash, runs=pool),
        Operation("sys.warn", update, _warn),
        Operation("sys.document", read, _document, **public),  # type: ignore[arg-type]  # a table of keywords
        Operation("sys.partial", update, _partial, runs=inline),
        Operation("sys.quoting", read, _quoting, runs=inline),
        Operation("sys.auth", update, _auth, runs=inline),
        Operation("transit.encrypt", update, _encrypt, runs=inline, fields=_FIELDS),
        Operation("transit.read", read, _echo, runs=inline),
        Operation("transit.list", Capability.LIST, _echo, runs=inline),
        Operation("cubbyhole.write", update, _echo, fields=(Field("*", Type.MAP),)),
        Operation("cubbyhole.read", read, _echo),
        Operation("cubbyhole.list", Capability.LIST, _echo),
    ]
    return {operation.name: operation for operation in table}


ROUTES: dict[str, tuple[Route, ...]] = {
    "system": (
        Route("GET", "health", "sys.health", raw=True),
        Route("POST", "echo", "sys.echo"),
        Route("PATCH", "echo", "sys.echo"),
        Route("POST", "echo/{name}", "sys.echo"),
        Route("POST", "serial/{serial}", "sys.echo", free=frozenset({"serial"})),
        Route("POST", "pool", "sys.pool"),
        Route("POST", "slow", "sys.slow"),
        Route("POST", "block", "sys.block"),
        Route("POST", "seal", "sys.seal"),
        Route("POST", "required", "sys.required"),
        Route("POST", "nothing", "sys.nothing"),
        Route("GET", "missing", "sys.missing"),
        Route("POST", "crash", "sys.crash"),
        Route("POST", "crash-pool", "sys.crash_pool"),
        Route("POST", "warn", "sys.warn"),
        Route("GET", "document", "sys.document"),
        Route("POST", "partial", "sys.partial"),
        Route("GET", "quoting", "sys.quoting"),
        Route("GET", "injected", "sys.quoting", inject=True),
        Route("GET", "raw", "sys.quoting", raw=True),
        Route("POST", "auth", "sys.auth"),
    ),
    "transit": (
        Route("POST", "encrypt/{name}", "transit.encrypt"),
        Route("GET", "keys/{name}", "transit.read"),
        Route("LIST", "keys", "transit.list"),
    ),
    "cubbyhole": (
        Route("GET", "{path...}", "cubbyhole.read"),
        Route("POST", "{path...}", "cubbyhole.write"),
        Route("LIST", "", "cubbyhole.list"),
        Route("LIST", "{path...}", "cubbyhole.list"),
        Route("POST", "{path...}/tune", "sys.nothing"),
    ),
}


class NoPages:
    """CORS is off."""

    def allows(self, origin: str) -> bool | None:
        del origin
        return None

    def headers(self) -> tuple[str, ...]:
        return ()


class FakeNamespaces:
    """None at all."""

    none = True
    some = False

    def named(self, header: str) -> NamespaceRef:
        del header
        raise not_found("namespace not found")

    def of(self, path: str) -> NamespaceRef:
        del path
        return ROOT_NAMESPACE


class FakeApp:
    """What `kms.app.build` returns."""

    def __init__(self, shared: Shared | None = None, tasks: Sequence[Task] = ()) -> None:
        self.pipeline = FakePipeline()
        self.registry: Mapping[str, Operation] = operations() | {
            "sys.seal": Operation("sys.seal", Capability.UPDATE, self._seal)
        }
        self.routes: Mapping[str, tuple[Route, ...]] = ROUTES
        self.mounts = FakeMounts()
        self.namespaces = FakeNamespaces()
        self.cross_origin = NoPages()
        self.devices = None
        self.tasks = tasks
        self._shared = shared
        self._epoch = shared.seal_epoch() if shared else 0

    def _seal(self, _call: Call) -> Result:
        if self._shared is not None:
            self._shared.bump_seal_epoch()
        return Result()

    def refresh(self) -> object:
        return None

    def well_known(self, path: str) -> str | None:
        del path
        return None

    def page_key(self) -> Sensitive:
        return Sensitive(bytes(32))

    def leaving(self) -> bool:
        return self._shared is not None and self._shared.seal_epoch() != self._epoch

    def close(self) -> None:
        return


def build(_config: Config, shared: Shared, _clock: Clock, role: str) -> Any:
    """A builder for the supervisor. `KEYSTEAD_TEST_REFUSE=<role>` makes that role fail to start."""
    if os.environ.get("KEYSTEAD_TEST_REFUSE") == role:
        raise KmsError(ErrorKind.HSM_UNAVAILABLE, "the token does not answer; plug it in")
    return FakeApp(shared)
