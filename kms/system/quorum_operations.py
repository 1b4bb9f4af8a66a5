"""The operations of custodians and of the keyring: generate-root, rekey, rotate.

Each quorum ceremony has an old spelling that anybody may call with shares alone (hvac, `bao operator
rekey`) and a newer one that needs a token (`bao operator generate-root`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kms.errors import invalid
from kms.keys.terms import KeyringRotator
from kms.operation import (
    Call,
    Caller,
    Capability,
    Change,
    Effect,
    Field,
    Operation,
    Outcome,
    Record,
    Result,
    Type,
)
from kms.system.generate_root import RootGeneration
from kms.system.rekey import Rekeying

_SHARE = (Field("key"), Field("nonce", record=Record.CLEAR))
_NONCE = (Field("nonce", record=Record.CLEAR),)
_REKEY = (
    Field("secret_shares", Type.INT, record=Record.CLEAR),
    Field("secret_threshold", Type.INT, record=Record.CLEAR),
    Field("require_verification", Type.BOOL, record=Record.CLEAR),
    Field("pgp_keys", Type.STRINGS),
    Field("backup", Type.BOOL),
)
_START = (Field("otp"), Field("pgp_key"))


Act = Callable[[Call], Outcome]
Trusted = Callable[[Call, str, Capability], bool]


def quorum_operations(roots: RootGeneration, rekeying: Rekeying, trusted: Trusted) -> list[Operation]:
    """Both spellings of both ceremonies.

    Args:
        roots: makes root tokens.
        rekeying: makes new shares.
        trusted: whether the caller of an open path brought a token with this right to the given path. The command line
            and hvac send theirs to the open spelling too, and are told and may do what the other one lets them.
    """
    return [
        *_root_generation("sys.generate_root", roots, trusted),
        *_root_generation("sys.generate_root_token", roots),
        Operation(
            "sys.decode_token",
            Capability.UPDATE,
            roots.decode,
            caller=Caller.PUBLIC,
            fields=(Field("encoded_token"), Field("otp")),
        ),
        *_rekey("sys.rekey", rekeying, trusted),
        *_rekey("sys.rotate_shares", rekeying),
        *_backups(),
    ]


def _root_generation(name: str, roots: RootGeneration, trusted: Trusted | None = None) -> list[Operation]:
    caller, path = _door(trusted), "sys/generate-root-token/attempt"
    return [
        _op(
            f"{name}.status",
            Capability.READ,
            _either(trusted, (path, Capability.READ), roots.status, roots.public_status),
            caller,
        ),
        _op(f"{name}.start", Capability.UPDATE, roots.start, caller, _START),
        _op(
            f"{name}.cancel",
            Capability.DELETE,
            _either(trusted, (path, Capability.DELETE), roots.cancel, roots.cancel_by_nonce),
            caller,
            _NONCE,
        ),
        _op(f"{name}.update", Capability.UPDATE, roots.update, caller, _SHARE),
    ]


def _rekey(name: str, rekeying: Rekeying, trusted: Trusted | None = None) -> list[Operation]:
    caller, path = _door(trusted), "sys/rotate/root/init"
    read, delete = (path, Capability.READ), (path, Capability.DELETE)
    status = _either(trusted, read, rekeying.status, rekeying.public_status)
    cancel = _either(trusted, delete, rekeying.cancel, rekeying.cancel_by_nonce)
    verifying = _either(trusted, read, rekeying.verify_status, rekeying.public_verify_status)
    restart = _either(trusted, delete, rekeying.verify_restart, rekeying.verify_restart_by_nonce)
    return [
        _op(f"{name}.status", Capability.READ, status, caller),
        _op(f"{name}.start", Capability.UPDATE, rekeying.start, caller, _REKEY),
        _op(f"{name}.cancel", Capability.DELETE, cancel, caller, _NONCE),
        _op(f"{name}.update", Capability.UPDATE, rekeying.update, caller, _SHARE),
        _op(f"{name}.verify_status", Capability.READ, verifying, caller),
        _op(f"{name}.verify_restart", Capability.DELETE, restart, caller, _NONCE),
        _op(f"{name}.verify", Capability.UPDATE, rekeying.verify, caller, _SHARE),
    ]


def _door(trusted: Trusted | None) -> Caller:
    return Caller.PUBLIC if trusted is not None else Caller.TOKEN


def _either(trusted: Trusted | None, right: tuple[str, Capability], full: Act, bare: Act) -> Act:
    """`full` for who has the right, `bare` for a stranger."""
    if trusted is None:
        return full  # the road has asked for a token and for the right to it
    return lambda call: full(call) if trusted(call, *right) else bare(call)


def _op(
    name: str,
    capability: Capability,
    act: Callable[[Call], Outcome],
    caller: Caller,
    fields: tuple[Field, ...] = (),
) -> Operation:
    return Operation(name, capability, act, effect=Effect.STATE, caller=caller, fields=fields)


def _backups() -> list[Operation]:
    """Copies of shares that were encrypted with PGP keys: none are ever kept, shares leave in the answer alone."""

    def read(_call: Call) -> Result:
        raise invalid("no backed-up keys found")

    def delete(_call: Call) -> Result:
        return Result()  # as the peer: what is not there is no error

    return [
        Operation("sys.shares.backup.read", Capability.READ, read),
        Operation("sys.shares.backup.delete", Capability.DELETE, delete),
    ]


class KeyringHandlers:
    """sys/rotate, sys/rotate/config, sys/key-status."""

    def __init__(self, rotator: KeyringRotator) -> None:
        self._rotator = rotator

    def rotate(self, _call: Call) -> Change:
        return self._rotator.rotate()

    def status(self, _call: Call) -> Result:
        return Result(self._rotator.status())

    def read_settings(self, _call: Call) -> Result:
        settings = self._rotator.settings()
        return Result(
            {
                "max_operations": settings.max_operations,
                "interval": settings.interval,
                "enabled": settings.enabled,
            }
        )

    def write_settings(self, call: Call) -> Change:
        names = ("max_operations", "interval", "enabled")
        given: dict[str, Any] = {name: call.args[name] for name in names if name in call.given}
        if any(value is None for value in given.values()):
            raise invalid("max_operations and interval are numbers, enabled is a boolean")
        return self._rotator.configure(given)

    def table(self) -> list[Operation]:
        settings = (
            Field("max_operations", Type.INT, record=Record.CLEAR),
            Field("interval", Type.SECONDS, record=Record.CLEAR),
            Field("enabled", Type.BOOL, record=Record.CLEAR),
        )
        state = Effect.STATE
        return [
            Operation("sys.keyring.rotate", Capability.UPDATE, self.rotate, effect=state, sudo=True),
            Operation("sys.keyring.status", Capability.READ, self.status),
            Operation("sys.keyring.settings", Capability.READ, self.read_settings),
            Operation(
                "sys.keyring.configure", Capability.UPDATE, self.write_settings, effect=state, fields=settings
            ),
        ]
