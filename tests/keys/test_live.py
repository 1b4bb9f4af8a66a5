"""Keys in memory: bounded, and never older than the last refresh."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from kms.errors import ErrorKind, KmsError
from kms.keys import live
from kms.keys.model import KeyVersion
from kms.keys.store import KEY_VERSIONS, NAMED_KEYS
from tests.keys.rig import Rig

P = "aGVsbG8="


def test_the_number_of_keys_is_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MAX_KEYS", 3)
    for number in range(6):
        rig.create(f"k{number}")
        rig.run("encrypt", name=f"k{number}", plaintext=P)
    assert len(rig.service._live._keys) == 3
    assert len(rig.service._live._names) == 3
    assert rig.run("encrypt", name="k0", plaintext=P)["key_version"] == 1


def test_the_number_of_opened_versions_is_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MAX_VERSIONS", 2)
    rig.create("k")
    for _ in range(4):
        rig.run("keys.rotate", name="k")
    for version in (1, 2, 3, 4, 5, 1):
        assert rig.run("encrypt", name="k", plaintext=P, key_version=version)["key_version"] == version
    found = rig.service.get("mount-1", "k")
    assert found is not None
    assert len(found._versions) == 2


def test_a_change_between_read_and_insert_wins(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.create("k")
    other = rig.another()
    reader = rig.store.reader()
    get = type(reader).get
    raced: list[str] = []

    def slow(self: Any, table: Any, key: str) -> Any:
        row = get(self, table, key)
        if self is reader and table is NAMED_KEYS and not raced:
            raced.append(key)
            other.run("keys.rotate", name="k")
            rig.store.refresh()
        return row

    monkeypatch.setattr(type(reader), "get", slow)
    stale = rig.service.get("mount-1", "k")
    assert raced == ["mount-1/k"]
    assert stale is not None
    assert stale.key.latest_version == 1  # this request began before the rotation was acknowledged
    assert rig.service.peek("mount-1", "k") is None
    assert rig.run("encrypt", name="k", plaintext=P)["key_version"] == 2


def test_old_keys_leave_when_others_are_loaded(rig: Rig) -> None:
    for name in ("a", "b"):
        rig.create(name)
    rig.run("encrypt", name="a", plaintext=P)
    rig.clock.sleep(live.MAX_AGE_SECONDS + 1)
    rig.run("encrypt", name="b", plaintext=P)
    assert rig.service.peek("mount-1", "a") is None
    rig.clock.sleep(live.MAX_AGE_SECONDS + 1)
    assert rig.run("encrypt", name="b", plaintext=P)["key_version"] == 1


def _change(rig: Rig, **changes: Any) -> None:
    with rig.store.transaction() as tx:
        [row] = tx.scan(KEY_VERSIONS)
        tx.replace(KEY_VERSIONS, row, replace(row.value, **changes))


def test_a_changed_version_row_drops_its_key(rig: Rig) -> None:
    rig.create("k")
    rig.run("encrypt", name="k", plaintext=P)
    _change(rig, wrapping="00")
    assert rig.service.peek("mount-1", "k") is None


def test_a_version_without_its_hmac_key_is_refused(rig: Rig) -> None:
    rig.create("k")
    _change(rig, mac=None)
    with pytest.raises(KmsError) as caught:
        rig.run("encrypt", name="k", plaintext=P)
    assert caught.value.kind is ErrorKind.INTEGRITY


def test_a_missing_version_is_no_version(rig: Rig) -> None:
    rig.create("k")
    with rig.store.transaction() as tx:
        [row] = tx.scan(KEY_VERSIONS)
        tx.delete(KEY_VERSIONS, row)
        assert isinstance(row.value, KeyVersion)
    with pytest.raises(KmsError, match="no such key version"):
        rig.run("encrypt", name="k", plaintext=P)
