"""Handlers of key material that goes out or comes in: export, backup, restore."""

from __future__ import annotations

from kms.ids import check_name
from kms.keys.service import KeyService
from kms.operation import Call, Change, Result


class Transfers:
    """Translates calls to the verbs of `kms.keys.export` and `kms.keys.backup`."""

    def __init__(self, service: KeyService) -> None:
        self._exports = service.exports
        self._backups = service.backups

    def export(self, call: Call) -> Result:
        """Versions of an exportable key."""
        args = call.args
        return self._exports.export(
            call.mount.id, args["name"], args["kind"], args["version"], args["format"]
        )

    def backup(self, call: Call) -> Change:
        """The whole key in clear."""
        return self._backups.backup(call.mount.id, call.args["name"])

    def restore(self, call: Call) -> Change:
        """A key from its backup."""
        args = call.args
        if args["name"]:
            check_name(args["name"], "key name")
        return self._backups.restore(call.mount.id, args["name"], args["backup"], force=args["force"])
