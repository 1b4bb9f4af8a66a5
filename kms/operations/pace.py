"""Which calls are quick enough for an event loop. Looks at memory only: no key is loaded to decide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kms.keys.catalogue import Protection, Use
from kms.keys.live import LiveKey
from kms.keys.service import KeyService
from kms.operation import Call

BUDGET_MICROS: Final = 1_600
MAX_INLINE_CHARACTERS: Final = 256 * 1024
_PER_ITEM: Final = 1  # parsing and rendering
# An HMAC costs what it costs where the key is.
_MAC_MICROS: Final = {Protection.SOFTWARE: 3, Protection.HSM: 40}

Judge = Callable[[Call], bool]


def quick(service: KeyService, use: Use, *payloads: str) -> Judge:
    """True when the key is open in memory and the call's estimated cost is within the budget.

    Args:
        service: where keys in memory are.
        use: what the call does.
        payloads: argument names whose size counts.
    """

    def judge(call: Call) -> bool:
        args = call.args
        live = service.peek(call.mount.id, args["name"])
        if live is None:
            return False
        version = live.opened(live.key.latest_version)
        if version is None:
            return False
        items = args.get("batch_input")
        count = len(items) if items else 1
        if use is Use.ENCRYPT and version.allowance is not None and not version.allowance.covers(count):
            return False
        if any(len(args[name] or "") > MAX_INLINE_CHARACTERS for name in payloads):
            return False
        return count * (_micros(live, use) + _PER_ITEM) <= BUDGET_MICROS

    return judge


def quick_between(service: KeyService) -> Judge:
    """As `quick`, for a call that decrypts with one key and encrypts with another."""
    opens = quick(service, Use.DECRYPT, "ciphertext")

    def judge(call: Call) -> bool:
        if call.args["destination_mount"]:
            return False
        live = service.peek(call.mount.id, call.args["destination"])
        version = live.opened(live.key.latest_version) if live is not None else None
        if live is None or version is None or not opens(call):
            return False
        count = len(call.args["batch_input"] or (None,))
        if version.allowance is not None and not version.allowance.covers(count):
            return False
        return count * (_micros(live, Use.ENCRYPT) + _PER_ITEM) <= BUDGET_MICROS // 2

    return judge


def quick_verify(service: KeyService) -> Judge:
    """As `quick`, for verification with the public key."""

    def judge(call: Call) -> bool:
        args = call.args
        live = service.peek(call.mount.id, args["name"])
        if live is None or live.opened(live.key.latest_version) is None:
            return False
        count = len(args["batch_input"] or (None,))
        micros = live.algorithm.verify_micros
        if args["hmac"] is not None or args["cmac"] is not None or args["batch_input"]:
            micros = max(micros, _MAC_MICROS[live.key.protection])
        return len(args["input"] or "") <= MAX_INLINE_CHARACTERS and count * micros <= BUDGET_MICROS

    return judge


def small(name: str) -> Judge:
    """True when one argument is short."""
    return lambda call: len(call.args[name] or "") <= MAX_INLINE_CHARACTERS


def _micros(live: LiveKey, use: Use) -> int:
    protection = live.key.protection
    if use is Use.MAC:
        return _MAC_MICROS[protection]
    return live.algorithm.micros[protection]
