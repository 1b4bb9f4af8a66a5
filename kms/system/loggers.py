"""sys/loggers: how much the operator log says, per kind of process, in all of them at once and until the next start."""

from __future__ import annotations

from kms.errors import invalid
from kms.operation import Call, Capability, Field, Operation, Record, Result
from kms.oplog import LEVELS, LOGGERS, THRESHOLDS

_SPELLINGS = {**{level: level for level in LEVELS}, "warning": "warn", "err": "error"}


def loggers() -> list[Operation]:
    """The table of operations."""
    name = Field("name", record=Record.CLEAR)
    level = Field("level", record=Record.CLEAR)
    read, update, delete = Capability.READ, Capability.UPDATE, Capability.DELETE
    return [
        Operation("sys.loggers.list", read, _all),
        Operation("sys.loggers.set_all", update, _set_all, fields=(level,)),
        Operation("sys.loggers.reset_all", delete, _reset_all),
        Operation("sys.loggers.read", read, _one, fields=(name,)),
        Operation("sys.loggers.set", update, _set, fields=(name, level)),
        Operation("sys.loggers.reset", delete, _reset, fields=(name,)),
    ]


def _all(_call: Call) -> Result:
    return Result({name: THRESHOLDS.get(name) for name in LOGGERS})


def _one(call: Call) -> Result:
    name = call.args["name"]
    return Result({name: THRESHOLDS.get(name)} if name in LOGGERS else {})


def _set_all(call: Call) -> Result:
    level = _level(call)
    for name in LOGGERS:
        THRESHOLDS.set(name, level)
    return Result()


def _set(call: Call) -> Result:
    level, name = _level(call), _known(call)
    THRESHOLDS.set(name, level)
    return Result()


def _reset_all(_call: Call) -> Result:
    for name in LOGGERS:
        THRESHOLDS.reset(name)
    return Result()


def _reset(call: Call) -> Result:
    THRESHOLDS.reset(_known(call))
    return Result()


def _known(call: Call) -> str:
    name: str = call.args["name"]
    if name not in LOGGERS:
        raise invalid(f'logger "{name}" not found')
    return name


def _level(call: Call) -> str:
    wanted = call.args["level"]
    if not wanted:
        raise invalid("level is required")
    level = _SPELLINGS.get(wanted.lower().strip())
    if level is None:
        raise invalid(f"invalid level provided: unknown log level: {wanted}")
    return level
