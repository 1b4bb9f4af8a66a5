"""Handlers of the key paths: create, read, list, rotate, config, and a mount's settings."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from kms.errors import invalid, not_found
from kms.keys import limits
from kms.keys.agreement import Agreement
from kms.keys.catalogue import ALGORITHMS
from kms.keys.lifecycle import Wish
from kms.keys.lifefields import FIELDS, first_life
from kms.keys.service import KeyService
from kms.operation import Call, Change, Outcome, Result
from kms.operations.sealing import context_of

MIN_CACHE_SIZE: Final = 10
# How Vault Enterprise spells it; the parameter set is a field of its own there.
ML_DSA: Final = "ml-dsa"
_WISHES: Final[tuple[str, ...]] = tuple(name for name in Wish.__dataclass_fields__ if name != "life")
_EXTERNAL: Final = "external-key"  # of the Vault API: a key that another KMS holds
_LIMITS: Final[tuple[str, ...]] = ("disable_upsert", "allowed_types", "min_strength", "protection")
_SETTINGS: Final[tuple[str, ...]] = (
    "min_decryption_version",
    "min_encryption_version",
    "deletion_allowed",
    "exportable",
    "allow_plaintext_backup",
    "auto_rotate_period",
    *FIELDS,
)


def actor(call: Call) -> str:
    """Who a call is by, as a key's history names them."""
    return call.principal.display_name


class Management:
    """Translates calls to the verbs of `KeyService`."""

    def __init__(self, service: KeyService) -> None:
        self._service = service

    def create(self, call: Call) -> Outcome:
        """A new key, or the unchanged existing one."""
        life = first_life(call.args, actor(call), self._service.core.clock.now())
        wish = Wish(**{name: call.args[name] for name in _WISHES}, life=life)
        if wish.type == ML_DSA:
            wish = replace(wish, type=f"mldsa-{call.args['parameter_set'] or '44'}")
        if wish.type == _EXTERNAL:
            raise invalid("there are no external keys here: protection=hsm makes the key in the HSM")
        if call.args["external_key_ref"] and wish.type in ALGORITHMS:
            raise invalid(f"must provide type={_EXTERNAL} to use external_key_ref")
        return self._service.create(call.mount.id, call.args["name"], wish)

    def read(self, call: Call) -> Result:
        """The key object."""
        return self._service.read(call.mount.id, call.args["name"], context_of(call.args["context"]))

    def list(self, call: Call) -> Result:
        """Names in order; 404 when there are none."""
        limit = call.args["limit"]
        names = self._service.names(
            call.mount.id, after=call.args["after"], limit=limit if limit > 0 else None
        )
        if not names:
            raise not_found()
        return Result(data={"keys": names}, items=len(names))

    def rotate(self, call: Call) -> Outcome:
        """A new primary version."""
        row = self._service.core.row(call.mount.id, call.args["name"])
        if row is not None and call.args["external_key_ref"]:
            raise invalid(f"cannot use external_key_ref on key of type {row.value.type}")
        return self._service.rotate(call.mount.id, call.args["name"])

    def configure(self, call: Call) -> Change:
        """Change the settings that were really given."""
        given = {name: call.args[name] for name in _SETTINGS if name in call.given}
        return self._service.configure(call.mount.id, call.args["name"], given)

    def read_settings(self, call: Call) -> Result:
        """config/keys."""
        return Result(data=limits.shown(self._service.settings(call.mount.id)))

    def change_settings(self, call: Call) -> Change:
        """config/keys."""
        given = {name: call.args[name] for name in _LIMITS if name in call.given}
        return self._service.change_settings(call.mount.id, given, limits.shown)

    def read_cache(self, call: Call) -> Result:
        """cache-config."""
        return Result(data={"size": self._service.settings(call.mount.id).cache_size})

    def change_cache(self, call: Call) -> Change:
        """cache-config: kept and shown; what is in memory is bounded by kms.keys.live."""
        size = call.args["size"]
        if size != 0 and size < MIN_CACHE_SIZE:
            raise invalid(f"size must be 0 or a value greater or equal to {MIN_CACHE_SIZE}")
        return self._service.change_settings(
            call.mount.id, {"cache_size": size}, lambda settings: {"size": settings.cache_size}
        )

    def request_certificate(self, call: Call) -> Result:
        """A certificate request, signed by a version."""
        args = call.args
        return self._service.certificates.request(call.mount.id, args["name"], args["version"], args["csr"])

    def set_certificate(self, call: Call) -> Change:
        """The chain that came back for it."""
        args = call.args
        return self._service.certificates.set_chain(
            call.mount.id, args["name"], args["version"], args["certificate_chain"]
        )

    def derive(self, call: Call) -> Change:
        """A key from an agreement with somebody's public key."""
        args = call.args
        wanted = Agreement(
            args["base_key_name"],
            args["base_key_version"],
            args["peer_public_key"],
            args["key_derivation_algorithm"],
            args["derived_key_type"],
            actor(call),
        )
        return self._service.agreements.derive(call.mount.id, args["name"], wanted)

    def share(self, call: Call) -> Result:
        """The shared secret of an agreement with somebody's public key."""
        args = call.args
        return self._service.agreements.shared(
            call.mount.id, args["name"], args["key_version"], args["peer_public_key"]
        )
