"""Wrapped keys: what wraps (H9), what ties a blob to its row, and the bounded set of loaded keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pkcs11.constants import Attribute
from pkcs11.exceptions import PKCS11Error

from kms.errors import ErrorKind, KmsError
from kms.hsm import Hsm, KeySpec, Purpose, Scheme, Wrapped, rawops, wrapped
from kms.hsm.connection import Connection
from kms.hsm.loaded import LoadedKeys
from kms.hsm.templates import WRAPPED_BY
from kms.ids import CkaId

# H9: what SoftHSM 2.6.1 wraps with AES-KWP. Ed25519 pairs stay resident.
MATRIX = {
    KeySpec.AES_128: True,
    KeySpec.AES_256: True,
    KeySpec.HMAC: True,
    KeySpec.EC_P256: True,
    KeySpec.EC_P384: True,
    KeySpec.EC_P521: True,
    KeySpec.RSA_2048: True,
    KeySpec.RSA_3072: True,
    KeySpec.RSA_4096: True,
    KeySpec.ED25519: False,
}
CHEAP = [KeySpec.AES_128, KeySpec.AES_256, KeySpec.HMAC, KeySpec.EC_P256, KeySpec.EC_P384, KeySpec.EC_P521]


def born(hsm: Hsm, roots: dict[Purpose, CkaId], spec: KeySpec, context: bytes = b"context") -> Wrapped:
    purpose = wrapped.purpose_of(spec)
    return hsm.generate_wrapped(purpose, spec, roots[WRAPPED_BY[purpose]], context)


def use(hsm: Hsm, ref: Wrapped) -> bytes:
    """One call of the kind that the key is for."""
    if ref.purpose is Purpose.KEY_ENC:
        return hsm.encrypt(ref, bytes(12), b"x", b"")
    if ref.purpose is Purpose.KEY_MAC:
        return hsm.mac(ref, "sha256", b"x")
    return hsm.sign(ref, Scheme.ECDSA if ref.spec in CHEAP else Scheme.RSA_PKCS1_SHA256, bytes(32))


@pytest.mark.parametrize(("spec", "wraps"), MATRIX.items())
def test_which_types_wrap(hsm: Hsm, spec: KeySpec, wraps: bool) -> None:
    assert hsm.can_wrap(spec) is wraps


def test_what_cannot_be_wrapped_is_refused_and_leaves_nothing(hsm: Hsm, roots: dict[Purpose, CkaId]) -> None:
    with pytest.raises(KmsError) as caught:
        born(hsm, roots, KeySpec.ED25519)
    assert caught.value.kind is ErrorKind.INVALID
    assert hsm.gate.run(lambda _, session: len(_born_extractable(session))) == 0


def _born_extractable(session: Any) -> list[Any]:
    return [
        key
        for key in session.get_objects({Attribute.EXTRACTABLE: True})
        if key.get_attributes([Attribute.EXTRACTABLE]).get(Attribute.EXTRACTABLE)
    ]


@pytest.mark.parametrize("spec", [*CHEAP, KeySpec.RSA_2048])
def test_a_loaded_key_works_and_cannot_be_wrapped_or_read(
    hsm: Hsm, roots: dict[Purpose, CkaId], spec: KeySpec
) -> None:
    ref = born(hsm, roots, spec)
    assert bool(ref.public) == spec.is_pair
    assert use(hsm, ref)
    hsm.retire_unused()
    assert use(hsm, ref), "loads again from the blob"

    def attack(connection: Connection, session: Any) -> None:
        loaded = connection.loaded.take(ref)
        assert loaded is not None
        root = next(iter(session.get_objects({Attribute.ID: ref.wrapping})))
        with pytest.raises(PKCS11Error):
            root.wrap_key(rawops.Handle(session, loaded.handle), mechanism=connection.kwp)
        connection.loaded.release(loaded)
        assert not _born_extractable(session)

    hsm.gate.run(attack)


EDITS: dict[str, Callable[[Wrapped, Wrapped], Wrapped]] = {
    "another context": lambda one, _: replace(one, context=b"contexT"),
    "a longer context": lambda one, _: replace(one, context=one.context + b"\0"),
    "no context": lambda one, _: replace(one, context=b""),
    "another's blob": lambda one, two: replace(one, blob=two.blob),
    "another's probe": lambda one, two: replace(one, probe=two.probe),
    "another's blob and probe": lambda one, two: replace(one, blob=two.blob, probe=two.probe),
    "another's blob, probe and public key": lambda one, two: replace(
        one, blob=two.blob, probe=two.probe, public=two.public
    ),
    "an empty probe": lambda one, _: replace(one, probe=b""),
    "a cut probe": lambda one, _: replace(one, probe=one.probe[:-1]),
    "a changed blob": lambda one, _: replace(
        one, blob=one.blob[:9] + bytes([one.blob[9] ^ 1]) + one.blob[10:]
    ),
    "a cut blob": lambda one, _: replace(one, blob=one.blob[:-8]),
    "an empty blob": lambda one, _: replace(one, blob=b""),
    "a huge blob": lambda one, _: replace(one, blob=bytes(9000)),
}


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("spec", [KeySpec.AES_256, KeySpec.HMAC, KeySpec.EC_P256, KeySpec.EC_P521])
def test_an_edited_row_does_not_load(hsm: Hsm, roots: dict[Purpose, CkaId], spec: KeySpec, name: str) -> None:
    one, two = born(hsm, roots, spec, b"context"), born(hsm, roots, spec, b"another")
    before = hsm.gate._connection
    with pytest.raises(KmsError) as caught:
        use(hsm, EDITS[name](one, two))
    assert caught.value.kind is ErrorKind.INTEGRITY
    assert use(hsm, one), "the honest row still does"
    assert hsm.gate._connection is before, "bad rows do not reset the HSM"


@pytest.mark.parametrize("spec", [KeySpec.EC_P256, KeySpec.RSA_2048])
def test_another_public_key_does_not_load(hsm: Hsm, roots: dict[Purpose, CkaId], spec: KeySpec) -> None:
    """Else a caller would verify, and publish, a key whose private half he does not hold."""
    one, two = born(hsm, roots, spec), born(hsm, roots, spec)
    for public in (two.public, b"", b"\x30\x00", one.public[:-1]):
        with pytest.raises(KmsError) as caught:
            use(hsm, replace(one, public=public))
        assert caught.value.kind is ErrorKind.INTEGRITY


def test_a_blob_loads_only_for_its_purpose(hsm: Hsm, roots: dict[Purpose, CkaId]) -> None:
    aes, mac = born(hsm, roots, KeySpec.AES_256), born(hsm, roots, KeySpec.HMAC)
    disguised = [
        replace(aes, purpose=Purpose.KEY_MAC, spec=KeySpec.HMAC, wrapping=mac.wrapping),
        replace(aes, purpose=Purpose.KEY_MAC, spec=KeySpec.HMAC),
        replace(aes, spec=KeySpec.AES_128),
        replace(mac, purpose=Purpose.KEY_ENC, spec=KeySpec.AES_256),
    ]
    for ref in disguised:
        with pytest.raises(KmsError) as caught:
            use(hsm, ref)
        assert caught.value.kind is ErrorKind.INTEGRITY


def test_a_context_is_bounded(hsm: Hsm, roots: dict[Purpose, CkaId]) -> None:
    with pytest.raises(KmsError, match="at most"):
        born(hsm, roots, KeySpec.AES_256, bytes(4097))


def test_a_probe_is_the_same_each_time_for_secret_keys(hsm: Hsm, roots: dict[Purpose, CkaId]) -> None:
    for spec, size in ((KeySpec.AES_256, 16), (KeySpec.HMAC, 32)):
        assert len(born(hsm, roots, spec).probe) == size


def test_loaded_keys_are_bounded_and_destroyed(
    hsm: Hsm, roots: dict[Purpose, CkaId], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = hsm.gate._connection
    assert connection is not None
    monkeypatch.setattr(connection, "loaded", LoadedKeys(3))

    def session_objects() -> int:
        return hsm.gate.run(lambda _, session: len(list(session.get_objects({Attribute.TOKEN: False}))))

    start = session_objects()
    refs = [born(hsm, roots, KeySpec.AES_256, bytes([i])) for i in range(6)]
    assert len(connection.loaded) == 3
    assert session_objects() - start == 3
    for ref in refs * 2:
        assert use(hsm, ref)
    assert session_objects() - start == 3
    hsm.retire_unused(keep=1)
    assert session_objects() - start == 1
    hsm.retire_unused()
    assert session_objects() - start == 0
    assert use(hsm, refs[0])
    hsm.retire_unused()


def ref_named(name: bytes) -> Wrapped:
    return Wrapped(Purpose.KEY_ENC, KeySpec.AES_256, CkaId(bytes(16)), name, b"", b"", b"")


def test_a_key_in_use_is_destroyed_by_its_last_user() -> None:
    keys = LoadedKeys(1)
    first, spare = keys.add(ref_named(b"1"), 1)
    assert spare == []
    again = keys.take(ref_named(b"1"))
    assert again is first
    _, spare = keys.add(ref_named(b"2"), 2)
    assert spare == [], "evicted, but used twice"
    assert keys.release(first) is None
    assert keys.release(first) == 1
    assert keys.take(ref_named(b"1")) is None


def test_two_threads_that_load_one_key_keep_one_object() -> None:
    keys = LoadedKeys(2)
    first, _ = keys.add(ref_named(b"1"), 1)
    second, spare = keys.add(ref_named(b"1"), 9)
    assert second is first
    assert spare == [9]
    assert keys.shrink(0) == []
    assert [keys.release(first), keys.release(first)] == [None, 1]


def test_rows_that_differ_in_one_field_are_different_keys() -> None:
    keys = LoadedKeys(2)
    keys.add(ref_named(b"1"), 1)
    assert keys.take(replace(ref_named(b"1"), context=b"!")) is None
