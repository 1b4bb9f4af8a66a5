"""Handlers of the life of keys: commands to their state, delete, trim, soft-delete, and what waits for its end."""

from __future__ import annotations

from collections.abc import Callable

from kms.errors import invalid, not_found
from kms.keys.life import Command
from kms.keys.service import KeyService
from kms.operation import Call, Change, Outcome, Result
from kms.operations.manage import actor


class Life:
    """Translates calls to the verbs of `kms.keys.retirement`."""

    def __init__(self, service: KeyService) -> None:
        self._verbs = service.retirement
        self._living = service.living

    def command(self, command: Command) -> Callable[[Call], Change]:
        """The handler of one command to a key's state."""

        def act(call: Call) -> Change:
            args = call.args
            by, reason, accept = actor(call), args["reason"], bool(args.get("accept_risk"))
            if args.get("version") is not None:
                return self._living.steal(
                    call.mount.id, args["name"], args["version"], by, reason, accept=accept
                )
            return self._living.command(call.mount.id, args["name"], command, by, reason, accept=accept)

        return act

    def history(self, call: Call) -> Result:
        """Every change of its state, also of a key that is gone."""
        return self._living.history(call.mount.id, call.args["name"], call.args["key_id"])

    def turn(self, _call: Call) -> Outcome:
        """Refuse: only the jobs process writes down what a date has brought, and it brings the steps itself."""
        raise invalid(
            "dates change a key's state by themselves; commands to it are suspend, resume and so on"
        )

    def delete(self, call: Call) -> Change:
        """Free the name; schedule the material's destruction."""
        return self._verbs.delete(call.mount.id, call.args["name"], call.args["waiting_days"])

    def trim(self, call: Call) -> Change:
        """Make old versions unavailable; schedule their destruction."""
        args = call.args
        return self._verbs.trim(
            call.mount.id, args["name"], args["min_available_version"], args["waiting_days"]
        )

    def soft_delete(self, call: Call) -> Change:
        """Refuse the key for every use."""
        return self._verbs.soft_delete(call.mount.id, call.args["name"], deleted=True)

    def soft_restore(self, call: Call) -> Change:
        """Allow it again."""
        return self._verbs.soft_delete(call.mount.id, call.args["name"], deleted=False)

    def pending(self, call: Call) -> Result:
        """Ids of what waits, with facts; 404 when nothing does."""
        limit = call.args["limit"]
        items = self._verbs.pending(
            call.mount.id, after=call.args["after"], limit=limit if limit > 0 else None
        )
        if not items:
            raise not_found()
        return Result(data={"keys": list(items), "key_info": items}, items=len(items))

    def show(self, call: Call) -> Result:
        """One item."""
        return Result(data=self._verbs.show(call.mount.id, call.args["pending_id"]))

    def restore(self, call: Call) -> Change:
        """Put it back."""
        return self._verbs.restore(call.mount.id, call.args["pending_id"], call.args["name"])

    def cancel(self, call: Call) -> Change:
        """Keep it."""
        return self._verbs.cancel(call.mount.id, call.args["pending_id"])

    def schedule(self, call: Call) -> Change:
        """Let it wait for destruction anew."""
        return self._verbs.schedule(call.mount.id, call.args["pending_id"], call.args["waiting_days"])

    def destroy(self, _call: Call) -> Outcome:
        """Refuse: only the jobs process destroys, and it brings the steps itself."""
        raise invalid("material is destroyed when its waiting time is over; no request can do it")
