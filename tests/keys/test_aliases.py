"""Aliases: what they may not be, where they are followed, and where they lead when keys come and go."""

from __future__ import annotations

from typing import Any

import pytest

from kms.errors import ErrorKind, KmsError
from kms.operation import Call, Principal
from kms.operations import operations
from kms.policy import Decision
from tests.keys.rig import Rig

P = "aGVsbG8="
DAY = 86_400.0


@pytest.fixture(autouse=True)
def allow(rig: Rig) -> set[str]:
    """Policy for the second question; the returned paths are refused."""
    refused: set[str] = set()

    def decide(_principal: Principal, call: Call) -> Decision:
        return Decision(allowed=call.path not in refused, rule="test", why="")

    rig.table = {o.name: o for o in operations(rig.service, decide)}
    return refused


def refused(rig: Rig, operation: str, kind: ErrorKind = ErrorKind.INVALID, **args: Any) -> str:
    with pytest.raises(KmsError) as caught:
        rig.result(operation, **args)
    assert caught.value.kind is kind
    return caught.value.detail


def point(rig: Rig, alias: str, key: str) -> None:
    rig.run("aliases.point", alias=alias, key=key)


def test_what_cannot_be_an_alias_is_refused(rig: Rig) -> None:
    rig.create("k")
    rig.create("other")
    assert "no existing key" in refused(rig, "aliases.point", alias="a", key="none")
    assert "missing key" in refused(rig, "aliases.point", alias="a", key="")
    assert "is the name of a key" in refused(rig, "aliases.point", alias="other", key="k")
    assert "alias" in refused(rig, "aliases.point", alias="a b", key="k")
    point(rig, "a", "k")
    assert "no existing key" in refused(rig, "aliases.point", alias="b", key="a")  # no chains
    refused(rig, "aliases.read", ErrorKind.NOT_FOUND, alias="b")
    for n in range(49):
        point(rig, f"a{n}", "k")
    assert "at most 50" in refused(rig, "aliases.point", alias="more", key="k")


def test_a_key_cannot_take_the_name_of_an_alias(rig: Rig) -> None:
    rig.create("k", exportable=True, allow_plaintext_backup=True)
    backup = rig.run("backup", name="k")["backup"]
    point(rig, "a", "k")
    assert "is an alias of key k" in refused(rig, "keys.create", name="a")
    assert "is an alias of key k" in refused(rig, "restore", name="a", backup=backup)
    rig.run("keys.config", name="k", deletion_allowed=True)
    rig.run("keys.delete", name="k")
    # The alias leads nowhere now; encrypt must not make a key of its name either.
    assert "is an alias of key k" in refused(rig, "encrypt", name="a", plaintext=P)


def test_policy_is_asked_for_both_keys(rig: Rig, allow: set[str]) -> None:
    rig.create("k")
    rig.create("other")
    allow.add("transit/aliases/to/k")
    refused(rig, "aliases.point", ErrorKind.DENIED, alias="a", key="k")
    allow.clear()
    point(rig, "a", "k")
    allow.add("transit/aliases/to/k")
    refused(rig, "aliases.point", ErrorKind.DENIED, alias="a", key="other")  # taken away from k
    allow.clear()
    point(rig, "a", "other")


def test_an_alias_is_followed_where_a_key_is_used_and_not_where_it_is_changed(rig: Rig) -> None:
    rig.create("k")
    point(rig, "a", "k")
    sealed = rig.run("encrypt", name="a", plaintext=P)["ciphertext"]
    assert rig.run("decrypt", name="k", ciphertext=sealed)["plaintext"] == P
    assert rig.run("decrypt", name="a", ciphertext=sealed)["plaintext"] == P
    shown = rig.run("keys.read", name="a")
    assert (shown["name"], shown["aliases"]) == ("k", ["a"])
    for operation in ("keys.rotate", "keys.config", "keys.delete", "keys.suspend", "keys.trim"):
        refused(rig, operation, name="a", reason="because")


def test_every_process_follows_a_move_at_once(rig: Rig) -> None:
    rig.create("k")
    rig.create("next", "aes128-gcm96")
    point(rig, "a", "k")
    other = rig.another()
    assert other.result("encrypt", name="a", plaintext=P).subject["key_id"] == _id(rig, "k")
    for target in ("next", "k", "next"):
        point(rig, "a", target)
        assert other.result("encrypt", name="a", plaintext=P).subject["key_id"] == _id(rig, target)
        assert rig.run("aliases.read", alias="a")["key"] == target
    rig.run("aliases.delete", alias="a")
    assert rig.result("aliases.delete", alias="a").data is None
    other.store.refresh()
    assert other.service.get("mount-1", "a") is None


def test_an_alias_never_leads_to_a_stranger_of_the_same_name(rig: Rig) -> None:
    rig.create("k")
    old = _id(rig, "k")
    point(rig, "a", "k")
    rig.run("keys.config", name="k", deletion_allowed=True)
    rig.run("keys.delete", name="k")
    rig.create("k")
    assert "not found" in refused(rig, "decrypt", name="a", ciphertext="vault:v1:" + "A" * 60)
    rig.run("pending.restore", pending_id=old, name="back")  # follows the key, under its new name
    assert rig.run("keys.read", name="a")["name"] == "back"
    rig.run("encrypt", name="a", plaintext=P)


def test_aliases_end_with_their_key_and_their_mount(rig: Rig) -> None:
    for name in ("k", "other"):
        rig.create(name)
        point(rig, f"alias-of-{name}", name)
    rig.run("keys.config", name="k", deletion_allowed=True)
    rig.run("keys.delete", name="k")
    rig.clock.seconds += 31 * DAY
    for chore in rig.service.chores(rig.clock.now()):
        rig.external(chore.external)
    assert rig.run("aliases.list")["keys"] == ["alias-of-other"]
    with rig.store.transaction() as tx:
        rig.service.retire_mount(tx, "mount-1")
    refused(rig, "aliases.list", ErrorKind.NOT_FOUND)


def test_lists_come_in_pages(rig: Rig) -> None:
    rig.create("k")
    for n in range(5):
        point(rig, f"a{n}", "k")
        rig.create(f"k{n}")
        rig.run("keys.config", name=f"k{n}", deletion_allowed=True)
        rig.run("keys.delete", name=f"k{n}")
    for operation in ("aliases.list", "pending.list"):
        everything = rig.run(operation)["keys"]
        assert len(everything) == 5
        pages: list[str] = []
        while len(pages) < 5:
            page = rig.run(operation, after=pages[-1] if pages else "", limit=2)["keys"]
            assert 0 < len(page) <= 2
            pages += page
        assert pages == everything
        refused(rig, operation, ErrorKind.NOT_FOUND, after=everything[-1])


def _id(rig: Rig, name: str) -> str:
    live = rig.service.get("mount-1", name)
    assert live is not None
    return live.key.id
