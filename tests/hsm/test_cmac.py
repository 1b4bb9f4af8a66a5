"""AES-CMAC in the token, for keys of their own purpose only."""

from __future__ import annotations

import pytest

from kms.errors import ErrorKind, KmsError
from kms.hsm import Hsm, KeySpec, Purpose, Resident
from kms.ids import new_cka_id

SPECS = [KeySpec.AES_128, KeySpec.AES_192, KeySpec.AES_256]


@pytest.mark.parametrize("spec", SPECS)
def test_a_cmac_key_macs_and_does_nothing_else(hsm: Hsm, spec: KeySpec) -> None:
    cka_id = new_cka_id()
    assert hsm.generate(Purpose.KEY_CMAC, spec, cka_id, "test cmac") == b""
    ref = Resident(cka_id, Purpose.KEY_CMAC, spec)
    tags = [hsm.cmac(ref, data) for data in (b"", b"a", b"a" * 16, b"a" * 5000)]
    assert {len(tag) for tag in tags} == {16}
    assert len(set(tags)) == 4
    assert hsm.cmac(ref, b"a") == tags[1]
    for refused in (
        lambda: hsm.encrypt(ref, bytes(12), b"", b""),
        lambda: hsm.mac(ref, "sha256", b""),
        lambda: hsm.cmac(Resident(cka_id, Purpose.KEY_ENC, spec), b""),
    ):
        with pytest.raises(KmsError) as caught:
            refused()  # type: ignore[no-untyped-call]  # a lambda in a tuple of several
        assert caught.value.kind is ErrorKind.INVALID


def test_cmac_keys_are_never_wrapped(hsm: Hsm) -> None:
    with pytest.raises(KmsError) as caught:
        hsm.generate_wrapped(Purpose.KEY_CMAC, KeySpec.AES_128, new_cka_id(), b"c")
    assert caught.value.kind is ErrorKind.INVALID
