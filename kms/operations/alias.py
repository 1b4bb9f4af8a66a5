"""Handlers of aliases. Policy is asked for the key too: who names an alias chooses what its users use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kms.errors import ErrorKind, KmsError, invalid, not_found
from kms.ids import check_name
from kms.keys.service import KeyService
from kms.operation import Call, Change, Principal, Result
from kms.policy import Decision

Decide = Callable[[Principal, Call], Decision]


class Naming:
    """The handlers of transit.aliases.*.

    Args:
        service: where the keys are.
        decide: policy's answer for a principal and a call.
    """

    def __init__(self, service: KeyService, decide: Decide) -> None:
        self._verbs = service.aliases
        self._decide = decide

    def point(self, call: Call) -> Change:
        """Make an alias or move it.

        Raises:
            KmsError(DENIED): policy does not grant `update` on `<mount>/aliases/to/<key>`, for the key
                that it is to stand for and for the one that it stands for now.
        """
        name, alias = call.args["key"], call.args["alias"]
        if not name:
            raise invalid("missing key: the name of the key that the alias shall stand for")
        check_name(name, "key name")
        now = self._verbs.target(call.mount.id, alias)
        for target in {name, now.name if now else name}:
            decision = self._decide(
                call.principal, replace(call, path=f"{call.mount.path}aliases/to/{target}")
            )
            if not decision.allowed:
                raise KmsError(ErrorKind.DENIED, "permission denied")
        return self._verbs.point(call.mount.id, alias, name, now)

    def read(self, call: Call) -> Result:
        """Where it points."""
        return self._verbs.read(call.mount.id, call.args["alias"])

    def delete(self, call: Call) -> Change:
        """Remove it."""
        return self._verbs.delete(call.mount.id, call.args["alias"])

    def list(self, call: Call) -> Result:
        """Aliases in order; 404 when there are none."""
        limit = call.args["limit"]
        found = self._verbs.list(call.mount.id, after=call.args["after"], limit=limit if limit > 0 else None)
        if not found:
            raise not_found()
        return Result(data={"keys": list(found), "key_info": found}, items=len(found))
