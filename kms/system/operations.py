"""The operations of sys/ that concern the server itself; policies and tokens have their own tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kms.clock import Clock
from kms.errors import ErrorKind, KmsError, invalid
from kms.keys.rotation import RootRotator
from kms.operation import (
    Call,
    Caller,
    Capability,
    Effect,
    Evidence,
    External,
    Field,
    Needs,
    Operation,
    Record,
    Result,
    Runs,
    Type,
)
from kms.system.init import Custodians, Initializer
from kms.system.sealing import API_VERSION, Sealing
from kms.system.state import Board, Phase, ServerState

LOCAL_DOOR = "cli"
_SHARES = tuple(
    Field(name, Type.INT)
    for name in ("secret_shares", "secret_threshold", "recovery_shares", "recovery_threshold")
)


class StatusHandlers:
    """health, leader, seal-status: answered sealed, and while the log cannot be written."""

    def __init__(
        self, state: ServerState, sealing: Sealing, clock: Clock, metrics: Callable[[str], tuple[bytes, str]]
    ) -> None:
        self._state = state
        self._sealing = sealing
        self._clock = clock
        self._metrics = metrics

    def health(self, call: Call) -> Result:
        status = self._sealing.status()
        body: dict[str, Any] = {
            "initialized": status["initialized"],
            "sealed": status["sealed"],
            "standby": False,
            "replication_performance_mode": "disabled",
            "replication_dr_mode": "disabled",
            "server_time_utc": int(self._clock.now()),
            "version": API_VERSION,
        }
        for name in ("cluster_name", "cluster_id"):
            if name in status:
                body[name] = status[name]
        codes = {name: call.args[name] or 0 for name in ("activecode", "sealedcode", "uninitcode")}
        if any(code and not 200 <= code <= 599 for code in codes.values()):
            # Others are no end of an answer: a client would wait for one, or not know what it got.
            raise invalid("a status code is a number from 200 to 599")
        return Result(body, subject=codes)  # the query may choose the codes; the door's renderer looks

    def seal_status(self, _call: Call) -> Result:
        return Result(self._sealing.status())

    def leader(self, _call: Call) -> Result:
        if not self._state.serving:
            raise KmsError(ErrorKind.SEALED, "Vault is sealed")
        return Result(
            {"ha_enabled": False, "is_self": False, "leader_address": "", "leader_cluster_address": ""}
        )

    def init_status(self, _call: Call) -> Result:
        return Result({"initialized": self._state.phase is not Phase.UNINITIALIZED})

    def metrics(self, call: Call) -> Result:
        return Result(raw=self._metrics(call.args["format"] or ""))

    def table(self) -> list[Operation]:
        codes = tuple(Field(name, Type.INT) for name in ("activecode", "sealedcode", "uninitcode"))
        return [
            _status("sys.health", self.health, codes),
            _status("sys.seal_status", self.seal_status),
            _status("sys.leader", self.leader),
            _status("sys.init_status", self.init_status),
            _status("sys.metrics", self.metrics, (Field("format"),), runs=Runs.POOL),
        ]


def _status(
    name: str, act: Callable[[Call], Result], fields: tuple[Field, ...] = (), runs: Runs = Runs.INLINE
) -> Operation:
    """Something that everybody may ask at any time: counted, not recorded one by one."""
    return Operation(
        name,
        Capability.READ,
        act,
        caller=Caller.PUBLIC,
        evidence=Evidence.COUNTED,
        needs=Needs.NOTHING,
        runs=runs,
        fields=fields,
    )


class LifeHandlers:
    """init, seal, unseal, root rotation."""

    def __init__(
        self,
        sealing: Sealing,
        initializer: Initializer,
        rotator: RootRotator,
        board: Board,
    ) -> None:
        self._sealing = sealing
        self._initializer = initializer
        self._rotator = rotator
        self._board = board

    def init(self, call: Call) -> External[Any]:
        args = call.args
        # `bao operator init -recovery-shares=3` sends secret_shares 0 beside it: zero means not wanted.
        recovery = bool(args["recovery_shares"]) and not args["secret_shares"]
        names = "recovery" if recovery else "secret"
        shares = args[f"{names}_shares"] or 5
        custodians = Custodians(
            shares=shares,
            threshold=args[f"{names}_threshold"] or min(3, shares),
            recovery_names=recovery,
        )
        # `keystead dev` may choose the root token. Over the network it may not: a client that still
        # sends an old token with sys/init would make that old token root.
        wanted = call.credential if call.door == LOCAL_DOOR else ""
        external = self._initializer.initialize(custodians, wanted)
        return External(
            external.intent,
            external.begin,
            external.perform,
            external.conclude,
            external.abandon,
            after=self._board.bump_seal_epoch,
        )

    def rotate_root(self, _call: Call) -> External[Any]:
        return self._rotator.rotate()

    def root_progress(self, _call: Call) -> Result:
        return Result(self._rotator.progress())

    def table(self) -> list[Operation]:
        update, read = Capability.UPDATE, Capability.READ
        unseal = (Field("key"), Field("reset", Type.BOOL, default=False), Field("migrate", Type.BOOL))
        return [
            Operation(
                "sys.init",
                update,
                self.init,
                effect=Effect.EXTERNAL,
                caller=Caller.PUBLIC,
                needs=Needs.NOTHING,
                fields=_SHARES,
                # Nothing was handed out and nothing was activated: calling init again goes on.
                resolve=_init_undone,
            ),
            Operation(
                "sys.unseal",
                update,
                self._sealing.unseal,
                effect=Effect.STATE,
                caller=Caller.PUBLIC,
                needs=Needs.NOTHING,
                fields=unseal,
            ),
            Operation("sys.seal", update, self._sealing.seal, effect=Effect.STATE, sudo=True),
            Operation(
                "sys.root.rotate",
                update,
                self.rotate_root,
                effect=Effect.EXTERNAL,
                sudo=True,
                resolve=self._rotator.resume,
            ),
            Operation("sys.root.progress", read, self.root_progress),
        ]


def _init_undone(_intent: object) -> External[None]:
    return External(
        {},
        begin=lambda _tx: None,
        perform=lambda: None,
        conclude=lambda _tx, _done: Result(partial=True),
        abandon=lambda _tx, _error: None,
    )


def no_route(call: Call) -> Result:
    """What an authorised caller gets for a path that does not exist.

    Raises:
        KmsError(NO_ROUTE or UNSUPPORTED), always.
    """
    reason = call.args.get("reason")
    if reason == "verb":
        raise KmsError(ErrorKind.UNSUPPORTED, "unsupported operation")
    if reason == "mount":
        path = call.args.get("path", call.path)
        raise KmsError(ErrorKind.NO_ROUTE, f'no handler for route "{path}". route entry not found.')
    raise KmsError(ErrorKind.NO_ROUTE, "unsupported path")


NO_ROUTE = Operation(
    "sys.no_route",
    Capability.READ,
    no_route,
    runs=Runs.INLINE,
    fields=(Field("path", record=Record.CLEAR), Field("reason")),
)
