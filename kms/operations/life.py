"""Handlers of the end of keys: delete, trim, soft-delete, and what waits for its destruction."""

from __future__ import annotations

from kms.errors import invalid, not_found
from kms.keys.service import KeyService
from kms.operation import Call, Change, Outcome, Result


class Life:
    """Translates calls to the verbs of `kms.keys.retirement`."""

    def __init__(self, service: KeyService) -> None:
        self._verbs = service.retirement

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
        items = self._verbs.pending(call.mount.id)
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
