"""Handlers of key material that goes out or comes in: export, backup, restore, import."""

from __future__ import annotations

from kms.errors import invalid
from kms.ids import check_name
from kms.keys.importing import Parcel
from kms.keys.life import Life
from kms.keys.lifecycle import Wish
from kms.keys.service import KeyService
from kms.operation import Call, Change, Outcome, Result


class Transfers:
    """Translates calls to the verbs of `kms.keys.export`, `backup` and `importing`."""

    def __init__(self, service: KeyService) -> None:
        self._exports = service.exports
        self._backups = service.backups
        self._imports = service.imports

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

    def wrapping_key(self, call: Call) -> Outcome:
        """The public key to wrap imports with: the mount's software one, or that of the HSM."""
        protection = call.args["protection"]
        if protection not in ("", "software", "hsm"):
            raise invalid(f"unknown protection {protection}; use 'software' or 'hsm'")
        if protection == "hsm":
            return self._imports.hsm.wrapping_key(call.mount.id)
        return self._imports.wrapping_key(call.mount.id)

    def import_key(self, call: Call) -> Outcome:
        """A new key from wrapped material, or from a public key alone."""
        args = call.args
        if args["multi_token"]:
            raise invalid(
                "an imported key lives in the HSM token whose wrapping_key it came under: multi_token is for keys that are"
                " born here"
            )
        wish = Wish(
            type=args["type"],
            protection=args["protection"],
            purpose=args["purpose"],
            hash_function=args["hash_function"],
            derived=args["derived"],
            exportable=args["exportable"],
            allow_plaintext_backup=args["allow_plaintext_backup"],
            auto_rotate_period=args["auto_rotate_period"],
            life=Life(created_by=call.principal.display_name),
        )
        return self._imports.new(
            call.mount.id, args["name"], wish, _parcel(call), allow_rotation=args["allow_rotation"]
        )

    def import_version(self, call: Call) -> Outcome:
        """A further version, or the private half of one."""
        args = call.args
        return self._imports.version(call.mount.id, args["name"], _parcel(call), args["version"])

    def byok_export(self, call: Call) -> Result:
        """An exportable key, wrapped for another server."""
        args = call.args
        return self._imports.export(call.mount.id, args["destination"], args["source"], args["version"])


def _parcel(call: Call) -> Parcel:
    args = call.args
    return Parcel(args["ciphertext"], args["public_key"], args["hash_function"])
