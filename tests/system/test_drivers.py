"""Every transit path is driven by a client that people have: hvac's own call where it has one, `bao` otherwise.

The audit log is the witness: a driver counts only when the server has a record that its operation was done on
its path. A path without a driver fails, and so does a driver without a path.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import hvac
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hvac.api.secrets_engines.transit import Transit

from kms.http.vault.transit import ROUTES
from tests.harness.bao import Bao
from tests.harness.dev import DevServer
from tests.harness.log import entries
from tests.vectors.runner import Runner

P = "aGVsbG8="
PARTNER = "ecdsa-p256"


@dataclass
class Drive:
    """The clients, one mount, and what earlier steps left for later ones."""

    server: DevServer
    transit: Transit
    bao: Bao
    mount: str
    folder: Path
    kept: dict[str, Any] = field(default_factory=dict)

    def hvac(self, call: str, *arguments: Any, **named: Any) -> Any:
        """Hvac's own method, with its data as the answer."""
        answer = getattr(self.transit, call)(*arguments, mount_point=self.mount, **named)
        return answer["data"] if isinstance(answer, dict) and answer.get("data") else answer

    def write(self, path: str, *fields: str) -> dict[str, Any]:
        """`bao write`; a field may be `name=@file`."""
        done = self.bao(
            "write", "-format=json", *(() if fields else ("-f",)), f"{self.mount}/{path}", *fields
        )
        return self.data(done)

    def read(self, path: str) -> dict[str, Any]:
        """`bao read`."""
        return self.data(self.bao("read", "-format=json", f"{self.mount}/{path}"))

    def listed(self, path: str) -> None:
        """`bao list`."""
        self.bao("list", f"{self.mount}/{path}")

    def delete(self, path: str) -> None:
        """`bao delete`."""
        self.bao("delete", f"{self.mount}/{path}")

    def file(self, name: str, text: str) -> str:
        """For `name=@file`."""
        (self.folder / name).write_text(text)
        return f"@{name}"

    def data(self, printed: str) -> dict[str, Any]:
        """The data of what `bao -format=json` printed; {} for none."""
        return (json.loads(printed) or {}).get("data") or {} if printed.strip().startswith("{") else {}


Step = tuple[str, Callable[[Drive], Any]]


def make_keys(drive: Drive) -> None:
    drive.hvac("create_key", "k", key_type="aes256-gcm96", exportable=True, allow_plaintext_backup=True)


def import_key(drive: Drive) -> None:
    with drive.server.api() as api:
        runner = Runner(api, drive.mount)
        wrapped = [runner.wrap(secrets.token_bytes(32)) for _ in range(2)]
    drive.kept["second"] = wrapped[1]
    drive.write("keys/imported/import", f"ciphertext={wrapped[0]}", "type=aes256-gcm96")


def certify(drive: Drive) -> None:
    """A certificate over the request's public key, from a throw-away authority."""
    request = x509.load_pem_x509_csr(drive.kept["csr"].encode())
    authority = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "driver")])
    now = datetime.now(UTC)  # the certificate's, for no clock of the service
    builder = x509.CertificateBuilder(name, name, request.public_key(), 1, now, now + timedelta(days=1))
    certificate = builder.sign(authority, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    drive.write("keys/signer/set-certificate", f"certificate_chain={drive.file('chain.pem', certificate)}")


def keep(drive: Drive, name: str, value: Any) -> None:
    drive.kept[name] = value


def pending(drive: Drive, key: str) -> str:
    """The id under which a deleted key waits."""
    drive.hvac("create_key", key)
    drive.hvac("update_key_configuration", key, deletion_allowed=True)
    drive.hvac("delete_key", key)
    listed = drive.data(drive.bao("list", "-format=json", "-detailed", f"{drive.mount}/pending"))
    found = [name for name, info in listed["key_info"].items() if info["name"] == key]
    return str(found[0])


def seal(drive: Drive) -> str:
    text: str = drive.hvac("encrypt_data", "k", plaintext=P)["ciphertext"]
    return text


def made(drive: Drive, name: str, type_: str) -> Drive:
    drive.write(f"keys/{name}", f"type={type_}")
    return drive


def signer(drive: Drive) -> Drive:
    drive.hvac("create_key", "signer", key_type=PARTNER, exportable=True)
    return drive


def future(drive: Drive) -> Drive:
    drive.write("keys/later", "activation_date=2090-01-01T00:00:00Z")
    return drive


def agree(drive: Drive) -> None:
    made(drive, "peer", PARTNER)
    public = drive.hvac("read_key", "peer")["keys"]["1"]["public_key"]
    where = drive.file("peer.pem", public)
    drive.kept["peer"] = where
    drive.write("derive-key/agreed", "base_key_name=signer", f"peer_public_key={where}")


def trim(drive: Drive) -> None:
    drive.hvac("update_key_configuration", "k", min_encryption_version=2)
    drive.hvac("trim_key", "k", 2)


# In order: later steps stand on earlier ones.
STEPS: list[Step] = [
    ("POST keys/{name}", make_keys),
    ("GET keys/{name}", lambda d: d.hvac("read_key", "k")),
    ("LIST keys", lambda d: d.hvac("list_keys")),
    ("POST keys/{name}/rotate", lambda d: d.hvac("rotate_key", "k")),
    (
        "POST encrypt/{name}",
        lambda d: keep(d, "sealed", d.hvac("encrypt_data", "k", plaintext=P)["ciphertext"]),
    ),
    ("POST decrypt/{name}", lambda d: d.hvac("decrypt_data", "k", ciphertext=d.kept["sealed"])),
    ("POST rewrap/{name}", lambda d: d.hvac("rewrap_data", "k", d.kept["sealed"])),
    ("POST datakey/{kind}/{name}", lambda d: d.hvac("generate_data_key", "k", "plaintext")),
    ("POST datakeypair/{kind}/{name}", lambda d: d.write("datakeypair/wrapped/k", "type=ed25519")),
    ("POST keys/{name}/config", lambda d: d.hvac("update_key_configuration", "k", min_decryption_version=2)),
    ("GET keys/{name}/history", lambda d: d.read("keys/k/history")),
    ("GET export/{kind}/{name}", lambda d: d.hvac("export_key", "k", "encryption-key")),
    ("GET export/{kind}/{name}/{version}", lambda d: d.hvac("export_key", "k", "encryption-key", version=2)),
    ("GET backup/{name}", lambda d: keep(d, "backup", d.hvac("backup_key", "k")["backup"])),
    ("POST restore/{name}", lambda d: d.hvac("restore_key", d.kept["backup"], name="again")),
    ("POST restore", lambda d: d.hvac("restore_key", d.kept["backup"], force=True)),
    ("POST reencrypt/{name}", lambda d: d.write("reencrypt/k", "destination=again", f"ciphertext={seal(d)}")),
    ("POST sign/{name}", lambda d: keep(d, "signed", signer(d).hvac("sign_data", "signer", P)["signature"])),
    ("POST sign/{name}/{urlalgorithm}", lambda d: d.write("sign/signer/sha2-384", f"input={P}")),
    ("POST verify/{name}", lambda d: d.hvac("verify_signed_data", "signer", P, signature=d.kept["signed"])),
    (
        "POST verify/{name}/{urlalgorithm}",
        lambda d: d.write("verify/signer/sha2-256", f"input={P}", f"signature={d.kept['signed']}"),
    ),
    ("POST keys/{name}/csr", lambda d: keep(d, "csr", d.write("keys/signer/csr")["csr"])),
    ("POST keys/{name}/set-certificate", certify),
    ("POST derive-key/{name}", agree),
    (
        "POST shared-secret/{name}",
        lambda d: d.write("shared-secret/signer", f"peer_public_key={d.kept['peer']}"),
    ),
    ("POST hmac/{name}", lambda d: d.hvac("generate_hmac", "k", P)),
    ("POST hmac/{name}/{urlalgorithm}", lambda d: d.write("hmac/k/sha2-512", f"input={P}")),
    ("POST cmac/{name}", lambda d: made(d, "cmac", "aes256-cmac").write("cmac/cmac", f"input={P}")),
    ("POST cmac/{name}/{urlmaclength}", lambda d: d.write("cmac/cmac/8", f"input={P}")),
    (
        "POST wrap/{name}",
        lambda d: keep(d, "wrapped", made(d, "kwp", "aes256-kwp").write("wrap/kwp", f"plaintext={P}")),
    ),
    ("POST unwrap/{name}", lambda d: d.write("unwrap/kwp", f"ciphertext={d.kept['wrapped']['ciphertext']}")),
    (
        "POST encapsulate/{name}",
        lambda d: keep(d, "kem", made(d, "kem", "mlkem-768").write("encapsulate/kem")),
    ),
    (
        "POST decapsulate/{name}",
        lambda d: d.write("decapsulate/kem", f"ciphertext={d.kept['kem']['ciphertext']}"),
    ),
    ("POST random", lambda d: d.hvac("generate_random_bytes", n_bytes=16)),
    ("POST random/{urlsource}", lambda d: d.write("random/seal")),
    ("POST random/{urlsource}/{urlbytes}", lambda d: d.write("random/all/16")),
    ("POST hash", lambda d: d.hvac("hash_data", P)),
    ("POST hash/{urlalgorithm}", lambda d: d.write("hash/sha3-256", f"input={P}")),
    ("GET wrapping_key", lambda d: d.read("wrapping_key")),
    ("POST keys/{name}/import", import_key),
    (
        "POST keys/{name}/import_version",
        lambda d: d.write("keys/imported/import_version", f"ciphertext={d.kept['second']}"),
    ),
    (
        "GET byok-export/{destination}/{source}",
        lambda d: made(d, "dest", "rsa-2048").read("byok-export/dest/k"),
    ),
    ("GET byok-export/{destination}/{source}/{version}", lambda d: d.read("byok-export/dest/k/2")),
    ("GET cache-config", lambda d: d.read("cache-config")),
    ("POST cache-config", lambda d: d.write("cache-config", "size=100")),
    ("GET config/keys", lambda d: d.read("config/keys")),
    ("POST config/keys", lambda d: d.write("config/keys", "disable_upsert=false")),
    ("POST keys/{name}/trim", trim),
    ("DELETE keys/{name}/soft-delete", lambda d: d.delete("keys/again/soft-delete")),
    ("POST keys/{name}/soft-delete-restore", lambda d: d.write("keys/again/soft-delete-restore")),
    ("POST aliases/{alias}", lambda d: d.write("aliases/now", "key=k")),
    ("GET aliases/{alias}", lambda d: d.read("aliases/now")),
    ("LIST aliases", lambda d: d.listed("aliases")),
    ("DELETE aliases/{alias}", lambda d: d.delete("aliases/now")),
    ("DELETE keys/{name}", lambda d: keep(d, "pending", pending(d, "leaving"))),
    ("LIST pending", lambda d: d.listed("pending")),
    ("GET pending/{pending_id}", lambda d: d.read(f"pending/{d.kept['pending']}")),
    ("POST pending/{pending_id}/cancel", lambda d: d.write(f"pending/{d.kept['pending']}/cancel")),
    (
        "POST pending/{pending_id}/schedule",
        lambda d: d.write(f"pending/{d.kept['pending']}/schedule", "waiting_days=7"),
    ),
    ("POST pending/{pending_id}/restore", lambda d: d.write(f"pending/{d.kept['pending']}/restore")),
    ("POST keys/{name}/activate", lambda d: future(d).write("keys/later/activate")),
    ("POST keys/{name}/suspend", lambda d: d.write("keys/later/suspend", "reason=drill")),
    ("POST keys/{name}/resume", lambda d: d.write("keys/later/resume", "reason=drill")),
    ("POST keys/{name}/deactivate", lambda d: d.write("keys/later/deactivate", "reason=drill")),
    ("POST keys/{name}/compromise", lambda d: d.write("keys/later/compromise", "reason=drill")),
]


def test_every_path_has_a_driver_and_every_driver_a_path() -> None:
    driven = [name for name, _ in STEPS]
    assert len(driven) == len(set(driven))
    assert set(driven) == {f"{route.verb} {route.pattern}" for route in ROUTES}


@pytest.mark.slow
def test_each_path_is_driven_by_a_real_client(server: DevServer, root: hvac.Client, tmp_path: Path) -> None:
    mount = f"driven-{secrets.token_hex(4)}"
    root.sys.enable_secrets_engine("transit", path=mount)
    bao = Bao(server.address, server.token, tmp_path)
    drive = Drive(server, root.secrets.transit, bao, mount, tmp_path)
    for name, step in STEPS:
        print("step", name)  # shown when it fails
        step(drive)
    done = {
        (entry.operation, entry.resource.removeprefix(f"{mount}/").rstrip("/"))
        for entry in entries(server.audit)
        if entry.resource.startswith(f"{mount}/") and entry.outcome == "ok"
    }
    for route in ROUTES:
        form = re.compile(re.sub(r"\{\w+\}", "[^/]+", route.pattern))
        found = [
            resource
            for operation, resource in done
            if operation == route.operation and form.fullmatch(resource)
        ]
        assert found, f"{route.verb} {route.pattern} was not reached"
