"""The rules of named keys, as tables: refusals first, with the texts that clients match."""

from __future__ import annotations

from typing import Any

import pytest

from kms.errors import ErrorKind, KmsError
from kms.keys.catalogue import ALGORITHMS, Kind, Protection, Use
from kms.keys.lifecycle import Wish, configure, mac_version, plan, processing_version, protecting_version
from kms.keys.model import NamedKey


def key(**changes: Any) -> NamedKey:
    values: dict[str, Any] = {
        "id": "0" * 32,
        "mount": "m",
        "name": "k",
        "type": "aes256-gcm96",
        "protection": Protection.SOFTWARE,
        "created": 1.0,
        "latest_version": 5,
        "allotted": 5,
    }
    return NamedKey(**{**values, **changes})


REFUSED_WISHES = [
    ({"type": "bogus"}, "unknown key type bogus"),
    ({"type": "aes192-gcm96"}, "unknown key type aes192-gcm96"),
    ({"convergent_encryption": True}, "convergent encryption requires derivation to be enabled"),
    ({"derived": True, "type": "rsa-2048"}, "not supported for keys of type rsa-2048"),
    ({"derived": True, "protection": "hsm"}, "derived cannot be set on a key of protection hsm"),
    ({"derived": True, "type": "aes128-cmac"}, "not supported for keys of type aes128-cmac"),
    (
        {"derived": True, "convergent_encryption": True, "type": "ed25519"},
        "convergent encryption not supported for keys of type ed25519",
    ),
    ({"protection": "hsm", "type": "xchacha20-poly1305"}, "cannot have protection hsm"),
    ({"auto_rotate_period": 10}, "auto rotate period must be 0 to disable or at least an hour"),
    ({"auto_rotate_period": 3599}, "auto rotate period must be 0 to disable or at least an hour"),
    ({"key_size": 33}, "key_size is not valid for algorithm aes256-gcm96"),
    ({"type": "hmac", "key_size": 31}, "invalid key_size 31"),
    ({"type": "hmac", "key_size": 513}, "invalid key_size 513"),
    ({"type": "hmac", "key_size": 64, "protection": "hsm"}, "key_size of 32"),
    ({"protection": "tpm"}, "unknown protection tpm"),
    ({"protection": "HSM"}, "unknown protection HSM"),
    ({"protection": "hsm", "exportable": True}, "exportable cannot be set on a key of protection hsm"),
    ({"protection": "hsm", "allow_plaintext_backup": True}, "allow_plaintext_backup cannot be set"),
    ({"protection": "hsm", "type": "chacha20-poly1305"}, "cannot have protection hsm"),
    ({"protection": "hsm", "type": "rsa-2048", "purpose": "derive"}, "do not have the purpose derive"),
    ({"protection": "hsm", "type": "ecdsa-p256", "purpose": "decrypt"}, "do not have the purpose decrypt"),
    ({"protection": "hsm", "type": "hmac", "purpose": "sign"}, "do not have the purpose sign"),
    ({"protection": "hsm", "type": "rsa-2048", "purpose": "party"}, "unknown purpose"),
    ({"purpose": "party"}, "unknown purpose"),
]


@pytest.mark.parametrize(("wish", "text"), REFUSED_WISHES)
def test_a_wish_that_contradicts_itself_is_refused(wish: dict[str, Any], text: str) -> None:
    with pytest.raises(KmsError) as caught:
        plan("id", "m", "k", Wish(**wish), 1.0)
    assert caught.value.kind is ErrorKind.INVALID
    assert text in caught.value.detail


DEFAULTS = [
    ("aes256-gcm96", {}, "software"),
    ("chacha20-poly1305", {}, "software"),
    ("hmac", {}, "software"),
    ("rsa-2048", {}, "software"),
    ("rsa-4096", {}, "software"),
    ("ed25519", {}, "hsm"),
    ("ecdsa-p256", {}, "hsm"),
    ("ecdsa-p384", {}, "hsm"),
    ("ed25519", {"exportable": True}, "software"),
    ("ecdsa-p256", {"allow_plaintext_backup": True}, "software"),
    ("ecdsa-p256", {"protection": "software"}, "software"),
    ("aes256-gcm96", {"protection": "hsm"}, "hsm"),
    ("rsa-2048", {"protection": "hsm"}, "hsm"),
    ("ed25519", {"derived": True}, "software"),
    ("aes128-cmac", {}, "software"),
    ("ecdsa-p521", {}, "hsm"),
]


@pytest.mark.parametrize(("type_", "wish", "protection"), DEFAULTS)
def test_protection_has_the_default_of_its_type(type_: str, wish: dict[str, Any], protection: str) -> None:
    assert plan("id", "m", "k", Wish(type=type_, **wish), 1.0).protection == protection


def test_an_hmac_key_has_a_size() -> None:
    assert plan("id", "m", "k", Wish(type="hmac"), 1.0).key_size == 32
    assert plan("id", "m", "k", Wish(type="hmac", key_size=512), 1.0).key_size == 512


REFUSED_SETTINGS = [
    ({"min_decryption_version": 6}, "cannot set min decryption version of 6, latest key version is 5"),
    ({"min_decryption_version": -1}, "min decryption version cannot be negative"),
    ({"min_encryption_version": 6}, "cannot set min encryption version of 6, latest key version is 5"),
    ({"min_encryption_version": -1}, "min encryption version cannot be negative"),
    (
        {"min_encryption_version": 1, "min_decryption_version": 2},
        "min encryption version of 1 must be greater than or equal to min decryption version of 2",
    ),
    ({"auto_rotate_period": 1800}, "auto rotate period must be 0 to disable or at least an hour"),
]


@pytest.mark.parametrize(("given", "text"), REFUSED_SETTINGS)
def test_a_setting_that_makes_no_sense_is_refused(given: dict[str, Any], text: str) -> None:
    with pytest.raises(KmsError, match=text.replace(";", ".")) as caught:
        configure(key(), given, 1.0)
    assert caught.value.kind is ErrorKind.INVALID


@pytest.mark.parametrize("flag", ["exportable", "allow_plaintext_backup"])
def test_an_hsm_key_never_becomes_readable(flag: str) -> None:
    with pytest.raises(KmsError, match="its bytes never leave the HSM"):
        configure(key(protection=Protection.HSM), {flag: True}, 1.0)


SETTINGS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"min_decryption_version": 0}, {"min_decryption_version": 1}),
    ({"min_decryption_version": 5}, {"min_decryption_version": 5}),
    ({"min_encryption_version": 3, "min_decryption_version": 3}, {"min_encryption_version": 3}),
    ({"min_encryption_version": 0, "min_decryption_version": 4}, {"min_encryption_version": 0}),
    ({"deletion_allowed": True}, {"deletion_allowed": True}),
    ({"exportable": True}, {"exportable": True}),
    ({"auto_rotate_period": 7200}, {"auto_rotate_period": 7200}),
]


@pytest.mark.parametrize(("given", "expected"), SETTINGS)
def test_settings_change_only_what_was_given(given: dict[str, Any], expected: dict[str, Any]) -> None:
    old = key()
    new, _ = configure(old, given, 1.0)
    for name in NamedKey.__struct_fields__:
        if name in expected:
            assert getattr(new, name) == expected[name]
        elif name not in given:
            assert getattr(new, name) == getattr(old, name)


@pytest.mark.parametrize("flag", ["exportable", "allow_plaintext_backup"])
def test_what_was_made_readable_stays_so(flag: str) -> None:
    new, _ = configure(key(**{flag: True}), {flag: False}, 1.0)
    assert getattr(new, flag) is True


def test_version_zero_is_warned_about() -> None:
    _, warnings = configure(key(), {"min_decryption_version": 0}, 1.0)
    assert any("forcing minimum to 1" in warning for warning in warnings)


PROTECTING = [  # min_decryption, min_encryption, requested, answer
    (1, 0, 0, 5),
    (1, 0, 5, 5),
    (1, 0, 1, 1),
    (1, 0, 6, "requested version for encryption is higher than the latest key version"),
    (1, 0, -1, "requested version for encryption is negative"),
    (3, 4, 3, "requested version for encryption is less than the minimum encryption key version"),
    (3, 4, 4, 4),
    (3, 0, 2, "no such key version"),
]


@pytest.mark.parametrize(("decryption", "encryption", "requested", "answer"), PROTECTING)
def test_which_version_protects(decryption: int, encryption: int, requested: int, answer: int | str) -> None:
    subject = key(min_decryption_version=decryption, min_encryption_version=encryption)
    if isinstance(answer, int):
        assert protecting_version(subject, requested, "encryption") == answer
    else:
        with pytest.raises(KmsError, match=answer):
            protecting_version(subject, requested, "encryption")


PROCESSING = [
    (3, 3, 3),
    (3, 5, 5),
    (3, 6, "too new"),
    (3, 2, "too old"),
    (3, 0, "too old"),
    (1, -1, "too old"),
]


@pytest.mark.parametrize(("minimum", "number", "answer"), PROCESSING)
def test_which_version_processes(minimum: int, number: int, answer: int | str) -> None:
    subject = key(min_decryption_version=minimum)
    if isinstance(answer, int):
        assert processing_version(subject, number, "ciphertext") == answer
    else:
        with pytest.raises(KmsError, match=answer):
            processing_version(subject, number, "ciphertext")


MACS = [
    (1, 0, 0, 5),
    (1, 0, 2, 2),
    (1, 3, 2, "too old"),
    (3, 0, 2, "too old"),
    (1, 0, -1, "cannot be negative"),
    (1, 0, 6, "key version does not exist; latest key version is 5"),
]


@pytest.mark.parametrize(("decryption", "encryption", "requested", "answer"), MACS)
def test_which_version_macs(decryption: int, encryption: int, requested: int, answer: int | str) -> None:
    subject = key(min_decryption_version=decryption, min_encryption_version=encryption)
    if isinstance(answer, int):
        assert mac_version(subject, requested) == answer
    else:
        with pytest.raises(KmsError, match=answer):
            mac_version(subject, requested)


def test_the_catalogue_gives_each_type_one_family() -> None:
    for algorithm in ALGORITHMS.values():
        assert algorithm.default in algorithm.uses
        assert algorithm.strength >= 112  # OWASP ASVS 11.2.3 asks 128; rsa-2048 is the stated exception
        signs = algorithm.allows(Use.SIGN, Protection.SOFTWARE)
        assert signs is (algorithm.kind in (Kind.EC, Kind.EDWARDS, Kind.RSA, Kind.MLDSA))
        if algorithm.kind is Kind.RSA:
            assert not algorithm.allows(Use.DECRYPT, Protection.HSM)
