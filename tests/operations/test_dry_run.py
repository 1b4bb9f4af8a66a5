"""Dry runs: what would be refused is refused with the same words, and what would be done is not done."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kms.errors import KmsError
from kms.operation import Capability
from kms.operations import operations
from kms.operations.rehearsal import _WITHOUT
from kms.policy import Decision
from tests.keys.rig import NoHsm, Rig

P = "aGVsbG8="
TYPES = {
    "aead": "aes256-gcm96",
    "ec": "ecdsa-p256",
    "ed": "ed25519",
    "rsa": "rsa-2048",
    "mac": "hmac",
    "cmac": "aes128-cmac",
    "kwp": "aes128-kwp",
    "kem": "mlkem-768",
}


@pytest.fixture
def made(rig: Rig) -> dict[str, Any]:
    """Keys of each kind and something that each protected."""
    rig.table = {o.name: o for o in operations(rig.service, lambda _who, _call: Decision(True, "", ""))}
    for name, type_ in TYPES.items():
        rig.create(name, type_, protection="software")
    rig.create("derived", derived=True)
    rig.create("gone")
    rig.run("keys.config", name="gone", deletion_allowed=True)
    return {
        "aead": rig.run("encrypt", name="aead", plaintext=P)["ciphertext"],
        "derived": rig.run("encrypt", name="derived", plaintext=P, context=P)["ciphertext"],
        "rsa": rig.run("encrypt", name="rsa", plaintext=P)["ciphertext"],
        "ec": rig.run("sign", name="ec", input=P)["signature"],
        "hmac": rig.run("hmac", name="mac", input=P)["hmac"],
        "kwp": rig.run("wrap", name="kwp", plaintext=P)["ciphertext"],
        "kem": rig.run("encapsulate", name="kem")["ciphertext"],
        "public": rig.run("keys.read", name="ec")["keys"]["1"]["public_key"],
    }


def calls(made: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Calls that would succeed: every operation with a dry run, and every kind of key."""
    yield "encrypt", {"name": "aead", "plaintext": P}
    yield "encrypt", {"name": "derived", "plaintext": P, "context": P}
    yield "encrypt", {"name": "rsa", "plaintext": P}
    yield "encrypt", {"name": "fresh", "plaintext": P}
    yield "encrypt", {"name": "aead", "batch_input": [{"plaintext": P}] * 3}
    yield "decrypt", {"name": "aead", "ciphertext": made["aead"]}
    yield "decrypt", {"name": "derived", "ciphertext": made["derived"], "context": P}
    yield "decrypt", {"name": "rsa", "ciphertext": made["rsa"]}
    yield "rewrap", {"name": "aead", "ciphertext": made["aead"]}
    yield "datakey", {"name": "aead", "kind": "plaintext"}
    yield "datakeypair", {"name": "aead", "kind": "plaintext"}
    yield "sign", {"name": "ec", "input": P}
    yield "sign", {"name": "ec", "input": P, "marshaling_algorithm": "jws"}
    yield "sign", {"name": "ed", "input": P}
    yield "sign", {"name": "rsa", "batch_input": [{"input": P, "reference": "r"}]}
    yield "verify", {"name": "ec", "input": P, "signature": made["ec"]}
    yield "verify", {"name": "mac", "input": P, "hmac": made["hmac"]}
    yield "hmac", {"name": "mac", "input": P}
    yield "cmac", {"name": "cmac", "input": P}
    yield "wrap", {"name": "kwp", "plaintext": P}
    yield "unwrap", {"name": "kwp", "ciphertext": made["kwp"]}
    yield "encapsulate", {"name": "kem"}
    yield "decapsulate", {"name": "kem", "ciphertext": made["kem"]}
    yield "keys.create", {"name": "new"}
    yield "keys.create", {"name": "aead"}
    yield "keys.rotate", {"name": "aead"}
    yield "keys.config", {"name": "aead", "deletion_allowed": True, "owner": "payments"}
    yield "keys.delete", {"name": "gone"}
    yield "keys.suspend", {"name": "aead", "reason": "drill"}
    yield "keys.soft-delete", {"name": "aead"}
    yield "aliases.point", {"alias": "a", "key": "aead"}
    yield "derive-key", {"name": "agreed", "base_key_name": "ec", "peer_public_key": made["public"]}
    yield "shared-secret", {"name": "ec", "peer_public_key": made["public"]}
    yield "keys.import", {"name": "foreign", "type": "ecdsa-p256", "public_key": made["public"]}
    yield "settings.update", {"disable_upsert": True}


REFUSED = [
    ("encrypt", {"name": "kem", "plaintext": P}),
    ("encrypt", {"name": "aead", "plaintext": "no base64!"}),
    ("encrypt", {"name": "aead", "plaintext": P, "key_version": 9}),
    ("encrypt", {"name": "derived", "plaintext": P}),
    ("decrypt", {"name": "none", "ciphertext": "vault:v1:AAAA"}),
    ("decrypt", {"name": "aead", "ciphertext": "vault:v7:AAAA"}),
    ("decrypt", {"name": "aead", "ciphertext": "vault:v1:AAAA"}),
    ("sign", {"name": "aead", "input": P}),
    ("sign", {"name": "ec", "input": P, "prehashed": True}),
    ("sign", {"name": "ec", "input": P, "hash_algorithm": "md5"}),
    ("verify", {"name": "ec", "input": P}),
    ("wrap", {"name": "aead", "plaintext": P}),
    ("keys.create", {"name": "new", "type": "bogus"}),
    ("keys.rotate", {"name": "none"}),
    ("keys.delete", {"name": "aead"}),
    ("keys.resume", {"name": "none"}),
    ("keys.suspend", {"name": "aead", "reason": ""}),
    ("keys.config", {"name": "aead", "min_decryption_version": 9}),
    ("aliases.point", {"alias": "ec", "key": "aead"}),
]


def rows(rig: Rig) -> list[Any]:
    """Every row of every table, as it is on disk."""
    path = next(rig.folder.glob("*.db")) if list(rig.folder.glob("*.db")) else next(rig.folder.iterdir())
    with closing(sqlite3.connect(path)) as db:
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return [(name, db.execute(f"SELECT * FROM {name}").fetchall()) for name in sorted(names)]  # noqa: S608  (names of our own)


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize(("operation", "args"), REFUSED)
def test_a_refusal_has_the_same_words(rig: Rig, operation: str, args: dict[str, Any]) -> None:
    texts = []
    for dry_run in (True, False):
        with pytest.raises(KmsError) as caught:
            rig.result(operation, **args, dry_run=dry_run)
        texts.append((caught.value.kind, caught.value.detail))
    assert texts[0] == texts[1]


def test_nothing_is_done_and_nothing_given(rig: Rig, made: dict[str, Any]) -> None:
    before = rows(rig)
    seen = set()
    for operation, args in calls(made):
        result = rig.result(operation, **args, dry_run=True)
        assert rig.steps == ["result"], operation
        assert result.data is not None
        assert result.data["dry_run"] is True
        assert set(result.data) <= {"dry_run", "batch_results"}, operation
        for item in result.data.get("batch_results", []):
            assert set(item) <= {"reference"}, operation
        assert "valid" not in result.subject
        assert rows(rig) == before, operation
        seen.add(f"transit.{operation}")
    assert rig.service.get("mount-1", "fresh") is None
    rehearsed = {name for name, found in rig.table.items() if "dry_run" in {f.name for f in found.fields}}
    rest = rehearsed - seen
    assert seen <= rehearsed
    # Left out above because they need much setting up; they go the same way.
    assert rest == {
        "transit.reencrypt",
        "transit.restore",
        "transit.aliases.delete",
        "transit.keys.activate",
        "transit.keys.compromise",
        "transit.keys.deactivate",
        "transit.keys.import-version",
        "transit.keys.resume",
        "transit.keys.set-certificate",
        "transit.keys.soft-restore",
        "transit.keys.trim",
        "transit.pending.cancel",
        "transit.pending.restore",
        "transit.pending.schedule",
    }


def test_what_has_no_dry_run_looks_or_has_no_key(rig: Rig) -> None:
    for name, operation in rig.table.items():
        if "dry_run" not in {field.name for field in operation.fields}:
            assert operation.capability in (Capability.READ, Capability.LIST) or name in _WITHOUT, name


def test_a_dry_run_is_no_oracle(rig: Rig, made: dict[str, Any]) -> None:
    """A forged ciphertext, signature or MAC gets the same answer as a good one."""
    forged = made["aead"][:-8] + ("AAAAAAA=" if made["aead"].endswith("=") else "AAAAAAAA")
    for operation, args, other in (
        ("decrypt", {"name": "aead", "ciphertext": made["aead"]}, {"ciphertext": forged}),
        ("verify", {"name": "mac", "input": P, "hmac": made["hmac"]}, {"input": "AAAA"}),
        ("unwrap", {"name": "kwp", "ciphertext": made["kwp"]}, {"ciphertext": made["kwp"][:-8] + "AAAAAAA="}),
    ):
        good = rig.result(operation, **args, dry_run=True)
        bad = rig.result(operation, **{**args, **other}, dry_run=True)
        assert (good.data, good.subject, good.partial) == (bad.data, bad.subject, bad.partial)


def test_failing_items_of_a_batch_are_named(rig: Rig) -> None:
    rig.create("aead")
    items = [{"plaintext": P, "reference": "a"}, {"plaintext": "%%%", "reference": "b"}]
    result = rig.result("encrypt", name="aead", batch_input=items, dry_run=True)
    assert result.partial
    assert result.data is not None
    assert [sorted(item) for item in result.data["batch_results"]] == [["reference"], ["error", "reference"]]


def test_a_dry_run_of_an_hsm_key_makes_nothing_in_the_hsm(hsm_rig: Rig) -> None:
    hsm = hsm_rig.hsm()
    before = hsm.objects("")
    for type_ in ("aes256-gcm96", "ecdsa-p256", "rsa-2048"):
        hsm_rig.result("keys.create", name="new", type=type_, protection="hsm", dry_run=True)
    assert hsm.objects("") == before
    hsm_rig.create("k", protection="hsm")
    hsm_rig.result("keys.rotate", name="k", dry_run=True)
    assert hsm_rig.run("keys.read", name="k")["latest_version"] == 1


def test_no_dry_run_asks_the_hsm_for_anything(hsm_rig: Rig) -> None:
    """Every operation on `hsm` keys, by a second process that has no HSM at all."""
    types = {
        "aead": TYPES["aead"],
        "ec": TYPES["ec"],
        "ed": TYPES["ed"],
        "mac": TYPES["mac"],
        "cmac": TYPES["cmac"],
    }
    for name, type_ in types.items():
        hsm_rig.create(name, type_, protection="hsm")
    hsm_rig.create("base", "ecdsa-p256", protection="hsm", purpose="derive")
    hsm_rig.create("opens", "rsa-2048", protection="hsm", purpose="decrypt", hash_function="SHA1")
    public = hsm_rig.run("keys.read", name="base")["keys"]["1"]["public_key"]
    hsm_rig.run("wrapping-key", protection="hsm")
    sealed = hsm_rig.run("encrypt", name="aead", plaintext=P)["ciphertext"]
    block = hsm_rig.run("encrypt", name="opens", plaintext=P)["ciphertext"]
    signed = hsm_rig.run("sign", name="ec", input=P)["signature"]
    mac = hsm_rig.run("hmac", name="mac", input=P)["hmac"]
    parcel = {"ciphertext": "A" * 800, "protection": "hsm", "hash_function": "SHA1"}
    planned: list[tuple[str, dict[str, Any]]] = [
        ("encrypt", {"name": "aead", "plaintext": P}),
        ("decrypt", {"name": "aead", "ciphertext": sealed}),
        ("decrypt", {"name": "opens", "ciphertext": block}),
        ("rewrap", {"name": "aead", "ciphertext": sealed}),
        ("datakey", {"name": "aead", "kind": "plaintext"}),
        ("sign", {"name": "ec", "input": P}),
        ("sign", {"name": "ed", "input": P}),
        ("verify", {"name": "ec", "input": P, "signature": signed}),
        ("verify", {"name": "mac", "input": P, "hmac": mac}),
        ("hmac", {"name": "ec", "input": P}),
        ("cmac", {"name": "cmac", "input": P}),
        ("keys.create", {"name": "new", "protection": "hsm"}),
        ("keys.rotate", {"name": "ec"}),
        ("derive-key", {"name": "agreed", "base_key_name": "base", "peer_public_key": public}),
        ("shared-secret", {"name": "base", "peer_public_key": public}),
        ("keys.import", {"name": "foreign", "type": "ecdsa-p256", "public_key": public, **parcel}),
        ("keys.import", {"name": "foreign", "type": "hmac", **parcel}),
        ("keys.suspend", {"name": "ec", "reason": "drill"}),
        ("keys.soft-delete", {"name": "ec"}),
    ]
    without = Rig(hsm_rig.folder, NoHsm(), NoHsm(), hsm_rig.sealer, hsm_rig.clock)
    before = rows(hsm_rig)
    for operation, args in planned:
        assert without.result(operation, **args, dry_run=True).data == {"dry_run": True}, operation
        assert rows(hsm_rig) == before, operation
    with pytest.raises(KmsError, match="does not match peer public key curve"):
        other = stranger()
        without.result("derive-key", name="agreed", base_key_name="base", peer_public_key=other, dry_run=True)


def stranger() -> str:
    """A public key on another curve, in PEM."""
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
