"""After a crash in the middle of a generation: a whole key is taken over, half a key is destroyed.

Seen in a chaos run: a worker was killed while SoftHSM stored a pair; the object was found by its id, and
lacked attributes; the key became active and could not sign.
"""

from __future__ import annotations

from typing import Any

import pytest
from pkcs11.constants import Attribute, ObjectClass

from kms.hsm import Hsm, KeySpec, Purpose, Resident, Scheme, objects
from kms.hsm.connection import Connection
from kms.ids import CkaId, new_cka_id


def make(hsm: Hsm, purpose: Purpose, spec: KeySpec, cka_id: CkaId) -> None:
    def work(_: Connection, session: Any) -> None:
        objects.make(session, purpose, spec, token=True, cka_id=cka_id, label="half")

    hsm.gate.run(work)


def drop(hsm: Hsm, cka_id: CkaId, kind: ObjectClass) -> None:
    def work(_: Connection, session: Any) -> None:
        for key in list(session.get_objects({Attribute.ID: cka_id, Attribute.CLASS: kind})):
            key.destroy()

    hsm.gate.run(work)


def left(hsm: Hsm, cka_id: CkaId) -> int:
    return hsm.gate.run(lambda _, session: len(list(session.get_objects({Attribute.ID: cka_id}))))


@pytest.mark.parametrize("purpose", [Purpose.ROOT_SEAL, Purpose.ROOT_WRAP_ENC, Purpose.ROOT_WRAP_SIGN])
def test_whole_root_is_taken_over(purpose: Purpose, hsm: Hsm) -> None:
    cka_id = new_cka_id()
    hsm.generate(purpose, KeySpec.AES_256, cka_id, "root")
    assert hsm.adopt(purpose, KeySpec.AES_256, cka_id) == b""
    assert hsm.exists(cka_id)


@pytest.mark.parametrize("spec", [KeySpec.ED25519, KeySpec.EC_P256])
def test_whole_pair_is_taken_over_with_its_public_key(spec: KeySpec, hsm: Hsm) -> None:
    cka_id = new_cka_id()
    public = hsm.generate(Purpose.KEY_SIGN, spec, cka_id, "pair")
    assert hsm.adopt(Purpose.KEY_SIGN, spec, cka_id) == public
    scheme, payload = (Scheme.EDDSA, b"m") if spec is KeySpec.ED25519 else (Scheme.ECDSA, bytes(32))
    assert hsm.sign(Resident(cka_id, Purpose.KEY_SIGN, spec), scheme, payload)


def test_nothing_is_taken_over_from_nothing(hsm: Hsm) -> None:
    assert hsm.adopt(Purpose.KEY_SIGN, KeySpec.ED25519, new_cka_id()) is None


@pytest.mark.parametrize(
    ("purpose", "spec", "missing"),
    [
        (Purpose.CA_SIGN, KeySpec.EC_P256, ObjectClass.PUBLIC_KEY),
        (Purpose.CA_SIGN, KeySpec.EC_P256, ObjectClass.PRIVATE_KEY),
        (Purpose.KEY_SIGN, KeySpec.EC_P384, None),  # not the type that was planned
    ],
)
def test_half_a_pair_is_destroyed(
    purpose: Purpose, spec: KeySpec, missing: ObjectClass | None, hsm: Hsm
) -> None:
    cka_id = new_cka_id()
    make(hsm, purpose, spec, cka_id)
    if missing is not None:
        drop(hsm, cka_id, missing)
    assert hsm.adopt(Purpose.CA_SIGN, KeySpec.EC_P256, cka_id) is None
    assert left(hsm, cka_id) == 0
    assert hsm.generate(Purpose.CA_SIGN, KeySpec.EC_P256, cka_id, "again")


def test_key_with_other_attributes_is_destroyed(hsm: Hsm) -> None:
    cka_id = new_cka_id()
    make(hsm, Purpose.KEY_ENC, KeySpec.AES_256, cka_id)
    assert hsm.adopt(Purpose.ROOT_WRAP_ENC, KeySpec.AES_256, cka_id) is None
    assert left(hsm, cka_id) == 0
