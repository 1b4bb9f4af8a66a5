"""Plaintext backup and restore of a whole key, in the format of OpenBao and Vault.

base64( JSON {"policy": key with its versions, "archived_keys": all versions again} ), so a backup made
there is restored here and the other way round: this is how keys move in and out. What that format has
no word for (our further types) is a member "keystead", which others ignore.

A backup holds key bytes in clear. It is made only of keys that are exportable and allow it, and
never of `hsm` keys, which can be neither.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from kms.clock import rfc3339
from kms.errors import invalid
from kms.ids import check_name, new_id
from kms.keys.backupform import (
    MAX_VERSIONS,
    TYPE_NUMBERS,
    Archive,
    Document,
    Keystead,
    Policy,
    Stamp,
    entry_of,
    seconds_of,
    version_of,
)
from kms.keys.birth import facts
from kms.keys.catalogue import ALGORITHMS, Kind, Protection
from kms.keys.core import Core, check_no_alias, must
from kms.keys.life import Life
from kms.keys.lifecycle import check_use, refuse_soft_deleted
from kms.keys.model import KeyVersion, NamedKey, SoftwareMaterial, Transfer, VersionState
from kms.keys.retirement import Retirement
from kms.keys.states import Act
from kms.keys.store import KEY_VERSIONS, NAMED_KEYS, name_key, version_key
from kms.operation import Change, Result
from kms.tables import Transaction

MAX_BACKUP_CHARACTERS: Final = 16 * 1024 * 1024
_KDF_HKDF: Final = 1
_CONVERGENT_PER_VERSION: Final = -1
_TYPES: Final = {number: name for name, number in TYPE_NUMBERS.items()}
_UNREADABLE: Final = "the backup cannot be read: it is not one that this API made"


class Backups:
    """The verbs. One per process."""

    def __init__(self, core: Core, retirement: Retirement) -> None:
        self._core = core
        self._retirement = retirement

    def backup(self, mount_id: str, name: str) -> Change:
        """The key and all its versions as one text; the key remembers when."""

        def write(tx: Transaction) -> Result:
            row = must(tx, mount_id, name, f'key "{name}" not found')
            key = row.value
            refuse_soft_deleted(key)
            if not key.exportable:
                raise invalid("exporting is disallowed on the policy")
            if not key.allow_plaintext_backup:
                raise invalid("plaintext backup is disallowed on the policy")
            check_use(key, Act.BACKUP, self._core.clock.now())
            changed = replace(key, backed_up=Transfer(self._core.clock.now(), key.latest_version))
            tx.replace(NAMED_KEYS, row, changed)
            versions = [each.value for each in tx.scan(KEY_VERSIONS, f"{key.id}/")]
            text = write_backup(changed, [each for each in versions if each.state is VersionState.ACTIVE])
            return Result(data={"backup": text}, subject=facts(key, key.latest_version))

        return Change(write)

    def restore(self, mount_id: str, name: str, text: str, *, force: bool) -> Change:
        """A key as its backup describes it, under its name or another, with a new key id.

        Args:
            mount_id: the mount to restore into.
            name: "" for the name in the backup.
            text: what `backup` answered.
            force: replace the key that has the name; its material waits for destruction.
        """
        if not text:
            raise invalid("'backup' must be supplied")
        key, versions = read_backup(text, mount_id, name, self._core.clock.now())
        if not name:
            check_name(key.name, "key name")
        self._core.admit(key)

        def write(tx: Transaction) -> Result:
            present = tx.get(NAMED_KEYS, name_key(mount_id, key.name))
            if present is not None:
                if not force:
                    raise invalid(f'key "{key.name}" already exists')
                self._retirement.replace(tx, present)
            check_no_alias(tx, mount_id, key.name)
            tx.insert(NAMED_KEYS, name_key(mount_id, key.name), key)
            for version in versions:
                tx.insert(KEY_VERSIONS, version_key(key.id, version.version), version)
            return Result(subject=facts(key, key.latest_version))

        return Change(write)


def write_backup(key: NamedKey, versions: list[KeyVersion]) -> str:
    """The text of a backup."""
    entries = {version.version: entry_of(key, version) for version in versions}
    newest = key.latest_version
    policy = Policy(
        name=key.name,
        key_size=key.key_size,
        keys={str(number): entry for number, entry in entries.items()},
        derived=key.derived,
        kdf=_KDF_HKDF if key.derived else 0,
        convergent_encryption=key.convergent_encryption,
        exportable=key.exportable,
        min_decryption_version=key.min_decryption_version,
        min_encryption_version=key.min_encryption_version,
        latest_version=newest,
        archive_version=newest,
        archive_min_version=key.min_available_version,
        min_available_version=key.min_available_version,
        deletion_allowed=key.deletion_allowed,
        convergent_version=_CONVERGENT_PER_VERSION if key.convergent_encryption else 0,
        type=TYPE_NUMBERS.get(key.type, 0),
        backup_info=Stamp(rfc3339(key.backed_up.at), key.backed_up.version) if key.backed_up else None,
        allow_plaintext_backup=key.allow_plaintext_backup,
        auto_rotate_period=key.auto_rotate_period * 1_000_000_000,
        imported=key.imported,
        allow_rotation=key.allow_rotation and key.imported,
        soft_deleted=key.soft_deleted,
    )
    # The archive is a list from the first version that is available; place 0 stands for it when there is none.
    first = max(key.min_available_version, 0)
    archive = [entries.get(number) or entry_of(key, None) for number in range(first, newest + 1)]
    document = Document(
        policy=policy,
        archived_keys=Archive(archive),
        keystead=Keystead(key.type, replace(key.life, changes=0)),
    )
    # json, not msgspec: the integers of RSA and EC keys are longer than 64 bits.
    return b64encode(json.dumps(msgspec.to_builtins(document)).encode()).decode()


def read_backup(text: str, mount: str, name: str, now: float) -> tuple[NamedKey, list[KeyVersion]]:
    """Key and versions of a backup, with a new key id.

    Raises:
        KmsError(INVALID): it is no backup, or contradicts itself. Never says what it holds.
    """
    document = _parse(text)
    policy = document.policy
    type_ = document.keystead.type if document.keystead else _TYPES.get(policy.type, "")
    if type_ not in ALGORITHMS:
        raise invalid(f"the backup is of a key type that is not known here ({policy.type})")
    algorithm = ALGORITHMS[type_]
    _check(policy)
    if policy.derived and (policy.kdf != _KDF_HKDF or not algorithm.derivable):
        # The other servers give derived keys that were imported there a key derivation of the past.
        raise invalid("the backup is of a derived key that does not use HKDF-SHA256, the only one known here")
    key = NamedKey(
        id=new_id(),
        mount=mount,
        name=name or policy.name,
        type=type_,
        protection=Protection.SOFTWARE,
        created=now,
        latest_version=policy.latest_version,
        allotted=policy.latest_version,
        min_decryption_version=max(policy.min_decryption_version, 1),
        min_encryption_version=policy.min_encryption_version,
        min_available_version=policy.min_available_version,
        deletion_allowed=policy.deletion_allowed,
        exportable=policy.exportable,
        allow_plaintext_backup=policy.allow_plaintext_backup,
        auto_rotate_period=policy.auto_rotate_period // 1_000_000_000,
        derived=policy.derived,
        convergent_encryption=policy.convergent_encryption,
        imported=policy.imported,
        allow_rotation=policy.allow_rotation or not policy.imported,
        soft_deleted=policy.soft_deleted,
        rotated=now,
        backed_up=_transfer(policy.backup_info),
        restored=Transfer(now, policy.latest_version),
        life=replace(document.keystead.life, changes=0) if document.keystead else Life(),
    )
    versions = _versions(key, document)
    if algorithm.kind is Kind.MAC:
        newest = versions[-1].material
        key = replace(key, key_size=len(newest.secret) if isinstance(newest, SoftwareMaterial) else 0)
    return key, versions


# A struct that two threads convert to for the first time at once crashes the process: this prepares it.
msgspec.json.Decoder(Document)


def _parse(text: str) -> Document:
    if len(text) > MAX_BACKUP_CHARACTERS:
        raise invalid("the backup is longer than any key")
    try:
        raw: Any = json.loads(b64decode(text, validate=True))
        return msgspec.convert(raw, Document)
    except (ValueError, msgspec.ValidationError, RecursionError):
        raise invalid(_UNREADABLE) from None


def _check(policy: Policy) -> None:
    newest = policy.latest_version
    bounds = (policy.min_decryption_version, policy.min_encryption_version, policy.min_available_version)
    if not 0 < newest <= MAX_VERSIONS or any(not 0 <= bound <= newest for bound in bounds):
        raise invalid(_UNREADABLE)
    if policy.auto_rotate_period < 0 or (policy.convergent_encryption and not policy.derived):
        raise invalid(_UNREADABLE)


def _versions(key: NamedKey, document: Document) -> list[KeyVersion]:
    policy = document.policy
    first = max(policy.min_available_version, 1)
    known = dict(policy.keys)
    # What may no longer decrypt is in the archive only, which begins at archive_min_version.
    for place, entry in enumerate(document.archived_keys.keys):
        known.setdefault(str(place + policy.archive_min_version), entry)
    versions = []
    for number in range(first, policy.latest_version + 1):
        found = known.get(str(number))
        if found is None:
            raise invalid(_UNREADABLE)
        versions.append(version_of(key, number, found))
    return versions


def _transfer(stamp: Stamp | None) -> Transfer | None:
    return Transfer(seconds_of(stamp.time), stamp.version) if stamp else None
