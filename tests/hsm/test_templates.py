"""One purpose per key, in the table and in the token (H6, H10)."""

from __future__ import annotations

from typing import Any

import pytest
from pkcs11.constants import DEFAULT, Attribute, MechanismFlag
from pkcs11.mechanisms import KeyType, Mechanism

from kms.errors import ErrorKind, KmsError
from kms.hsm import Hsm, KeySpec, Purpose, Resident, templates
from kms.hsm.connection import Connection
from kms.hsm.model import KeyRef
from kms.ids import CkaId, new_cka_id

CRYPT = {Attribute.ENCRYPT, Attribute.DECRYPT}
WRAP = {Attribute.WRAP, Attribute.UNWRAP}
CHEAP = [KeySpec.AES_128, KeySpec.AES_256, KeySpec.HMAC, KeySpec.EC_P256, KeySpec.ED25519]
PAIRINGS = [(purpose, spec) for purpose in Purpose for spec in CHEAP if spec in templates.USES[purpose][1]]
MISMATCHES = [
    (purpose, spec) for purpose in Purpose for spec in KeySpec if spec not in templates.USES[purpose][1]
]


@pytest.mark.parametrize("purpose", Purpose)
def test_no_purpose_mixes_uses(purpose: Purpose) -> None:
    uses = templates.USES[purpose][0]
    families = (CRYPT, WRAP, {Attribute.SIGN, Attribute.VERIFY}, {Attribute.DERIVE})
    assert [bool(uses & family) for family in families].count(True) == 1


@pytest.mark.parametrize(("purpose", "spec"), PAIRINGS)
def test_every_attribute_is_spoken_for(purpose: Purpose, spec: KeySpec) -> None:
    template = templates.secret_half(purpose, spec, token=True, extractable=False)
    assert set(templates.ALL_USES) <= set(template)
    named = [name for name, value in template.items() if value is not DEFAULT]
    assert named[-1] is Attribute.MODIFIABLE, "SoftHSM takes no attribute after it"
    unwraps = purpose in templates.WRAPS or purpose is Purpose.IMPORT_UNWRAP
    assert (Attribute.UNWRAP_TEMPLATE in template) == unwraps


@pytest.mark.parametrize(("purpose", "spec"), MISMATCHES)
def test_a_purpose_refuses_foreign_key_types(hsm: Hsm, purpose: Purpose, spec: KeySpec) -> None:
    cka_id = new_cka_id()
    with pytest.raises(KmsError, match="cannot be of type") as caught:
        hsm.generate(purpose, spec, cka_id, "mismatch")
    assert caught.value.kind is ErrorKind.INVALID
    assert not hsm.exists(cka_id)


def test_a_token_object_is_never_extractable() -> None:
    with pytest.raises(KmsError):
        templates.secret_half(Purpose.KEY_ENC, KeySpec.AES_256, token=True, extractable=True)


@pytest.mark.parametrize(("purpose", "spec"), PAIRINGS)
def test_the_token_shows_what_was_asked_for(hsm: Hsm, purpose: Purpose, spec: KeySpec) -> None:
    cka_id = new_cka_id()
    hsm.generate(purpose, spec, cka_id, f"shown {purpose}")

    def read(_: Connection, session: Any) -> list[dict[Attribute, Any]]:
        keys = list(session.get_objects({Attribute.ID: cka_id}))
        assert len(keys) == (2 if spec.is_pair else 1)
        wanted = [
            *templates.ALL_USES,
            Attribute.SENSITIVE,
            Attribute.EXTRACTABLE,
            Attribute.NEVER_EXTRACTABLE,
        ]
        wanted += [Attribute.ALWAYS_SENSITIVE, Attribute.LOCAL, Attribute.MODIFIABLE, Attribute.COPYABLE]
        return [key.get_attributes([*wanted, Attribute.CLASS]) for key in keys]

    seen = hsm.gate.run(read)
    secret = next(each for each in seen if Attribute.SENSITIVE in each and each.get(Attribute.SENSITIVE))
    on = {name for name, value in secret.items() if value is True}
    assert on & set(templates.ALL_USES) == templates.USES[purpose][0]
    assert {
        Attribute.SENSITIVE,
        Attribute.NEVER_EXTRACTABLE,
        Attribute.ALWAYS_SENSITIVE,
        Attribute.LOCAL,
    } <= on
    assert not on & {Attribute.EXTRACTABLE, Attribute.MODIFIABLE, Attribute.COPYABLE}
    hsm.destroy(cka_id)
    assert not hsm.exists(cka_id)


def test_a_key_made_with_the_librarys_default_template_is_refused(hsm: Hsm) -> None:
    """H6: python-pkcs11's default AES key may wrap and decrypt at once; found in a token, it is not used."""
    cka_id = new_cka_id()

    def make(_: Connection, session: Any) -> int:
        key = session.generate_key(KeyType.AES, 256, id=cka_id, label="default", store=True)
        assert key[Attribute.WRAP]
        assert key[Attribute.DECRYPT]
        return int(key.handle)

    hsm.gate.run(make)
    ref: KeyRef = Resident(cka_id, Purpose.KEY_ENC, KeySpec.AES_256)
    with pytest.raises(KmsError, match=r"demands: .*WRAP") as caught:
        hsm.encrypt(ref, bytes(12), b"x", b"")
    assert caught.value.kind is ErrorKind.INTEGRITY
    hsm.destroy(cka_id)


def test_a_token_that_makes_something_else_is_found_out(
    hsm: Hsm, monkeypatch: pytest.MonkeyPatch, roots: dict[Purpose, CkaId]
) -> None:
    """The attributes are read back after generation; what was made is destroyed again."""
    honest = templates.secret_half

    def lax(purpose: Purpose, spec: KeySpec, *, token: bool, extractable: bool) -> dict[Attribute, Any]:
        return honest(purpose, spec, token=token, extractable=extractable) | {Attribute.DERIVE: True}

    expected = templates.asserted
    cka_id = new_cka_id()
    with monkeypatch.context() as patch:
        before = expected(Purpose.KEY_ENC, KeySpec.AES_256, token=True, extractable=False)
        patch.setattr(templates, "secret_half", lax)
        patch.setattr(templates, "asserted", lambda *_, **__: before)
        with pytest.raises(KmsError, match="demands: DERIVE") as caught:
            hsm.generate(Purpose.KEY_ENC, KeySpec.AES_256, cka_id, "lax")
    assert caught.value.kind is ErrorKind.INTEGRITY
    assert not hsm.exists(cka_id)
    assert hsm.exists(roots[Purpose.ROOT_SEAL])


def test_private_halves_leave_out_what_belongs_to_public_ones(hsm: Hsm) -> None:
    """H10: SoftHSM refuses ENCRYPT, WRAP and VERIFY on private keys; the library sends them unless told not to."""
    template = templates.secret_half(Purpose.KEY_SIGN, KeySpec.EC_P256, token=False, extractable=False)
    assert [name for name, value in template.items() if value is DEFAULT] == [
        Attribute.ENCRYPT,
        Attribute.VERIFY,
        Attribute.WRAP,
    ]

    def library_default(connection: Connection, session: Any) -> None:
        kind = {"capabilities": MechanismFlag.SIGN, "mechanism": connection.kwp}
        root = session.generate_key(
            KeyType.AES,
            256,
            mechanism=Mechanism.AES_KEY_GEN,
            capabilities=MechanismFlag.WRAP | MechanismFlag.UNWRAP,
        )
        _, private = session.generate_keypair(
            KeyType.EC,
            public_template=templates.public_half(Purpose.KEY_SIGN, KeySpec.EC_P256, token=False),
            private_template={Attribute.EXTRACTABLE: True},
        )
        blob = root.wrap_key(private, mechanism=connection.kwp)
        try:
            root.unwrap_key(private.object_class, KeyType.EC, blob, **kind)
        finally:
            for each in (root, private):
                each.destroy()

    with pytest.raises(KmsError, match="AttributeTypeInvalid"):
        hsm.gate.run(library_default)
