"""The operations on keys themselves, declared: their life, and their material going out and in."""

from __future__ import annotations

from typing import Final

from kms.keys.catalogue import DEFAULT_TYPE
from kms.keys.life import Command
from kms.keys.lifecycle import MAX_WAIT_DAYS
from kms.keys.service import KeyService
from kms.operation import Capability, Effect, Field, Operation, Record, Runs, Type
from kms.operations.alias import Decide, Naming
from kms.operations.life import Life
from kms.operations.manage import Management
from kms.operations.transfer import Transfers


def clear(name: str, type_: Type = Type.STRING, default: object = "") -> Field:
    """A field that the audit record shows."""
    return Field(name, type_, default, record=Record.CLEAR)


_FLAGS: Final = (
    clear("exportable", Type.BOOL, default=False),
    clear("allow_plaintext_backup", Type.BOOL, default=False),
    clear("auto_rotate_period", Type.SECONDS, 0),
)
_LIFE: Final = (
    clear("activation_date"),
    clear("deactivation_date"),
    clear("cryptoperiod", Type.SECONDS, 0),
    clear("owner"),
    clear("contact"),
    Field("tags", Type.MAP, default={}, record=Record.CLEAR),
)
# Known so that it is refused as the Vault API does, instead of a key being made that is not the one meant.
_EXTERNAL: Final = clear("external_key_ref")
_CREATE: Final = (
    clear("type", default=DEFAULT_TYPE),
    clear("protection"),
    clear("purpose"),
    clear("hash_function"),
    clear("parameter_set"),
    clear("derived", Type.BOOL, default=False),
    clear("convergent_encryption", Type.BOOL, default=False),
    clear("key_size", Type.INT, 0),
    clear("multi_token", Type.BOOL, default=False),
    clear("pre_activation", Type.BOOL, default=False),
    _EXTERNAL,
    *_FLAGS,
    *_LIFE,
)
_CONFIG: Final = (
    clear("min_decryption_version", Type.INT, 0),
    clear("min_encryption_version", Type.INT, 0),
    clear("deletion_allowed", Type.BOOL, default=False),
    *_FLAGS,
    *_LIFE,
)
_PAGE: Final = (clear("after"), clear("limit", Type.INT, 0))
_DAYS: Final = clear("waiting_days", Type.INT, MAX_WAIT_DAYS)


def management(service: KeyService, decide: Decide) -> list[Operation]:
    """All of them."""
    return [
        *_keys(service),
        *_states(service),
        *_aliases(service, decide),
        *_pairs(service),
        *_settings(service),
        *_life(service),
        *_transfers(service),
    ]


def _keys(service: KeyService) -> list[Operation]:
    manage = Management(service)
    return [
        # A birth in the HSM is an external effect; a sealed row or a wrapped blob is state only.
        Operation(
            "transit.keys.create",
            Capability.UPDATE,
            manage.create,
            effect=Effect.EXTERNAL,
            fields=_CREATE,
            resolve=service.resolve,
        ),
        Operation("transit.keys.read", Capability.READ, manage.read, fields=(Field("context", default=""),)),
        Operation(
            "transit.keys.list",
            Capability.LIST,
            manage.list,
            fields=_PAGE,
        ),
        Operation(
            "transit.keys.rotate",
            Capability.UPDATE,
            manage.rotate,
            effect=Effect.EXTERNAL,
            fields=(_EXTERNAL,),
            resolve=service.resolve,
        ),
        Operation(
            "transit.keys.config", Capability.UPDATE, manage.configure, effect=Effect.STATE, fields=_CONFIG
        ),
    ]


def _aliases(service: KeyService, decide: Decide) -> list[Operation]:
    naming = Naming(service, decide)
    return [
        Operation("transit.aliases.list", Capability.LIST, naming.list, fields=_PAGE),
        Operation("transit.aliases.read", Capability.READ, naming.read),
        Operation(
            "transit.aliases.point",
            Capability.UPDATE,
            naming.point,
            effect=Effect.STATE,
            fields=(clear("key"),),
        ),
        Operation("transit.aliases.delete", Capability.DELETE, naming.delete, effect=Effect.STATE),
    ]


_REASON: Final = clear("reason")
_ACCEPT: Final = clear("accept_risk", Type.BOOL, default=False)
_COMMANDS: Final = (
    (Command.ACTIVATE, (_REASON,)),
    (Command.SUSPEND, (_REASON, _ACCEPT)),
    (Command.RESUME, (_REASON,)),
    (Command.DEACTIVATE, (_REASON,)),
    (Command.COMPROMISE, (_REASON, _ACCEPT, clear("version", Type.INT, None))),
)


def _states(service: KeyService) -> list[Operation]:
    life = Life(service)
    return [
        *(
            Operation(
                f"transit.keys.{command.value}",
                Capability.UPDATE,
                life.command(command),
                effect=Effect.STATE,
                fields=fields,
            )
            for command, fields in _COMMANDS
        ),
        Operation("transit.keys.history", Capability.READ, life.history, fields=(clear("key_id"),)),
        # No route leads here: the jobs process writes down what dates have brought, under this name.
        Operation(
            "transit.keys.turn",
            Capability.UPDATE,
            life.turn,
            effect=Effect.EXTERNAL,
            resolve=service.living.resolve,
        ),
    ]


def _pairs(service: KeyService) -> list[Operation]:
    manage = Management(service)
    return [
        Operation(
            "transit.keys.csr",
            Capability.UPDATE,
            manage.request_certificate,
            fields=(Field("csr", default=""), clear("version", Type.INT, None)),
        ),
        Operation(
            "transit.keys.set-certificate",
            Capability.UPDATE,
            manage.set_certificate,
            effect=Effect.STATE,
            fields=(Field("certificate_chain", default=""), clear("version", Type.INT, None)),
        ),
        Operation(
            "transit.shared-secret",
            Capability.UPDATE,
            manage.share,
            runs=Runs.THREAD,
            fields=(Field("peer_public_key", default=""), clear("key_version", Type.INT, 0)),
        ),
        Operation(
            "transit.derive-key",
            Capability.UPDATE,
            manage.derive,
            effect=Effect.STATE,
            fields=(
                clear("base_key_name"),
                clear("base_key_version", Type.INT, 0),
                Field("peer_public_key", default=""),
                clear("key_derivation_algorithm", default="ecdh"),
                clear("derived_key_type", default=DEFAULT_TYPE),
            ),
        ),
    ]


def _settings(service: KeyService) -> list[Operation]:
    manage = Management(service)
    return [
        Operation("transit.settings.read", Capability.READ, manage.read_settings),
        Operation(
            "transit.settings.update",
            Capability.UPDATE,
            manage.change_settings,
            effect=Effect.STATE,
            fields=(
                clear("disable_upsert", Type.BOOL, default=False),
                clear("allowed_types", Type.STRINGS, ()),
                clear("min_strength", Type.INT, 0),
                clear("protection"),
            ),
        ),
        Operation("transit.cache.read", Capability.READ, manage.read_cache),
        Operation(
            "transit.cache.update",
            Capability.UPDATE,
            manage.change_cache,
            effect=Effect.STATE,
            fields=(clear("size", Type.INT, 0),),
        ),
    ]


def _life(service: KeyService) -> list[Operation]:
    life = Life(service)
    state = Effect.STATE
    return [
        Operation("transit.keys.delete", Capability.DELETE, life.delete, effect=state, fields=(_DAYS,)),
        Operation(
            "transit.keys.trim",
            Capability.UPDATE,
            life.trim,
            effect=state,
            fields=(clear("min_available_version", Type.INT, None), _DAYS),
        ),
        Operation("transit.keys.soft-delete", Capability.DELETE, life.soft_delete, effect=state),
        Operation("transit.keys.soft-restore", Capability.UPDATE, life.soft_restore, effect=state),
        Operation("transit.pending.list", Capability.LIST, life.pending, fields=_PAGE),
        Operation("transit.pending.read", Capability.READ, life.show),
        Operation(
            "transit.pending.restore",
            Capability.UPDATE,
            life.restore,
            effect=state,
            fields=(clear("name"),),
        ),
        Operation("transit.pending.cancel", Capability.UPDATE, life.cancel, effect=state),
        Operation(
            "transit.pending.schedule", Capability.UPDATE, life.schedule, effect=state, fields=(_DAYS,)
        ),
        # No route leads here: the jobs process destroys what is due and records it under this name.
        Operation(
            "transit.pending.destroy",
            Capability.DELETE,
            life.destroy,
            effect=Effect.EXTERNAL,
            resolve=service.retirement.resolve,
        ),
    ]


_PARCEL: Final = (
    Field("ciphertext", default=""),
    Field("public_key", default=""),
    clear("hash_function", default="SHA256"),
)


def _transfers(service: KeyService) -> list[Operation]:
    transfers = Transfers(service)
    return [
        Operation(
            "transit.export",
            Capability.READ,
            transfers.export,
            fields=(clear("kind"), clear("version"), clear("format")),
        ),
        Operation("transit.backup", Capability.READ, transfers.backup, effect=Effect.STATE),
        Operation(
            "transit.restore",
            Capability.UPDATE,
            transfers.restore,
            effect=Effect.STATE,
            fields=(Field("backup", default=""), clear("name"), clear("force", Type.BOOL, default=False)),
        ),
        # It makes the pair when it is asked for first.
        Operation(
            "transit.wrapping-key",
            Capability.READ,
            transfers.wrapping_key,
            effect=Effect.EXTERNAL,
            fields=(clear("protection"),),
            resolve=service.imports.resolve,
        ),
        Operation(
            "transit.keys.import",
            Capability.UPDATE,
            transfers.import_key,
            effect=Effect.EXTERNAL,
            resolve=service.resolve,
            fields=(
                *_PARCEL,
                clear("type", default=DEFAULT_TYPE),
                clear("protection"),
                clear("purpose"),
                clear("derived", Type.BOOL, default=False),
                Field("context", default=""),
                clear("allow_rotation", Type.BOOL, default=False),
                clear("multi_token", Type.BOOL, default=False),
                *_FLAGS,
            ),
        ),
        Operation(
            "transit.keys.import-version",
            Capability.UPDATE,
            transfers.import_version,
            effect=Effect.EXTERNAL,
            resolve=service.resolve,
            fields=(*_PARCEL, clear("version", Type.INT, None)),
        ),
        Operation(
            "transit.byok-export",
            Capability.READ,
            transfers.byok_export,
            fields=(clear("destination"), clear("source"), clear("version")),
        ),
    ]
