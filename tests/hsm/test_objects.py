"""Token objects: exactly one per id (H7), never silently absent (H3), written once (H4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pkcs11.constants import Attribute
from pkcs11.exceptions import DeviceRemoved

from kms.errors import ErrorKind, KmsError
from kms.hsm import Hsm, HsmConfig, KeySpec, Purpose, Resident, Scheme, objects
from kms.hsm.connection import SENTINEL_ID, Connection
from kms.hsm.failures import AbsentError
from kms.ids import CkaId, new_cka_id
from tests.hsm.parts import StepClock, opened


def test_two_keys_with_one_id_are_never_chosen_between(hsm: Hsm) -> None:
    cka_id = new_cka_id()
    hsm.generate(Purpose.KEY_ENC, KeySpec.AES_256, cka_id, "twin")

    def twin(_: Connection, session: Any) -> None:
        objects.make(session, Purpose.KEY_ENC, KeySpec.AES_256, token=True, cka_id=cka_id, label="twin")

    hsm.gate.run(twin)
    for call in (
        lambda: hsm.exists(cka_id),
        lambda: hsm.encrypt(Resident(cka_id, Purpose.KEY_ENC, KeySpec.AES_256), bytes(12), b"", b""),
        lambda: hsm.destroy(cka_id),
        lambda: hsm.generate(Purpose.KEY_ENC, KeySpec.AES_256, cka_id, "triplet"),
    ):
        with pytest.raises(KmsError, match="more than one") as caught:
            call()
        assert caught.value.kind is ErrorKind.INTEGRITY

    def clean(_: Connection, session: Any) -> None:
        for key in list(session.get_objects({Attribute.ID: cka_id})):
            key.destroy()

    hsm.gate.run(clean)
    assert not hsm.exists(cka_id)


def test_an_id_is_used_once(hsm: Hsm) -> None:
    cka_id = new_cka_id()
    hsm.generate(Purpose.CA_SIGN, KeySpec.EC_P256, cka_id, "first")
    with pytest.raises(KmsError, match="already holds") as caught:
        hsm.generate(Purpose.CA_SIGN, KeySpec.EC_P256, cka_id, "second")
    assert caught.value.kind is ErrorKind.INTEGRITY
    hsm.destroy(cka_id)


@pytest.mark.parametrize(
    ("cka_id", "label"), [(b"short", "x"), (bytes(17), "x"), (bytes(16), ""), (bytes(16), "x" * 129)]
)
def test_ids_and_labels_are_checked(hsm: Hsm, cka_id: bytes, label: str) -> None:
    with pytest.raises(KmsError) as caught:
        hsm.generate(Purpose.KEY_ENC, KeySpec.AES_256, CkaId(cka_id), label)
    assert caught.value.kind is ErrorKind.INVALID


def test_destroy_takes_both_halves_and_may_be_repeated(hsm: Hsm) -> None:
    cka_id = new_cka_id()
    hsm.generate(Purpose.CA_SIGN, KeySpec.EC_P256, cka_id, "to destroy")

    def halves(_: Connection, session: Any) -> int:
        return len(list(session.get_objects({Attribute.ID: cka_id})))

    assert hsm.gate.run(halves) == 2
    hsm.destroy(cka_id)
    assert hsm.gate.run(halves) == 0
    hsm.destroy(cka_id)
    assert not hsm.exists(cka_id)


def test_a_crash_between_the_halves_is_finished_by_the_next_destroy(hsm: Hsm) -> None:
    cka_id = new_cka_id()
    hsm.generate(Purpose.CA_SIGN, KeySpec.EC_P256, cka_id, "half")

    def first_half(_: Connection, session: Any) -> None:
        objects.search(session, cka_id).secrets[0].destroy()

    hsm.gate.run(first_half)
    assert not hsm.exists(cka_id)
    hsm.destroy(cka_id)
    with pytest.raises(KmsError, match="holds no key"):
        hsm.public_key(cka_id)


def test_a_missing_key_is_an_integrity_failure_not_a_404(hsm: Hsm) -> None:
    ref = Resident(new_cka_id(), Purpose.KEY_SIGN, KeySpec.EC_P256)
    with pytest.raises(KmsError, match="the HSM answers") as caught:
        hsm.sign(ref, Scheme.ECDSA, bytes(32))
    assert caught.value.kind is ErrorKind.INTEGRITY
    assert not hsm.exists(ref.cka_id)


@pytest.fixture
def own(config: HsmConfig) -> Iterator[Hsm]:
    """One that may be reopened: other tests keep handles of the shared one."""
    with opened(config) as private:
        yield private


def test_a_key_destroyed_by_another_process_is_noticed(own: Hsm) -> None:
    """The remembered handle is void then. That it is gone is believed once a new connection says so too."""
    cka_id = new_cka_id()
    own.generate(Purpose.KEY_ENC, KeySpec.AES_256, cka_id, "shared")
    ref = Resident(cka_id, Purpose.KEY_ENC, KeySpec.AES_256)
    own.encrypt(ref, bytes(12), b"x", b"")

    def elsewhere(_: Connection, session: Any) -> None:
        objects.destroy(session, cka_id)

    before = own.gate.run(lambda connection, _session: connection.number)
    own.gate.run(elsewhere)
    with pytest.raises(KmsError) as first:
        own.encrypt(ref, bytes(12), b"x", b"")
    with pytest.raises(KmsError, match="holds no key") as second:
        own.encrypt(ref, bytes(12), b"x", b"")
    assert first.value.kind is ErrorKind.INTERNAL
    assert second.value.kind is ErrorKind.INTEGRITY
    assert own.gate.run(lambda connection, _session: connection.number) == before + 1
    with pytest.raises(KmsError, match="holds no key"):
        own.encrypt(ref, bytes(12), b"x", b"")
    assert own.gate.run(lambda connection, _session: connection.number) == before + 1, (
        "asked once, not each time"
    )


def test_a_key_that_a_wrong_memory_hides_is_found_by_a_new_connection(
    own: Hsm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen in a chaos run: a worker did not see a key that another had stored, until it looked anew."""
    cka_id = new_cka_id()
    own.generate(Purpose.KEY_ENC, KeySpec.AES_256, cka_id, "hidden")
    ref = Resident(cka_id, Purpose.KEY_ENC, KeySpec.AES_256)
    search, hidden = objects.search, [True]

    def blind(session: Any, wanted: bytes) -> objects.Found:
        if wanted == cka_id and hidden:
            hidden.clear()
            raise AbsentError(bytes(wanted).hex())
        return search(session, wanted)

    monkeypatch.setattr(objects, "search", blind)
    own.gate.run(lambda connection, _session: connection.forget())
    assert len(own.encrypt(ref, bytes(12), b"x", b"")) == 17


def test_objects_lists_by_label_for_reconciling(hsm: Hsm) -> None:
    ids = sorted(new_cka_id() for _ in range(3))
    for cka_id in ids:
        hsm.generate(Purpose.CA_SIGN, KeySpec.EC_P256, cka_id, f"listed {cka_id.hex()}")
    assert hsm.objects("listed ") == [(cka_id, f"listed {cka_id.hex()}") for cka_id in ids]
    for cka_id in ids:
        hsm.destroy(cka_id)
    assert hsm.objects("listed ") == []


CHANGES = [
    (Attribute.LABEL, "renamed"),
    (Attribute.ID, bytes(16)),
    (Attribute.EXTRACTABLE, True),
    (Attribute.SENSITIVE, False),
    (Attribute.WRAP, True),
    (Attribute.MODIFIABLE, True),
]


@pytest.mark.parametrize(("attribute", "value"), CHANGES)
def test_a_stored_key_cannot_be_changed(
    hsm: Hsm, roots: dict[Purpose, CkaId], attribute: Attribute, value: object
) -> None:
    """H4: SoftHSM loses keys whose attributes change while it is killed; so they cannot."""

    def change(_: Connection, session: Any) -> None:
        objects.one_secret(session, roots[Purpose.ROOT_SEAL])[attribute] = value

    with pytest.raises(KmsError, match="ActionProhibited"):
        hsm.gate.run(change)
    assert hsm.exists(roots[Purpose.ROOT_SEAL])


def test_a_fresh_token_is_empty_and_gets_its_sentinel_with_the_first_key(config: HsmConfig) -> None:
    with opened(config) as hsm:
        hsm.check()
        assert hsm.objects("") == []
        assert not hsm.exists(new_cka_id())
        cka_id = new_cka_id()
        hsm.generate(Purpose.LOG_SIGN, KeySpec.ED25519, cka_id, "log")
        assert {each for each, _ in hsm.objects("")} == {SENTINEL_ID, cka_id}
        hsm.generate(Purpose.LOG_SIGN, KeySpec.ED25519, new_cka_id(), "log 2")
        assert len(hsm.objects("")) == 3
        hsm.check()


def test_two_processes_that_start_at_once_share_a_sentinel(
    config: HsmConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other was quicker between our look and our generation: his sentinel serves."""
    with opened(config) as hsm:
        honest = objects.generate_resident

        def late(session: Any, *arguments: Any) -> bytes:
            if arguments[2] == SENTINEL_ID:
                honest(session, *arguments)
            return honest(session, *arguments)

        monkeypatch.setattr(objects, "generate_resident", late)
        hsm.generate(Purpose.KEY_ENC, KeySpec.AES_256, new_cka_id(), "first")
        assert len(hsm.objects("keystead sentinel")) == 1
        hsm.check()


def test_of_two_sentinels_a_process_keeps_its_own(config: HsmConfig) -> None:
    def twin(_: Connection, session: Any) -> None:
        objects.make(session, Purpose.SENTINEL, KeySpec.AES_256, token=True, cka_id=SENTINEL_ID, label="twin")

    clock = StepClock()
    with opened(config, clock) as hsm:
        hsm.generate(Purpose.KEY_ENC, KeySpec.AES_256, new_cka_id(), "first")
        for _ in range(4):
            hsm.gate.run(twin)

            def lose(_: Connection, __: Any) -> None:
                raise DeviceRemoved

            with pytest.raises(KmsError):
                hsm.gate.run(lose)
            clock.sleep(5)
            hsm.check()


def test_a_token_without_a_sentinel_does_not_get_one_without_a_key(config: HsmConfig) -> None:
    with opened(config) as hsm:

        def fail(session: Any, *_: Any) -> bytes:
            raise KmsError(ErrorKind.INTEGRITY, f"no sentinel in {session!r}")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(objects, "generate_resident", fail)
            with pytest.raises(KmsError, match="no sentinel"):
                hsm.generate(Purpose.KEY_ENC, KeySpec.AES_256, new_cka_id(), "first")
        assert hsm.objects("") == []
