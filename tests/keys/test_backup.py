"""Backups that are damaged, contradictory or hostile; halves of pairs; what may be backed up at all."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kms.errors import ErrorKind, KmsError
from kms.keys.store import KEY_VERSIONS, NAMED_KEYS
from tests.keys.rig import Rig

P = "aGVsbG8="
Change = Callable[[dict[str, Any]], None]


def refused(rig: Rig, operation: str, **args: Any) -> str:
    with pytest.raises(KmsError) as caught:
        rig.run(operation, **args)
    assert caught.value.kind is ErrorKind.INVALID
    return caught.value.detail


def backup(rig: Rig, type_: str = "aes256-gcm96", **args: Any) -> dict[str, Any]:
    rig.create("k", type_, exportable=True, allow_plaintext_backup=True, **args)
    rig.run("keys.rotate", name="k")
    document: dict[str, Any] = json.loads(b64decode(rig.run("backup", name="k")["backup"]))
    return document


def text_of(document: object) -> str:
    return b64encode(json.dumps(document).encode()).decode()


def policy(**changes: Any) -> Change:
    return lambda document: document["policy"].update(changes)


def version(**changes: Any) -> Change:
    return lambda document: document["policy"]["keys"]["1"].update(changes)


def lose_version(document: dict[str, Any]) -> None:
    del document["policy"]["keys"]["1"]
    document["archived_keys"]["keys"] = []


READ = "cannot be read"
OTHER = "not of its own type"
DAMAGED: list[tuple[str, Change, str]] = [
    ("aes256-gcm96", lambda document: document.pop("policy"), READ),
    ("aes256-gcm96", lambda document: document.pop("archived_keys"), READ),
    ("aes256-gcm96", lose_version, READ),
    ("aes256-gcm96", policy(latest_version=0), READ),
    ("aes256-gcm96", policy(latest_version=3), READ),
    ("aes256-gcm96", policy(latest_version=10**9), READ),
    ("aes256-gcm96", policy(latest_version=-1), READ),
    ("aes256-gcm96", policy(min_decryption_version=3), READ),
    ("aes256-gcm96", policy(min_encryption_version=-1), READ),
    ("aes256-gcm96", policy(min_available_version=9), READ),
    ("aes256-gcm96", policy(auto_rotate_period=-1), READ),
    ("aes256-gcm96", policy(convergent_encryption=True), READ),
    ("aes256-gcm96", policy(derived=True), "does not use HKDF-SHA256"),
    ("aes256-gcm96", policy(keys=[]), READ),
    ("aes256-gcm96", policy(name=5), READ),
    ("aes256-gcm96", policy(name="../x"), "invalid key name"),
    ("aes256-gcm96", version(key="AAAA"), OTHER),
    ("aes256-gcm96", version(key="!!"), OTHER),
    ("aes256-gcm96", version(key=None), OTHER),
    ("aes256-gcm96", version(hmac_key=None), OTHER),
    ("aes256-gcm96", version(hmac_key="AAAA"), OTHER),
    ("aes256-gcm96", lambda document: document["keystead"].update(type="bogus"), "not known here"),
    ("aes256-gcm96", lambda document: document["keystead"].update(type="rsa-2048"), OTHER),
    ("hmac", version(key="AAAA"), OTHER),
    ("ed25519", version(key=b64encode(bytes(64)).decode()), OTHER),
    ("ed25519", version(key=b64encode(bytes(32)).decode()), OTHER),
    ("ecdsa-p256", version(ec_x=1), OTHER),
    ("ecdsa-p256", version(ec_d=1), OTHER),
    ("ecdsa-p256", version(ec_x="1"), OTHER),
    ("ecdsa-p256", version(ec_x=-1), OTHER),
    ("ecdsa-p256", version(ec_x=None), OTHER),
    ("rsa-2048", version(rsa_key=None), OTHER),
    ("rsa-2048", version(rsa_key={}), OTHER),
    ("rsa-2048", lambda document: document["policy"]["keys"]["1"]["rsa_key"].update(Primes=[3, 5]), OTHER),
    ("rsa-2048", lambda document: document["policy"]["keys"]["1"]["rsa_key"].update(Primes=[0, 0]), OTHER),
    ("rsa-2048", lambda document: document["policy"]["keys"]["1"]["rsa_key"].update(D=7), OTHER),
    ("rsa-2048", lambda document: document["keystead"].update(type="rsa-4096"), OTHER),
    ("mldsa-44", version(key="AAAA"), OTHER),
    ("mlkem-768", version(key="AAAA"), OTHER),
]


@pytest.mark.parametrize(("type_", "change", "text"), DAMAGED)
def test_a_damaged_backup_is_refused_and_changes_nothing(
    rig: Rig, type_: str, change: Change, text: str
) -> None:
    document = backup(rig, type_)
    secret = json.dumps(document["policy"]["keys"]["2"])[8:40]
    change(document)
    rows = rig.store.reader().keys(KEY_VERSIONS)
    detail = refused(rig, "restore", backup=text_of(document))
    assert text in detail
    assert secret not in detail
    assert rig.store.reader().keys(NAMED_KEYS) == ["mount-1/k"]
    assert rig.store.reader().keys(KEY_VERSIONS) == rows


HOSTILE = ["x", "!!", b64encode(b"{").decode(), b64encode(b"[" * 5000).decode(), text_of([]), text_of({})]
HOSTILE.append(b64encode(b'{"policy":{"latest_version":' + b"9" * 5000 + b"}}").decode())


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_no_backup_is_refused(rig: Rig, text: str) -> None:
    assert READ in refused(rig, "restore", backup=text)


def test_a_backup_of_any_length_is_refused_before_it_is_read(rig: Rig) -> None:
    assert "longer than any key" in refused(rig, "restore", backup="A" * (16 * 1024 * 1024 + 1))


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ({}, "exporting is disallowed"),
        ({"allow_plaintext_backup": True}, "exporting is disallowed"),
        ({"exportable": True}, "plaintext backup is disallowed"),
    ],
)
def test_only_what_its_owner_allowed_is_backed_up(rig: Rig, args: dict[str, Any], text: str) -> None:
    rig.create("k", **args)
    assert text in refused(rig, "backup", name="k")


def test_a_forced_restore_retires_what_had_the_name(rig: Rig) -> None:
    text = text_of(backup(rig))
    sealed = rig.run("encrypt", name="k", plaintext=P)["ciphertext"]
    assert "already exists" in refused(rig, "restore", backup=text)
    rig.result("restore", backup=text, force=True)
    assert rig.run("decrypt", name="k", ciphertext=sealed) == {"plaintext": P}
    assert len(rig.run("pending.list")["keys"]) == 1
    assert rig.run("keys.read", name="k")["restore_info"]["version"] == 2


def test_a_trimmed_key_is_backed_up_without_what_was_trimmed(rig: Rig) -> None:
    backup(rig)
    rig.run("keys.config", name="k", min_decryption_version=2, min_encryption_version=2)
    rig.run("keys.trim", name="k", min_available_version=2)
    sealed = rig.run("encrypt", name="k", plaintext=P)["ciphertext"]
    text = rig.run("backup", name="k")["backup"]
    assert list(json.loads(b64decode(text))["policy"]["keys"]) == ["2"]
    rig.result("restore", backup=text, name="l")
    assert rig.run("decrypt", name="l", ciphertext=sealed) == {"plaintext": P}
    assert rig.run("keys.read", name="l")["min_available_version"] == 2


HALVES: list[tuple[str, Any]] = [
    ("ecdsa-p384", ec.generate_private_key(ec.SECP384R1())),
    ("rsa-2048", rsa.generate_private_key(public_exponent=65537, key_size=2048)),
    ("ed25519", Ed25519PrivateKey.generate()),
    ("mldsa-44", mldsa.MLDSA44PrivateKey.generate()),
]


@pytest.mark.parametrize(("type_", "private"), HALVES)
def test_a_public_key_alone_moves_too(rig: Rig, type_: str, private: Any) -> None:
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    flags: dict[str, Any] = {"exportable": True, "allow_plaintext_backup": True}
    rig.result("keys.import", name="k", type=type_, public_key=pem, **flags)
    rig.result("restore", backup=rig.run("backup", name="k")["backup"], name="l")
    before, after = (rig.run("export", name=name, kind="public-key")["keys"] for name in "kl")
    assert before == after
    assert "does not contain a private part" in refused(rig, "sign", name="l", input=P)
    kind = "signing-key"
    assert "not exportable" in refused(rig, "export", name="l", kind=kind)
