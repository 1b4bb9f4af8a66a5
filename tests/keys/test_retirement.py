"""The end of keys: waiting, restoring, cancelling, destroying; and that destroyed means gone."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from kms.errors import ErrorKind, KmsError
from kms.keys.life import NEVER
from kms.keys.model import KeyVersion, ResidentMaterial, VersionState
from kms.keys.store import KEY_VERSIONS, RETIRED_KEYS
from kms.operation import External
from tests.keys.fixtures import Token
from tests.keys.rig import Rig

P = "aGVsbG8="
DAY = 86_400.0


def refused(rig: Rig, operation: str, **args: Any) -> str:
    with pytest.raises(KmsError) as caught:
        rig.run(operation, **args)
    assert caught.value.kind is ErrorKind.INVALID
    return caught.value.detail


def deleted(rig: Rig, name: str = "k", **args: Any) -> str:
    """Delete a key; its pending id."""
    rig.run("keys.config", name=name, deletion_allowed=True)
    rig.result("keys.delete", name=name, **args)
    return str(rig.run("pending.list")["keys"][-1])


def trimmed(rig: Rig) -> str:
    """Key k with versions 1 to 3, of which 1 and 2 are trimmed; the pending id."""
    rig.create("k")
    for _ in range(2):
        rig.run("keys.rotate", name="k")
    rig.run("keys.config", name="k", min_decryption_version=3, min_encryption_version=3)
    rig.run("keys.trim", name="k", min_available_version=3)
    return str(rig.run("pending.list")["keys"][0])


def destroy(rig: Rig) -> int:
    """What the jobs process does; how many items it destroyed."""
    rig.store.refresh()
    chores = rig.service.retirement.destructions(rig.clock.now(), 10)
    for chore in chores:
        assert chore.operation in rig.table
        rig.external(chore.external)
    return len(chores)


def states(rig: Rig) -> list[VersionState]:
    return [row.value.state for row in rig.store.reader().scan(KEY_VERSIONS)]


@pytest.mark.parametrize("days", [-1, 0, 6, 31])
def test_the_waiting_time_has_bounds(rig: Rig, days: int) -> None:
    rig.create("k")
    rig.run("keys.config", name="k", deletion_allowed=True)
    assert "waiting_days is 7 to 30" in refused(rig, "keys.delete", name="k", waiting_days=days)
    assert rig.run("keys.read", name="k")["name"] == "k"


@pytest.mark.parametrize("days", [7, 30])
def test_nothing_is_destroyed_before_its_time(rig: Rig, days: int) -> None:
    rig.create("k")
    which = deleted(rig, waiting_days=days)
    rig.clock.seconds += days * DAY
    assert destroy(rig) == 0
    assert rig.run("pending.read", pending_id=which)["state"] == "waiting"
    rig.clock.seconds += 1
    assert destroy(rig) == 1
    assert rig.run("pending.read", pending_id=which)["state"] == "destroyed"
    assert destroy(rig) == 0
    assert states(rig) == [VersionState.DESTROYED]


def test_a_deleted_key_comes_back_as_it_was(rig: Rig) -> None:
    rig.create("k")
    sealed = rig.run("encrypt", name="k", plaintext=P)["ciphertext"]
    which = deleted(rig)
    assert refused(rig, "decrypt", name="k", ciphertext=sealed) == "encryption key not found"
    rig.run("pending.restore", pending_id=which, name="")
    assert rig.run("decrypt", name="k", ciphertext=sealed) == {"plaintext": P}
    with pytest.raises(KmsError):
        rig.run("pending.list")


def test_a_name_in_use_is_not_taken_by_a_restore(rig: Rig) -> None:
    rig.create("k")
    sealed = rig.run("encrypt", name="k", plaintext=P)["ciphertext"]
    which = deleted(rig)
    rig.create("k")
    assert "in use" in refused(rig, "pending.restore", pending_id=which)
    assert rig.run("pending.restore", pending_id=which, name="old")["name"] == "old"
    assert rig.run("decrypt", name="old", ciphertext=sealed) == {"plaintext": P}
    assert "authentication" in refused(rig, "decrypt", name="k", ciphertext=sealed)


def test_a_cancelled_destruction_waits_for_ever_until_it_is_scheduled_again(rig: Rig) -> None:
    rig.create("k")
    which = deleted(rig)
    assert rig.run("pending.cancel", pending_id=which)["state"] == "kept"
    rig.clock.seconds += 400 * DAY
    assert destroy(rig) == 0
    assert rig.run("pending.schedule", pending_id=which, waiting_days=7)["state"] == "waiting"
    rig.clock.seconds += 7 * DAY + 1
    assert destroy(rig) == 1


def test_scheduling_again_never_shortens_the_wait(rig: Rig) -> None:
    rig.create("k")
    which = deleted(rig, waiting_days=30)
    before = rig.run("pending.read", pending_id=which)["destroy_time"]
    assert rig.run("pending.schedule", pending_id=which, waiting_days=7)["destroy_time"] == before
    rig.clock.seconds += 29 * DAY
    assert rig.run("pending.schedule", pending_id=which, waiting_days=7)["destroy_time"] > before


def test_a_destroyed_key_cannot_come_back(rig: Rig) -> None:
    rig.create("k")
    which = deleted(rig)
    rig.clock.seconds += 31 * DAY
    destroy(rig)
    for operation in ("pending.restore", "pending.cancel", "pending.schedule"):
        assert "was destroyed" in refused(rig, operation, pending_id=which)
    record = rig.run("pending.read", pending_id=which)
    assert (record["name"], record["type"], record["destroy_time"]) == ("k", "aes256-gcm96", "")


def test_trimmed_versions_are_unusable_and_come_back(rig: Rig) -> None:
    which = trimmed(rig)
    assert states(rig) == [VersionState.RETIRED, VersionState.RETIRED, VersionState.ACTIVE]
    text = refused(rig, "keys.config", name="k", min_decryption_version=1)
    assert text == "min decryption version should not be less then min available version"
    data = rig.run("pending.restore", pending_id=which)
    assert data["min_available_version"] == 0
    assert set(states(rig)) == {VersionState.ACTIVE}
    assert list(rig.run("keys.config", name="k", min_decryption_version=1)["keys"]) == ["1", "2", "3"]


def test_trimmed_versions_come_back_newest_first(rig: Rig) -> None:
    rig.create("k")
    for _ in range(2):
        rig.run("keys.rotate", name="k")
    rig.run("keys.config", name="k", min_decryption_version=3, min_encryption_version=3)
    for wanted in (2, 3):
        rig.run("keys.trim", name="k", min_available_version=wanted)
    older, newer = rig.run("pending.list")["keys"]
    assert "newest first" in refused(rig, "pending.restore", pending_id=older)
    rig.run("pending.restore", pending_id=newer)
    assert rig.run("pending.restore", pending_id=older)["min_available_version"] == 0


def test_versions_of_a_deleted_key_wait_for_the_key(rig: Rig) -> None:
    which = trimmed(rig)
    whole = deleted(rig)
    ids = rig.run("pending.list")["keys"]
    assert set(ids) == {which, which.partition(".")[0]}
    assert "restore it first" in refused(rig, "pending.restore", pending_id=which)
    rig.run("pending.restore", pending_id=which.partition(".")[0])
    rig.run("pending.restore", pending_id=which)
    assert whole in ids


def test_only_trimmed_versions_are_destroyed_with_a_trim(rig: Rig) -> None:
    trimmed(rig)
    sealed = rig.run("encrypt", name="k", plaintext=P)["ciphertext"]
    rig.clock.seconds += 31 * DAY
    assert destroy(rig) == 1
    assert states(rig) == [VersionState.DESTROYED, VersionState.DESTROYED, VersionState.ACTIVE]
    assert rig.run("decrypt", name="k", ciphertext=sealed) == {"plaintext": P}


def test_what_was_begun_is_finished_after_a_crash(rig: Rig) -> None:
    rig.create("k")
    which = deleted(rig)
    rig.clock.seconds += 31 * DAY
    [chore] = rig.service.retirement.destructions(rig.clock.now(), 10)
    assert chore.external.begin is not None
    with rig.store.transaction() as tx:
        chore.external.begin(tx)
    assert "has begun" in refused(rig, "pending.restore", pending_id=which)
    resolved = rig.table["transit.pending.destroy"].resolve
    assert resolved is not None
    again = resolved(chore.external.intent)
    assert again is not None
    rig.external(again)
    assert states(rig) == [VersionState.DESTROYED]
    assert resolved(chore.external.intent) is None


def test_a_destruction_called_off_at_the_last_moment_does_not_happen(rig: Rig) -> None:
    rig.create("k")
    which = deleted(rig)
    rig.clock.seconds += 31 * DAY
    [chore] = rig.service.retirement.destructions(rig.clock.now(), 10)
    rig.run("pending.cancel", pending_id=which)
    with pytest.raises(KmsError, match="called off"):
        rig.external(chore.external)
    rig.run("pending.restore", pending_id=which)


def test_no_request_destroys(rig: Rig) -> None:
    assert "no request can do it" in refused(rig, "pending.destroy")


def test_pending_material_is_listed_by_mount(rig: Rig) -> None:
    rig.create("k")
    deleted(rig)
    with rig.store.transaction() as tx:
        assert rig.service.retire_mount(tx, "mount-2") == 0
    assert list(rig.service.retirement.pending("mount-2")) == []
    assert len(rig.service.retirement.pending("mount-1")) == 1


@pytest.mark.parametrize("protection", ["software", "hsm"])
def test_destroyed_bytes_are_in_no_file(hsm_rig: Rig, protection: str) -> None:
    """Database, write-ahead log and free pages; the sealed row too, so a keyring thief finds nothing."""
    rig = hsm_rig
    rig.create("k", protection=protection)
    [row] = rig.store.reader().scan(KEY_VERSIONS)
    [path] = list(rig.folder.rglob("*.db"))
    connection = sqlite3.connect(path)
    [(body,)] = connection.execute("SELECT body FROM key_versions").fetchall()
    deleted(rig)
    rig.clock.seconds += 31 * DAY
    destroy(rig)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    found = b"".join(file.read_bytes() for file in rig.folder.rglob("*") if file.is_file())
    assert b"key_versions" in found
    assert body[40:72] not in found
    assert body[-48:] not in found
    assert isinstance(row.value, KeyVersion)


def test_objects_in_the_token_go_before_the_rows_say_so(hsm_rig: Rig, token: Token) -> None:
    rig = hsm_rig
    rig.create("k", "aes128-cmac", protection="hsm")
    [row] = rig.store.reader().scan(KEY_VERSIONS)
    assert isinstance(row.value.material, ResidentMaterial)
    cka_id = row.value.material.cka_id
    which = deleted(rig)
    rig.clock.seconds += 31 * DAY
    [chore] = rig.service.retirement.destructions(rig.clock.now(), 10)
    assert chore.external.begin is not None
    with rig.store.transaction() as tx:
        chore.external.begin(tx)
    assert chore.external.perform() is None
    assert cka_id not in {found for found, _ in token.hsm.objects("keystead key")}
    assert rig.run("pending.read", pending_id=which)["state"] == "destroying"
    assert destroy(rig) == 1
    assert states(rig) == [VersionState.DESTROYED]
    assert rig.store.reader().scan(RETIRED_KEYS)[0].value.destroy_after == NEVER


# -- rotation by itself -----------------------------------------------------------------------------


def rotate(rig: Rig) -> int:
    rig.store.refresh()
    chores = rig.service.chores(rig.clock.now())
    for chore in chores:
        assert chore.operation == "transit.keys.rotate"
        assert isinstance(chore.external, External)
        rig.external(chore.external)
    return len(chores)


@pytest.mark.parametrize(("type_", "protection"), [("aes256-gcm96", "hsm"), ("ed25519", "hsm"), ("hmac", "")])
def test_a_key_rotates_when_its_period_is_over(hsm_rig: Rig, type_: str, protection: str) -> None:
    rig = hsm_rig
    rig.create("k", type_, protection=protection, auto_rotate_period=3600)
    rig.create("never", type_, protection=protection)
    rig.clock.seconds += 3600
    assert rotate(rig) == 0
    rig.clock.seconds += 1
    assert rotate(rig) == 1
    assert rotate(rig) == 0
    assert rig.run("keys.read", name="k")["latest_version"] == 2
    assert rig.run("keys.read", name="never")["latest_version"] == 1
    rig.clock.seconds += 3000
    rig.run("keys.rotate", name="k")
    rig.clock.seconds += 3000
    assert rotate(rig) == 0


def test_what_may_not_rotate_is_left_alone(rig: Rig) -> None:
    rig.create("soft", auto_rotate_period=3600)
    rig.run("keys.soft-delete", name="soft")
    rig.create("gone", auto_rotate_period=3600)
    deleted(rig, "gone")
    rig.create("off", auto_rotate_period=3600)
    rig.run("keys.config", name="off", auto_rotate_period=0)
    rig.clock.seconds += 10_000
    assert rotate(rig) == 0
    rig.run("keys.soft-restore", name="soft")
    assert rotate(rig) == 1


def test_a_rotation_that_another_process_made_is_not_made_twice(rig: Rig) -> None:
    rig.create("k", auto_rotate_period=3600)
    rig.clock.seconds += 3601
    [mine] = rig.service.chores(rig.clock.now())
    other = rig.another()
    assert rotate(other) == 1
    rig.external(mine.external)
    assert rig.run("keys.read", name="k")["latest_version"] == 3  # late, but in order and only once more
