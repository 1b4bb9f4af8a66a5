"""Keys of protection hsm on a real token: births, interrupted births, theft from the database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from kms.errors import ErrorKind, KmsError
from kms.hsm import Hsm
from kms.ids import CkaId
from kms.keys import Wish
from kms.keys.model import KeyVersion, ResidentMaterial, VersionState, WrappedMaterial
from kms.keys.service import SETTLING_SECONDS
from kms.keys.store import KEY_VERSIONS, NAMED_KEYS, version_key
from kms.operation import Change, External
from kms.tables import Row
from tests.keys.fixtures import Token
from tests.keys.rig import Rig

P = "aGVsbG8="
HSM_TYPES = [
    "aes128-gcm96",
    "aes256-gcm96",
    "ed25519",
    "ecdsa-p256",
    "ecdsa-p384",
    "ecdsa-p521",
    "rsa-2048",
    "hmac",
    "aes128-cmac",
    "aes192-cmac",
    "aes256-cmac",
]


def versions(rig: Rig) -> list[Row[KeyVersion]]:
    return rig.store.reader().scan(KEY_VERSIONS)


def objects(token: Token) -> set[CkaId]:
    return {cka_id for cka_id, _ in token.hsm.objects("keystead key")}


def unavailable() -> KmsError:
    return KmsError(ErrorKind.HSM_UNAVAILABLE, "the token is gone")


@pytest.mark.parametrize("type_", HSM_TYPES)
def test_no_bytes_of_an_hsm_key_are_stored(hsm_rig: Rig, type_: str) -> None:
    data = hsm_rig.create("k", type_, protection="hsm")
    assert data["protection"] == "hsm"
    [row] = versions(hsm_rig)
    kinds = {type(part) for part in (row.value.material, row.value.mac) if part is not None}
    assert kinds <= {WrappedMaterial, ResidentMaterial}


@pytest.mark.parametrize("type_", HSM_TYPES)
def test_an_hsm_key_is_used_and_rotated(hsm_rig: Rig, type_: str) -> None:
    hsm_rig.create("k", type_, protection="hsm")
    old = hsm_rig.run("hmac", name="k", input=P)["hmac"]
    assert hsm_rig.run("keys.rotate", name="k")["latest_version"] == 2
    assert hsm_rig.run("verify", name="k", input=P, hmac=old) == {"valid": True}
    new = hsm_rig.run("hmac", name="k", input=P)["hmac"]
    assert new.startswith("vault:v2:")
    assert new.split(":")[2] != old.split(":")[2]


def test_blobs_name_the_roots_that_they_need(hsm_rig: Rig, token: Token) -> None:
    hsm_rig.create("k", protection="hsm")
    [row] = versions(hsm_rig)
    where = {"wrapping": row.value.wrapping}
    assert row.value.wrapping == token.roots._ids[next(iter(token.roots._ids))].hex()
    assert hsm_rig.store.reader().count(KEY_VERSIONS, where) == 1
    assert hsm_rig.store.reader().count(KEY_VERSIONS, {"mac_wrapping": row.value.mac_wrapping}) == 1
    assert row.value.wrapping != row.value.mac_wrapping


def test_wrapped_births_leave_nothing_in_the_token(hsm_rig: Rig, token: Token) -> None:
    before = objects(token)
    hsm_rig.create("k", "ecdsa-p256")
    assert hsm_rig.steps == ["change"]
    assert objects(token) == before


def test_a_resident_birth_is_announced_before_it_happens(hsm_rig: Rig, token: Token) -> None:
    before = objects(token)
    plan = hsm_rig.service.create("mount-1", "k", _wish("ed25519"))
    assert isinstance(plan, External)
    assert objects(token) == before
    assert plan.begin is not None
    with hsm_rig.store.transaction() as tx:
        plan.begin(tx)
    [row] = versions(hsm_rig)
    assert row.value.state is VersionState.PLANNED
    assert hsm_rig.service.get("mount-1", "k") is None
    public = plan.perform()
    made = objects(token) - before
    assert [cka_id.hex() for cka_id in made] == [plan.intent["hsm_objects"]]
    with hsm_rig.store.transaction() as tx:
        plan.conclude(tx, public)
    assert hsm_rig.run("keys.read", name="k")["latest_version"] == 1


def _wish(type_: str) -> Wish:
    return Wish(type=type_)


# -- interrupted births: where it stops x whether the object is there -> how it is closed --------


def _interrupt(rig: Rig, stage: str, *, rotate: bool) -> Mapping[str, str | int]:
    """Start a birth and stop it as kill -9 would after the given step; what the log would hold."""
    if rotate:
        rig.create("k", "ed25519")
        plan = rig.service.rotate("mount-1", "k")
    else:
        plan = rig.service.create("mount-1", "k", _wish("ed25519"))
    assert isinstance(plan, External)
    assert plan.begin is not None
    with rig.store.transaction() as tx:
        plan.begin(tx)
    if stage == "performed":
        plan.perform()
    return dict(plan.intent)


@pytest.mark.parametrize("rotate", [False, True])
def test_a_birth_killed_before_the_act_is_undone(hsm_rig: Rig, *, rotate: bool) -> None:
    intent = _interrupt(hsm_rig, "planned", rotate=rotate)
    restarted = hsm_rig.another()
    outcome = restarted.service.resolve(intent)
    assert outcome is not None
    assert restarted.external(outcome).partial
    assert [row.value.state for row in versions(restarted)][-1] is VersionState.ABANDONED
    if rotate:
        assert restarted.run("keys.read", name="k")["latest_version"] == 1
        # I3: the number of the failed birth is not used again.
        assert restarted.run("keys.rotate", name="k")["latest_version"] == 3
        assert list(restarted.run("keys.read", name="k")["keys"]) == ["1", "3"]
        with pytest.raises(KmsError, match="no such key version"):
            restarted.run("sign", name="k", input=P, key_version=2)
    else:
        assert restarted.create("k", "ed25519")["latest_version"] == 1


@pytest.mark.parametrize("rotate", [False, True])
def test_a_birth_killed_after_the_act_is_finished(hsm_rig: Rig, *, rotate: bool) -> None:
    intent = _interrupt(hsm_rig, "performed", rotate=rotate)
    restarted = hsm_rig.another()
    outcome = restarted.service.resolve(intent)
    assert outcome is not None
    assert not restarted.external(outcome).partial
    expected = 2 if rotate else 1
    assert restarted.run("keys.read", name="k")["latest_version"] == expected
    signature = restarted.run("sign", name="k", input=P)["signature"]
    assert restarted.run("verify", name="k", input=P, signature=signature) == {"valid": True}
    assert restarted.service.resolve(intent) is None  # closed once, closed for good


def test_a_failed_birth_is_cleaned_up(hsm_rig: Rig, token: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token made the object, but its answer was lost."""
    before = objects(token)
    generate = Hsm.generate

    def lost(self: Hsm, *args: Any) -> bytes:
        generate(self, *args)
        raise unavailable()

    with monkeypatch.context() as patch:
        patch.setattr(Hsm, "generate", lost)
        with pytest.raises(KmsError) as caught:
            hsm_rig.create("k", "ed25519")
    assert caught.value.kind is ErrorKind.HSM_UNAVAILABLE
    assert hsm_rig.steps == ["intent", "abandon"]
    assert len(objects(token)) == len(before) + 1
    assert hsm_rig.service.destroy_abandoned() == 1
    assert objects(token) == before
    assert hsm_rig.service.destroy_abandoned() == 1  # looked at again: it may still appear
    hsm_rig.clock.sleep(SETTLING_SECONDS)
    assert hsm_rig.service.destroy_abandoned() == 1
    assert hsm_rig.service.destroy_abandoned() == 0
    assert hsm_rig.service.get("mount-1", "k") is None
    assert hsm_rig.create("k", "ed25519")["latest_version"] == 1


def test_without_its_hsm_nothing_is_made(hsm_rig: Rig) -> None:
    """H3: a vanished token is 503, never "no such key" and never a new one."""
    hsm_rig.create("k", protection="hsm")
    sealed = hsm_rig.run("encrypt", name="k", plaintext=P)["ciphertext"]

    def gone() -> Hsm:
        raise unavailable()

    other = Rig(hsm_rig.folder, gone, hsm_rig.roots, hsm_rig.sealer, hsm_rig.clock)
    for operation, args in (
        ("keys.create", {"name": "new", "type": "ecdsa-p256"}),
        ("keys.rotate", {"name": "k"}),
        ("encrypt", {"name": "k", "plaintext": P}),
        ("decrypt", {"name": "k", "ciphertext": sealed}),
        ("decrypt", {"name": "k", "batch_input": [{"ciphertext": sealed}]}),
        ("hmac", {"name": "k", "input": P}),
    ):
        with pytest.raises(KmsError) as caught:
            other.run(operation, **args)
        assert caught.value.kind is ErrorKind.HSM_UNAVAILABLE, operation
    assert other.run("keys.list")["keys"] == ["k"]
    assert other.run("keys.read", name="k")["latest_version"] == 1


def test_two_births_of_one_name_give_one_key(hsm_rig: Rig, token: Token) -> None:
    before = objects(token)
    first = hsm_rig.service.create("mount-1", "k", _wish("ed25519"))
    second = hsm_rig.service.create("mount-1", "k", _wish("ed25519"))
    assert isinstance(first, External)
    assert isinstance(second, External)
    assert first.begin is not None
    with hsm_rig.store.transaction() as tx:
        first.begin(tx)
    assert second.begin is not None
    with hsm_rig.store.transaction() as tx:
        second.begin(tx)
    answers = []
    for plan in (first, second):
        public = plan.perform()
        with hsm_rig.store.transaction() as tx:
            answers.append(plan.conclude(tx, public).data)
    assert answers[0] == answers[1]
    assert hsm_rig.store.reader().keys(NAMED_KEYS) == ["mount-1/k"]
    hsm_rig.service.destroy_abandoned()
    assert len(objects(token)) == len(before) + 1


def test_two_rotations_of_one_resident_key_conflict(hsm_rig: Rig) -> None:
    hsm_rig.create("k", "ed25519")
    plans = [hsm_rig.service.rotate("mount-1", "k") for _ in range(2)]
    assert isinstance(plans[0], External)
    hsm_rig.external(plans[0])
    assert isinstance(plans[1], External)
    with pytest.raises(KmsError) as caught:
        hsm_rig.external(plans[1])
    assert caught.value.kind is ErrorKind.CONFLICT
    assert hsm_rig.run("keys.read", name="k")["latest_version"] == 2


# -- T-02b: blobs and rows swapped, by one who can write sealed rows -----------------------------


def _swap(rig: Rig, change: Any) -> None:
    """Give key b's version 1 what `change(a, b)` makes of both rows."""
    a, b = (rig.create(name, "aes256-gcm96", protection="hsm") for name in ("a", "b"))
    assert a["name"] != b["name"]
    keys = {row.key: row.value.id for row in rig.store.reader().scan(NAMED_KEYS)}
    with rig.store.transaction() as tx:
        rows = [tx.get(KEY_VERSIONS, version_key(keys[f"mount-1/{name}"], 1)) for name in ("a", "b")]
        assert rows[0] is not None
        assert rows[1] is not None
        tx.replace(KEY_VERSIONS, rows[1], change(rows[0].value, rows[1].value))


SWAPS: list[tuple[str, Any]] = [
    ("whole material", lambda a, b: replace(b, material=a.material)),
    ("blob only", lambda a, b: replace(b, material=replace(b.material, blob=a.material.blob))),
    (
        "blob and probe",
        lambda a, b: replace(b, material=replace(b.material, blob=a.material.blob, probe=a.material.probe)),
    ),
    ("probe only", lambda a, b: replace(b, material=replace(b.material, probe=a.material.probe))),
    ("mac key as main key", lambda _a, b: replace(b, material=b.mac)),
]


@pytest.mark.parametrize(("name", "change"), SWAPS, ids=[name for name, _ in SWAPS])
def test_a_blob_works_only_in_its_own_row(hsm_rig: Rig, name: str, change: Any) -> None:
    _swap(hsm_rig, change)
    with pytest.raises(KmsError) as caught:
        hsm_rig.run("encrypt", name="b", plaintext=P)
    assert caught.value.kind is ErrorKind.INTEGRITY, name


# -- other races --------------------------------------------------------------------------------------


def test_two_rotations_of_one_wrapped_key_conflict(hsm_rig: Rig) -> None:
    """A blob is bound to its number, so the loser must make another."""
    hsm_rig.create("k", "ecdsa-p256")
    plans = [hsm_rig.service.rotate("mount-1", "k") for _ in range(2)]
    assert isinstance(plans[0], Change)
    assert isinstance(plans[1], Change)
    with hsm_rig.store.transaction() as tx:
        plans[0].write(tx)
    with pytest.raises(KmsError) as caught, hsm_rig.store.transaction() as tx:
        plans[1].write(tx)
    assert caught.value.kind is ErrorKind.CONFLICT
    assert hsm_rig.run("keys.rotate", name="k")["latest_version"] == 3


def test_creating_by_encrypting_never_calls_the_hsm_inside_a_transaction(hsm_rig: Rig) -> None:
    call = hsm_rig.call("encrypt", name="k", plaintext=P)
    outcome = call.operation.act(call)
    hsm_rig.create("k", protection="hsm")
    assert isinstance(outcome, Change)
    with pytest.raises(KmsError) as caught, hsm_rig.store.transaction() as tx:
        outcome.write(tx)
    assert caught.value.kind is ErrorKind.CONFLICT


def test_a_birth_whose_name_was_taken_makes_nothing(hsm_rig: Rig, token: Token) -> None:
    plan = hsm_rig.service.create("mount-1", "k", _wish("ed25519"))
    assert isinstance(plan, External)
    taken = hsm_rig.create("k")
    before = objects(token)
    assert hsm_rig.external(plan).data == taken
    assert objects(token) == before


def test_a_birth_of_a_key_deleted_meanwhile_is_abandoned(hsm_rig: Rig) -> None:
    hsm_rig.create("k", "ed25519")
    plan = hsm_rig.service.rotate("mount-1", "k")
    assert isinstance(plan, External)
    assert plan.begin is not None
    with hsm_rig.store.transaction() as tx:
        plan.begin(tx)
    plan.perform()
    hsm_rig.run("keys.config", name="k", deletion_allowed=True)
    hsm_rig.run("keys.delete", name="k")
    with pytest.raises(KmsError) as caught, hsm_rig.store.transaction() as tx:
        plan.conclude(tx, b"")
    assert caught.value.kind is ErrorKind.CONFLICT
    with hsm_rig.store.transaction() as tx:
        plan.abandon(tx, caught.value)
    assert hsm_rig.service.resolve(dict(plan.intent)) is None


def test_a_birth_of_a_key_that_is_gone_is_undone_at_start(hsm_rig: Rig, token: Token) -> None:
    intent = _interrupt(hsm_rig, "performed", rotate=True)
    hsm_rig.run("keys.config", name="k", deletion_allowed=True)
    hsm_rig.run("keys.delete", name="k")
    before = objects(token)
    outcome = hsm_rig.service.resolve(intent)
    assert outcome is not None
    assert hsm_rig.external(outcome).partial
    assert hsm_rig.service.destroy_abandoned() == 1
    assert len(objects(token)) == len(before) - 1
