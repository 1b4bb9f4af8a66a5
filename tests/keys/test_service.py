"""KeyService on a real database: names, versions, settings, deletion, and what other processes see."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kms.errors import ErrorKind, KmsError
from kms.keys.lifecycle import Wish
from kms.keys.model import KeyVersion, NamedKey, SoftwareMaterial
from kms.keys.store import KEY_VERSIONS, NAMED_KEYS, RETIRED_KEYS
from kms.operation import Change, MountRef
from tests.keys.rig import Rig

P = "aGVsbG8="


def refused(rig: Rig, operation: str, **args: Any) -> str:
    with pytest.raises(KmsError) as caught:
        rig.run(operation, **args)
    assert caught.value.kind is ErrorKind.INVALID
    return caught.value.detail


MISSING = [
    ("keys.rotate", "key not found"),
    ("keys.config", "no existing key named none could be found"),
    ("keys.delete", "error deleting policy none: could not delete key; not found"),
]


@pytest.mark.parametrize(("operation", "text"), MISSING)
def test_a_key_that_is_not_there_cannot_be_changed(rig: Rig, operation: str, text: str) -> None:
    assert refused(rig, operation, name="none") == text


def test_reading_nothing_is_not_found(rig: Rig) -> None:
    for operation, args in (("keys.read", {"name": "none"}), ("keys.list", {})):
        with pytest.raises(KmsError) as caught:
            rig.run(operation, **args)
        assert (caught.value.kind, caught.value.detail) == (ErrorKind.NOT_FOUND, "")


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a b", "a.", "x" * 129, "a\n", "é"])
def test_a_name_has_one_spelling(rig: Rig, name: str) -> None:
    assert "invalid key name" in refused(rig, "keys.create", name=name)
    with rig.store.transaction() as tx:
        assert tx.keys(NAMED_KEYS) == []


def test_the_key_object_has_every_field(rig: Rig) -> None:
    data = rig.create("k", auto_rotate_period=3600, exportable=True)
    assert data == {
        "name": "k",
        "type": "aes256-gcm96",
        "protection": "software",
        "derived": False,
        "deletion_allowed": False,
        "exportable": True,
        "allow_plaintext_backup": False,
        "auto_rotate_period": 3600,
        "imported_key": False,
        "latest_version": 1,
        "min_available_version": 0,
        "min_decryption_version": 1,
        "min_encryption_version": 0,
        "supports_encryption": True,
        "supports_decryption": True,
        "supports_signing": False,
        "supports_derivation": True,
        "soft_deleted": False,
        "state": "active",
        "state_since": "2023-11-14T22:13:20.000000Z",
        "risk_accepted": False,
        "activation_date": "",
        "deactivation_date": "",
        "cryptoperiod": 0,
        "owner": "",
        "contact": "",
        "tags": {},
        "compromised_version": 0,
        "aliases": [],
        "keys": {"1": 1_700_000_000},
    }
    assert rig.run("keys.read", name="k") == data


def test_creating_again_changes_nothing(rig: Rig) -> None:
    first = rig.create("k")
    assert rig.create("k", "rsa-2048") == first
    assert rig.steps == ["result"]
    result = rig.result("keys.create", name="k", protection="hsm")
    assert result.data == first
    assert "never changes" in result.warnings[0]


def test_names_are_listed_in_order_and_by_mount(rig: Rig) -> None:
    for name in ("b", "a", "c"):
        rig.create(name)
    other = MountRef("mount-2", "other/", "transit", "transit_1")
    rig.result("keys.create", other, name="d")
    assert rig.run("keys.list")["keys"] == ["a", "b", "c"]
    assert rig.run("keys.list", after="a", limit=1)["keys"] == ["b"]
    assert rig.run("keys.list", limit=-1)["keys"] == ["a", "b", "c"]
    with pytest.raises(KmsError):
        rig.run("keys.list", after="c")
    assert rig.result("keys.list", other).data == {"keys": ["d"]}


def test_a_rotated_key_still_opens_what_it_closed(rig: Rig) -> None:
    rig.create("k")
    sealed = [rig.run("encrypt", name="k", plaintext=P)["ciphertext"]]
    for expected in (2, 3):
        assert rig.run("keys.rotate", name="k")["latest_version"] == expected
        sealed.append(rig.run("encrypt", name="k", plaintext=P)["ciphertext"])
    assert [text.split(":")[1] for text in sealed] == ["v1", "v2", "v3"]
    for text in sealed:
        assert rig.run("decrypt", name="k", ciphertext=text) == {"plaintext": P}


def test_raising_the_minimum_closes_old_versions_and_lowering_opens_them(rig: Rig) -> None:
    rig.create("k")
    old = rig.run("encrypt", name="k", plaintext=P)["ciphertext"]
    rig.run("keys.rotate", name="k")
    data = rig.run("keys.config", name="k", min_decryption_version=2)
    assert list(data["keys"]) == ["2"]
    assert "too old" in refused(rig, "decrypt", name="k", ciphertext=old)
    rig.run("keys.config", name="k", min_decryption_version=1)
    assert rig.run("decrypt", name="k", ciphertext=old) == {"plaintext": P}


def test_concurrent_rotations_never_share_a_number(rig: Rig) -> None:
    """I2, I3: one primary version, and numbers that never repeat."""
    rig.create("k")
    plans = [rig.service.rotate("mount-1", "k") for _ in range(5)]
    for plan in plans:  # all were planned on version 1
        assert isinstance(plan, Change)
        with rig.store.transaction() as tx:
            plan.write(tx)
    assert rig.run("keys.read", name="k")["latest_version"] == 6
    versions = [row.value for row in rig.store.reader().scan(KEY_VERSIONS)]
    assert [version.version for version in versions] == [1, 2, 3, 4, 5, 6]
    assert len({_secret(version) for version in versions}) == 6


def _secret(version: KeyVersion) -> bytes:
    assert isinstance(version.material, SoftwareMaterial)
    return version.material.secret


def test_rotating_from_threads_loses_nothing(rig: Rig) -> None:
    rig.create("k")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: rig.run("keys.rotate", name="k"), range(12)))
    assert rig.run("keys.read", name="k")["latest_version"] == 13


def test_a_rotation_planned_on_a_deleted_key_makes_nothing(rig: Rig) -> None:
    rig.create("k")
    plan = rig.service.rotate("mount-1", "k")
    rig.run("keys.config", name="k", deletion_allowed=True)
    rig.run("keys.delete", name="k")
    rig.create("k")
    assert isinstance(plan, Change)
    with pytest.raises(KmsError) as caught, rig.store.transaction() as tx:
        plan.write(tx)
    assert caught.value.kind is ErrorKind.CONFLICT
    assert rig.run("keys.read", name="k")["latest_version"] == 1


def test_a_failed_write_leaves_no_trace(rig: Rig) -> None:
    plan = rig.service.create("mount-1", "k", Wish())
    assert isinstance(plan, Change)
    with pytest.raises(RuntimeError, match="injected"), rig.store.transaction() as tx:
        plan.write(tx)
        raise RuntimeError("injected")
    assert rig.store.reader().keys(NAMED_KEYS) == []
    assert rig.store.reader().keys(KEY_VERSIONS) == []
    assert rig.service.get("mount-1", "k") is None


def test_deletion_needs_permission_and_frees_the_name(rig: Rig) -> None:
    rig.create("k")
    old = rig.run("encrypt", name="k", plaintext=P)["ciphertext"]
    assert refused(rig, "keys.delete", name="k") == (
        "error deleting policy k: deletion is not allowed for this key"
    )
    rig.run("keys.config", name="k", deletion_allowed=True)
    result = rig.result("keys.delete", name="k")
    assert result.data is None
    assert refused(rig, "decrypt", name="k", ciphertext=old) == "encryption key not found"
    rig.create("k")
    assert "authentication failed" in refused(rig, "decrypt", name="k", ciphertext=old)


def test_deleted_material_waits_for_its_destruction(rig: Rig) -> None:
    rig.create("k")
    rig.run("keys.config", name="k", deletion_allowed=True)
    rig.run("keys.delete", name="k")
    [retired] = rig.store.reader().scan(RETIRED_KEYS)
    assert retired.value.destroy_after == rig.clock.now() + 30 * 86_400.0
    assert retired.value.key.name == "k"
    assert len(rig.store.reader().scan(KEY_VERSIONS, retired.value.key.id)) == 1


def test_another_process_sees_each_change_at_its_next_request(rig: Rig) -> None:
    """T-32b for keys: what one worker changed, no other worker still uses."""
    other = rig.another()
    rig.create("k")
    sealed = other.run("encrypt", name="k", plaintext=P)["ciphertext"]
    rig.run("keys.rotate", name="k")
    assert other.run("encrypt", name="k", plaintext=P)["key_version"] == 2
    rig.run("keys.config", name="k", min_decryption_version=2, deletion_allowed=True)
    assert "too old" in refused(other, "decrypt", name="k", ciphertext=sealed)
    rig.run("keys.delete", name="k")
    assert refused(other, "encrypt", name="k", plaintext=P, type="bogus") == "unknown key type bogus"
    assert refused(other, "decrypt", name="k", ciphertext=sealed) == "encryption key not found"


def test_keys_leave_memory_when_the_server_seals_and_after_an_hour(rig: Rig) -> None:
    rig.create("k")
    rig.run("encrypt", name="k", plaintext=P)
    assert rig.service.peek("mount-1", "k") is not None
    rig.store.lock()
    assert rig.service.peek("mount-1", "k") is None
    rig.store.unlock(rig.sealer)
    rig.run("encrypt", name="k", plaintext=P)
    rig.clock.sleep(3601)
    assert rig.service.expire() == 1
    assert rig.service.peek("mount-1", "k") is None


def test_a_row_of_another_key_is_refused(rig: Rig) -> None:
    """T-02b: material under a protection that its name does not have."""
    rig.create("k")
    with rig.store.transaction() as tx:
        [row] = tx.scan(NAMED_KEYS)
        values = {name: getattr(row.value, name) for name in NamedKey.__struct_fields__}
        tx.replace(NAMED_KEYS, row, NamedKey(**{**values, "protection": "hsm"}))
    with pytest.raises(KmsError) as caught:
        rig.run("encrypt", name="k", plaintext=P)
    assert caught.value.kind is ErrorKind.INTEGRITY


def test_no_key_bytes_in_any_repr(rig: Rig) -> None:
    rig.create("k")
    [row] = rig.store.reader().scan(KEY_VERSIONS)
    secret = _secret(row.value)
    assert repr(secret)[2:-1] not in repr(row)
    assert repr(row.value.material) == "<SoftwareMaterial 32 bytes>"


def test_settings_of_a_mount(rig: Rig) -> None:
    assert rig.run("settings.read")["disable_upsert"] is False
    assert rig.run("settings.update", disable_upsert=True)["disable_upsert"] is True
    assert rig.run("settings.update")["disable_upsert"] is True
    assert rig.another().run("settings.read")["disable_upsert"] is True
    assert refused(rig, "encrypt", name="new", plaintext=P) == "encryption key not found"
    rig.run("settings.update", disable_upsert=False)
    assert rig.run("encrypt", name="new", plaintext=P)["key_version"] == 1


def test_removing_a_mount_frees_its_keys_and_no_others(rig: Rig) -> None:
    other = MountRef("mount-2", "other/", "transit", "transit_1")
    for name in ("a", "b"):
        rig.create(name)
    rig.result("keys.create", other, name="c")
    with rig.store.transaction() as tx:
        assert rig.service.retire_mount(tx, "mount-1") == 2
    assert rig.store.reader().keys(NAMED_KEYS) == ["mount-2/c"]
    assert len(rig.store.reader().scan(RETIRED_KEYS)) == 2
