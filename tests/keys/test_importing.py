"""Imports and agreements that are refused; the peer tests have what is accepted."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kms.errors import ErrorKind, KmsError
from kms.keys.store import IMPORT_KEYS, NAMED_KEYS
from tests.keys.rig import Rig


def pem(private: Any) -> str:
    return str(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


P256 = pem(ec.generate_private_key(ec.SECP256R1()))
P384 = pem(ec.generate_private_key(ec.SECP384R1()))
ED = pem(Ed25519PrivateKey.generate())


def refused(rig: Rig, operation: str, **args: Any) -> str:
    with pytest.raises(KmsError) as caught:
        rig.run(operation, **args)
    assert caught.value.kind is ErrorKind.INVALID
    return caught.value.detail


IMPORTS: list[tuple[dict[str, Any], str]] = [
    ({"name": "a/b"}, "invalid key name"),
    ({"name": "x", "protection": "hsm", "type": "ecdsa-p256", "public_key": P256}, "needs its private half"),
    ({"name": "x", "ciphertext": "A" * 800}, "no wrapping key yet"),
    ({"name": "x", "ciphertext": "A" * 100_000}, "longer than any key"),
    ({"name": "x", "type": "ed25519", "public_key": P256}, "expected ed25519, got ecdsa-p256"),
    ({"name": "x", "type": "mldsa-44", "public_key": P256}, "expected mldsa-44, got ecdsa-p256"),
    ({"name": "x", "type": "ecdsa-p256", "public_key": P256, "derived": True}, "not supported for keys"),
]


@pytest.mark.parametrize(("args", "text"), IMPORTS)
def test_a_refused_import_makes_no_key(rig: Rig, args: dict[str, Any], text: str) -> None:
    assert text in refused(rig, "keys.import", **args)
    assert rig.store.reader().keys(NAMED_KEYS) == []


def test_the_wrapping_key_stays_the_same_and_goes_with_its_mount(rig: Rig) -> None:
    first = rig.run("wrapping-key")
    assert rig.steps == ["change"]
    assert rig.run("wrapping-key") == first
    assert rig.steps == ["result"]
    assert "'software' or 'hsm'" in refused(rig, "wrapping-key", protection="tpm")
    with rig.store.transaction() as tx:
        rig.service.retire_mount(tx, "mount-1")
    assert rig.store.reader().keys(IMPORT_KEYS) == []


def test_versions_are_completed_only_with_their_own_private_half(rig: Rig) -> None:
    rig.result("keys.import", name="k", type="ecdsa-p256", public_key=P256)
    for args, text in (
        ({"public_key": P256, "version": 1}, "has its public key already"),
        ({"public_key": P384}, "expected ecdsa-p256, got ecdsa-p384"),
        ({"public_key": P256, "version": 2}, "no such key version"),
    ):
        assert text in refused(rig, "keys.import-version", name="k", **args)
    rig.result("keys.import-version", name="k", public_key=P256)
    rig.run("keys.soft-delete", name="k")
    assert "soft-deleted" in refused(rig, "keys.import-version", name="k", public_key=P256)


def test_nothing_is_handed_on_that_is_not_exportable(rig: Rig) -> None:
    rig.create("k")
    rig.create("to", "rsa-2048")
    assert refused(rig, "byok-export", destination="to", source="k") == "key is not exportable"


@pytest.fixture
def bases(hsm_rig: Rig) -> Rig:
    rig = hsm_rig
    rig.create("soft", "ecdsa-p256", protection="software")
    rig.run("keys.rotate", name="soft")
    rig.run("keys.config", name="soft", min_decryption_version=2)
    rig.create("hard", "ecdsa-p256", protection="hsm")
    rig.create("gone", "ecdsa-p256", protection="software")
    rig.run("keys.soft-delete", name="gone")
    rig.result("keys.import", name="half", type="ecdsa-p256", public_key=P256)
    rig.create("born")
    rig.create("dk", "aes128-gcm96")
    return rig


AGREEMENTS: list[tuple[dict[str, Any], str]] = [
    ({"base_key_name": "hard"}, "protection hsm"),
    ({"base_key_name": "gone"}, "soft-deleted"),
    ({"base_key_name": "half"}, "does not contain a private part"),
    ({"base_key_version": 1}, "too old"),
    ({"base_key_version": 3}, "higher than the latest"),
    ({"base_key_version": -1}, "cannot be negative"),
    ({"peer_public_key": ED}, "not on an elliptic curve"),
    ({"peer_public_key": P384}, "does not match peer public key curve"),
    ({"peer_public_key": P256[:60]}, "no valid public key"),
    ({"name": "born"}, "is not a aes256-gcm96 key that was derived"),
    ({"name": "dk"}, "is not a aes256-gcm96 key that was derived"),
]


@pytest.mark.parametrize(("args", "text"), AGREEMENTS)
def test_what_is_not_agreed_on(bases: Rig, args: dict[str, Any], text: str) -> None:
    request = {"name": "new", "base_key_name": "soft", "peer_public_key": P256, **args}
    assert text in refused(bases, "derive-key", **request)
    assert "mount-1/new" not in bases.store.reader().keys(NAMED_KEYS)
