"""Trimming, soft deletion, export, backup and settings, against the real server."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.keys.rig import Rig
from tests.operations.peer import CLIENT_FAULT, STRICTER, Case, Ours, P, ask, compare, post

V4 = "vault:v4:" + "A" * 60
CLEAR: dict[str, Any] = {"exportable": True, "allow_plaintext_backup": True}
TYPES = [
    "aes128-gcm96",
    "aes256-gcm96",
    "chacha20-poly1305",
    "xchacha20-poly1305",
    "ed25519",
    "ecdsa-p256",
    "ecdsa-p384",
    "ecdsa-p521",
    "rsa-2048",
    "rsa-3072",
    "hmac",
    "mldsa-44",
    "mldsa-87",
]
KINDS = ["encryption-key", "signing-key", "hmac-key", "public-key", "certificate-chain", "bogus"]


def _sized(type_: str) -> dict[str, Any]:
    return {"type": type_, **({"key_size": 33} if type_ == "hmac" else {})}


SETUP = [
    post("keys/tr"),
    *(post("keys/tr/rotate") for _ in range(3)),
    *(post(f"keys/{name}", **_sized(name), **CLEAR) for name in TYPES),
    post("keys/aes256-gcm96/rotate"),
    post("keys/shut", type="ed25519"),
    post("keys/derived", type="ed25519", derived=True),
]
TRIM = [
    post("keys/tr/trim"),
    post("keys/tr/trim", min_available_version=1),
    post("keys/none/trim", min_available_version=1),
    post("keys/tr/config", min_decryption_version=2),
    post("keys/tr/config", min_encryption_version=3),
    *(post("keys/tr/trim", min_available_version=value) for value in (0, -1, 3, 4, 9, "x", 2, 2, 1)),
    post("keys/tr/config", min_decryption_version=3),
    post("keys/tr/trim", min_available_version=3),
    post("keys/tr/trim", min_available_version=2),
    *(post("keys/tr/config", min_decryption_version=value) for value in (2, 1, 0)),
    *(post("keys/tr/config", min_encryption_version=value) for value in (0, 1, 2)),
    Case("GET", "keys/tr"),
    post("decrypt/tr", ciphertext="vault:v1:" + "A" * 60),
    post("decrypt/tr", ciphertext="vault:v3:" + "A" * 60),
    post("hmac/tr", input=P, key_version=1),
]
SOFT = [
    Case("DELETE", "keys/tr/soft-delete"),
    Case("GET", "keys/tr"),
    post("keys/tr/config", deletion_allowed=True),
    Case("DELETE", "keys/tr/soft-delete"),
    Case("DELETE", "keys/none/soft-delete"),
    post("encrypt/tr", plaintext=P),
    post("decrypt/tr", ciphertext=V4),
    post("rewrap/tr", ciphertext=V4),
    post("datakey/plaintext/tr"),
    post("hmac/tr", input=P),
    post("verify/tr", input=P, hmac="vault:v4:YQ=="),
    post("sign/tr", input=P),
    post("keys/tr/rotate", allowed=CLIENT_FAULT),
    post("keys/tr/config", exportable=True),
    post("keys/tr/trim", min_available_version=3),
    post("keys/tr"),
    Case("GET", "export/encryption-key/tr", allowed=CLIENT_FAULT),
    Case("GET", "backup/tr", allowed=CLIENT_FAULT),
    post("keys/tr/soft-delete-restore"),
    post("keys/tr/soft-delete-restore"),
    post("keys/none/soft-delete-restore"),
    post("encrypt/tr", plaintext=P),
    Case("DELETE", "keys/tr/soft-delete"),
    Case("DELETE", "keys/tr"),
    Case("GET", "keys/tr"),
]


def _fault(kind: str, type_: str) -> str:
    symmetric = "-" in type_ and not type_.startswith(("ecdsa", "rsa"))
    if kind == "public-key" and (symmetric or type_ == "hmac"):
        return CLIENT_FAULT
    if kind == "certificate-chain" and not symmetric and type_ != "hmac":
        return CLIENT_FAULT
    return ""


def _format_fault(kind: str, type_: str, encoding: str) -> str:
    symmetric = kind == "hmac-key" or (kind == "encryption-key" and type_ == "aes256-gcm96")
    if symmetric and encoding in ("der", "pem"):
        return CLIENT_FAULT
    return CLIENT_FAULT if encoding == "raw" and type_.startswith(("ecdsa", "rsa")) else ""


FORMATTED = [
    ("encryption-key", "aes256-gcm96"),
    ("encryption-key", "rsa-2048"),
    ("signing-key", "ecdsa-p256"),
    ("signing-key", "ecdsa-p521"),
    ("signing-key", "ed25519"),
    ("signing-key", "rsa-2048"),
    ("public-key", "ecdsa-p256"),
    ("public-key", "ed25519"),
    ("public-key", "rsa-2048"),
    ("public-key", "mldsa-44"),
    ("signing-key", "mldsa-44"),
    ("hmac-key", "hmac"),
    ("hmac-key", "aes256-gcm96"),
]
EXPORT = [
    *(
        Case("GET", f"export/{kind}/{type_}", allowed=_fault(kind, type_))
        for kind in KINDS
        for type_ in ("aes256-gcm96", "ed25519", "ecdsa-p256", "rsa-2048", "hmac")
    ),
    *(
        Case(
            "GET",
            f"export/{kind}/{type_}/1",
            {"format": encoding},
            _format_fault(kind, type_, encoding),
        )
        for kind, type_ in FORMATTED
        for encoding in ("", "raw", "der", "pem", "bogus")
    ),
    *(
        Case("GET", f"export/encryption-key/aes256-gcm96/{which}")
        for which in ("1", "2", "3", "latest", "0", "x", "01")
    ),
    Case("GET", "export/encryption-key/aes256-gcm96/-1", allowed=STRICTER),
    Case("GET", "export/encryption-key/none"),
    Case("GET", "export/signing-key/shut"),
    Case("GET", "export/hmac-key/shut"),
    Case("GET", "export/public-key/shut"),
    Case("GET", "export/public-key/derived"),
]
BACKUP = [
    Case("GET", "backup/none", allowed=CLIENT_FAULT),
    Case("GET", "backup/shut", allowed=CLIENT_FAULT),
    post("restore"),
    post("restore", backup="!!", allowed=CLIENT_FAULT),
    post("restore/y", backup="YQ==", allowed=CLIENT_FAULT),
]
SETTINGS = [
    Case("GET", "cache-config"),
    *(post("cache-config", size=size) for size in (0, -1, 5, 10, 1000, "x")),
    post("cache-config"),
    Case("GET", "config/keys"),
    post("config/keys"),
    post("config/keys", disable_upsert="x"),
]


def test_every_request_gets_the_real_servers_answer(peer: httpx.Client, hsm_rig: Rig) -> None:
    compare(peer, hsm_rig, SETUP, [*TRIM, *SOFT, *EXPORT, *BACKUP, *SETTINGS])


def _backup_text(client: httpx.Client, name: str) -> str:
    return str(client.get(f"transit/backup/{name}").json()["data"]["backup"])


def _use(type_: str) -> list[tuple[str, dict[str, Any], str]]:
    """What a key of a type makes, and which operation takes it back: (operation, arguments, member)."""
    uses = [("hmac", {"input": P}, "hmac")]
    if type_.startswith(("ed", "ec", "rsa", "ml")):
        uses.append(("sign", {"input": P}, "signature"))
    if not type_.startswith(("ed", "ec", "hmac", "ml")):
        uses.append(("encrypt", {"plaintext": P}, "ciphertext"))
    return uses


MOVED: list[tuple[str, dict[str, bool]]] = [(type_, {}) for type_ in TYPES] + [
    (type_, {"derived": True, "convergent_encryption": True})
    for type_ in ("aes128-gcm96", "aes256-gcm96", "chacha20-poly1305", "xchacha20-poly1305")
]
MOVED.append(("ed25519", {"derived": True}))


@pytest.mark.parametrize(("type_", "flags"), MOVED)
def test_keys_move_between_the_servers(
    peer: httpx.Client, rig: Rig, type_: str, flags: dict[str, bool]
) -> None:
    """A backup of either is a key of the other; each opens and verifies what the other made."""
    name = f"m-{type_}{len(flags)}"
    peer.post(f"transit/keys/{name}", json={**_sized(type_), **CLEAR, **flags}).raise_for_status()
    peer.post(f"transit/keys/{name}/rotate", json={}).raise_for_status()
    more = {"context": "Y29udGV4dA=="} if flags else {}
    rig.result("restore", backup=_backup_text(peer, name), name="")
    _exchange(peer, rig, name, type_, more)
    text = rig.run("backup", name=name)["backup"]
    if type_.startswith("mldsa"):
        return  # the real server crashes when it uses a restored ML-DSA key, its own backups included
    peer.post(f"transit/restore/{name}-back", json={"backup": text}).raise_for_status()
    rig.result("restore", backup=text, name=f"{name}-back")
    _exchange(peer, rig, f"{name}-back", type_, more)


def _exchange(peer: httpx.Client, rig: Rig, name: str, type_: str, more: dict[str, Any]) -> None:
    for operation, args, member in _use(type_):
        sent = {} if operation == "hmac" else more
        for version in (1, 2):
            request = {**args, **sent, "key_version": version}
            theirs = peer.post(f"transit/{operation}/{name}", json=request).json()["data"][member]
            mine = rig.run(operation, name=name, **request)[member]
            if operation == "hmac" or (operation == "encrypt" and more) or type_ == "ed25519":
                assert theirs == mine
            if operation == "encrypt":
                assert rig.run("decrypt", name=name, ciphertext=theirs, **sent) == {"plaintext": P}
                opened = peer.post(f"transit/decrypt/{name}", json={"ciphertext": mine, **sent}).json()
                assert opened["data"] == {"plaintext": P}
            else:
                assert rig.run("verify", name=name, input=P, **{member: theirs}, **sent) == {"valid": True}
                verified = peer.post(f"transit/verify/{name}", json={"input": P, member: mine, **sent})
                assert verified.json()["data"] == {"valid": True}


def test_a_restored_key_reads_as_the_real_servers(peer: httpx.Client, hsm_rig: Rig) -> None:
    peer.post("transit/keys/src", json=CLEAR).raise_for_status()
    text = _backup_text(peer, "src")
    ours = Ours(hsm_rig)
    for case in (
        post("restore/dst", backup=text),
        Case("GET", "keys/dst"),
        post("restore/dst", backup=text, force=True),
    ):
        assert ours.ask(case) == ask(peer, case), case
    again = post("restore/dst", backup=text, allowed=CLIENT_FAULT)
    assert ours.ask(again) == (400, {"errors": ['key "dst" already exists']})
    assert ask(peer, again)[1] == {"errors": ['1 error occurred:\n\t* key "dst" already exists\n\n']}
