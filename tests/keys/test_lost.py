"""Keys of an HSM that is lost: known by name and by object, refused with a sentence, and no others."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from kms.hsm import KeySpec, Purpose, Resident, Scheme, Wrapped
from kms.ids import CkaId
from kms.keys.lost import (
    LOST_OBJECTS,
    KnowingHsm,
    Losses,
    LostKeyError,
    LostObject,
    bound_versions,
    lose_keys,
    lost_ids,
)
from kms.keys.roots import LOST, ROOTS, RootObject
from tests.keys.rig import Rig

P = "aGVsbG8="
BOUND = {"aes", "ec", "ed", "cmac", "rsa", "party"}


@pytest.fixture(name="knowing")
def _knowing(hsm_rig: Rig) -> Iterator[Rig]:
    """The rig's own HSM, which now looks before each use."""
    hsm = hsm_rig.hsm()
    kind = hsm.__class__
    hsm.__class__ = KnowingHsm
    hsm.losses = Losses(hsm_rig.store)  # type: ignore[attr-defined]  # the class has changed
    yield hsm_rig
    hsm.__class__ = kind


def use_all(rig: Rig) -> None:
    ciphertext = rig.run("encrypt", name="aes", plaintext=P)["ciphertext"]
    assert rig.run("decrypt", name="aes", ciphertext=ciphertext)["plaintext"] == P
    assert rig.run("hmac", name="aes", input=P)["hmac"]
    assert rig.run("sign", name="ec", input=P)["signature"]
    assert rig.run("sign", name="ed", input=P)["signature"]
    assert rig.run("cmac", name="cmac", input=P)["cmac"]
    sealed = rig.run("encrypt", name="rsa", plaintext=P)["ciphertext"]
    assert rig.run("decrypt", name="rsa", ciphertext=sealed)["plaintext"] == P
    peer = rig.create("peer", "ecdsa-p256", protection="software")["keys"]["1"]["public_key"]
    assert rig.run("shared-secret", name="party", peer_public_key=peer)["shared_secret"]


def make_all(rig: Rig) -> None:
    for name, kind in (("aes", "aes256-gcm96"), ("ec", "ecdsa-p256"), ("ed", "ed25519")):
        rig.create(name, kind, protection="hsm")
    rig.create("soft", "aes256-gcm96", protection="software")
    rig.create("cmac", "aes256-cmac", protection="hsm")
    rig.create("rsa", "rsa-2048", protection="hsm", purpose="decrypt", hash_function="sha1")
    rig.create("party", "ecdsa-p256", protection="hsm", purpose="derive")


def test_what_is_bound_is_listed_by_name_and_what_is_not_is_not(knowing: Rig) -> None:
    make_all(knowing)
    use_all(knowing)
    assert {one.name for one in bound_versions(knowing.store.reader())} == BOUND
    assert list(bound_versions(knowing.store.reader(), frozenset())) == []
    assert lost_ids(knowing.store.reader()) == frozenset()


def test_pairs_that_lived_in_the_hsm_are_noted_once_and_refused(knowing: Rig) -> None:
    make_all(knowing)
    for _ in range(2):
        with knowing.store.transaction() as tx:
            lose_keys(tx, 1)
    lost = lost_ids(knowing.store.reader())
    names = {one.name for one in bound_versions(knowing.store.reader(), lost)}
    assert "ed" in names
    assert not names & {"aes", "soft"}, "what is wrapped went with its root, which is not lost here"
    knowing.hsm().losses = Losses(knowing.store)  # type: ignore[attr-defined]  # as after a restart
    with pytest.raises(LostKeyError, match="rotate the key"):
        knowing.run("sign", name="ed", input=P)
    assert knowing.run("encrypt", name="aes", plaintext=P)["ciphertext"]
    assert knowing.run("encrypt", name="soft", plaintext=P)["ciphertext"]


def test_blobs_under_a_lost_root_are_bound_to_it(knowing: Rig) -> None:
    make_all(knowing)
    root = knowing.roots.current(Purpose.ROOT_WRAP_ENC).hex()
    with knowing.store.transaction() as tx:
        row = RootObject(purpose=Purpose.ROOT_WRAP_ENC.value, version=1, state=LOST, created=0.0)
        tx.insert(ROOTS, root, row)
    lost = lost_ids(knowing.store.reader())
    assert lost == {root}
    assert {one.name for one in bound_versions(knowing.store.reader(), lost)} == {"aes"}
    knowing.hsm().losses = Losses(knowing.store)  # type: ignore[attr-defined]  # as after a restart
    with pytest.raises(LostKeyError):
        knowing.run("encrypt", name="aes", plaintext=P)


@pytest.mark.parametrize("wrapped", [True, False])
def test_no_use_of_a_lost_key_reaches_the_token(hsm_rig: Rig, wrapped: bool) -> None:
    gone = CkaId(bytes(range(16)))
    with hsm_rig.store.transaction() as tx:
        tx.insert(LOST_OBJECTS, gone.hex(), LostObject(epoch=1))
    hsm = object.__new__(KnowingHsm)  # no token: reaching it would fail otherwise
    hsm.losses = Losses(hsm_rig.store)
    ref = (
        Wrapped(Purpose.KEY_ENC, KeySpec.AES_256, gone, b"blob", b"probe", b"context", b"")
        if wrapped
        else Resident(gone, Purpose.KEY_ENC, KeySpec.AES_256)
    )
    uses: list[Callable[[], object]] = [
        lambda: hsm.encrypt(ref, bytes(12), b"", b""),
        lambda: hsm.decrypt(ref, bytes(12), b"", b""),
        lambda: hsm.mac(ref, "sha256", b""),
        lambda: hsm.cmac(ref, b""),
        lambda: hsm.decrypt_oaep(ref, "sha256", b""),
        lambda: hsm.agree(ref, b""),
        lambda: hsm.sign(ref, Scheme.ECDSA, b""),
    ]
    for use in uses:
        with pytest.raises(LostKeyError):
            use()
