"""reencrypt: what one key sealed, sealed by another key of this or another mount, without the caller seeing it.

Policy is asked twice, and both keys must be granted: `update` on `<mount>/reencrypt/<source>` (the path
of the request, so the road itself asks) and `update` on `<destination's mount>/reencrypt/to/<destination>`.
Neither grants the other, and neither grants encrypt or decrypt. The second question comes before any key or
mount is looked up: whoever may not use a destination does not learn whether it exists.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from kms.errors import ErrorKind, KmsError, invalid
from kms.ids import check_name
from kms.keys.service import KeyService
from kms.operation import Call, MountRef, NamespaceRef, Principal, Result
from kms.operations.batch import Item, each, items_of, number, text
from kms.operations.encrypt import key_of, warnings
from kms.operations.sealing import Opener, Sealer, payload
from kms.policy import Decision

_MISSING: Final = "missing ciphertext to re-encrypt"
_NO_DESTINATION: Final = "missing destination: the name of the key to encrypt with"
_MOUNT: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.\-]*)*\Z")
_MAX_MOUNT_CHARACTERS: Final = 255

Decide = Callable[[Principal, Call], Decision]
FindMount = Callable[[str, NamespaceRef], MountRef | None]
"""The transit mount at exactly this full path (which ends in "/"), if it is one of this namespace; or None."""


def nobody(_principal: Principal, _call: Call) -> Decision:
    """The answer of a server that was given no policy: no."""
    return Decision(allowed=False, rule="", why="no_policy")


def no_mount(_path: str, _namespace: NamespaceRef) -> None:
    """The answer where there is no table of mounts: none."""


class Reencryption:
    """The handler of transit.reencrypt.

    Args:
        service: where the keys are.
        decide: policy's answer for a principal and a call; asked for the destination.
        find: looks up another mount.
    """

    def __init__(self, service: KeyService, decide: Decide, find: FindMount) -> None:
        self._service = service
        self._decide = decide
        self._find = find

    def reencrypt(self, call: Call) -> Result:
        """Decrypt with the source, encrypt with the destination. A batch answers 200, item by item.

        `context` and `associated_data` are those of the given ciphertext; the new one gets
        `destination_context` and `destination_associated_data`, and nothing by itself.

        Raises:
            KmsError(DENIED): policy does not grant the destination.
            KmsError(INVALID): no such key or mount, or the ciphertext does not open.
        """
        args = call.args
        rule = self._authorise(call)
        items = items_of(args)
        source = key_of(self._service, call)
        destination = self._service.get(self._mount(call).id, args["destination"])
        if destination is None:
            raise invalid("destination key not found")
        opener, sealer = Opener(source), Sealer(destination, len(items) if items else 1)

        def work(item: Item, index: int) -> Item:
            given = text(item, index, "ciphertext")
            if not given:
                raise invalid(_MISSING)
            context = payload(text(item, index, "context"))
            new_context = payload(text(item, index, "destination_context"))
            plaintext = opener.open(given, text(item, index, "associated_data"), context)
            ciphertext, version = sealer.seal(
                number(item, index, "key_version"),
                plaintext,
                text(item, index, "destination_associated_data"),
                new_context,
            )
            return {"ciphertext": ciphertext, "key_version": version}

        subject: dict[str, str | int] = {
            "key_id": source.key.id,
            "destination_key_id": destination.key.id,
            "destination_rule": rule,
        }
        if items is None:
            data = work({name: args[name] for name in _ITEM}, 0)
            version = data["key_version"]
            subject["destination_key_version"] = version
            return Result(data=data, subject=subject, warnings=warnings(destination, version))
        results, failures = each(items, work, {})
        return Result(
            data={"batch_results": results}, items=len(results), subject=subject | {"failed": failures}
        )

    def _authorise(self, call: Call) -> str:
        destination = call.args["destination"]
        if not destination:
            raise invalid(_NO_DESTINATION)
        check_name(destination, "destination")
        path = f"{_mount_path(call)}reencrypt/to/{destination}"
        decision = self._decide(call.principal, replace(call, path=path))
        if not decision.allowed:
            raise KmsError(ErrorKind.DENIED, "permission denied")
        return decision.rule

    def _mount(self, call: Call) -> MountRef:
        path = _mount_path(call)
        mount = call.mount if path == call.mount.path else self._find(path, call.namespace)
        if mount is None:
            raise invalid(f"destination_mount {call.args['destination_mount']!r} is not a transit mount")
        return mount


def _mount_path(call: Call) -> str:
    """Path of the destination's mount, in the one spelling that policy knows."""
    given: str = call.args["destination_mount"]
    if not given:
        return call.mount.path
    if len(given) > _MAX_MOUNT_CHARACTERS or not _MOUNT.match(given):
        # One spelling, also for rules about parameters: "/a", "a/" and "a//b" would be others.
        raise invalid(
            "destination_mount is the path of a mount without slashes around it, as in 'teams/archive'"
        )
    return f"{call.namespace.path}{given}/"


_ITEM: Final = (
    "ciphertext",
    "context",
    "associated_data",
    "destination_context",
    "destination_associated_data",
    "key_version",
)
