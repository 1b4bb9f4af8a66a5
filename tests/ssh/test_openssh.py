"""Certificates of a CA in the HSM, judged by OpenSSH's own sshd, ssh and ssh-keygen."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.api import Api
from tests.harness.bao import Bao
from tests.harness.sshd import Sshd, keygen, shown

Mount = Callable[[str], str]
HOST = "host.example.test"
USERS = {
    "key_type": "ca",
    "allow_user_certificates": True,
    "allowed_users": "deploy,ops",
    "default_user": "deploy",
    "allowed_extensions": "permit-pty",
}
HOSTS = {
    "key_type": "ca",
    "allow_host_certificates": True,
    "allowed_domains": "example.test",
    "allow_subdomains": True,
}


@pytest.fixture
def engine(api: Api, mount: Mount) -> str:
    """A mount with a CA and roles for users and hosts."""
    path = mount("ssh")
    api.ok("POST", f"{path}/config/ca", {"key_type": "ed25519"})
    api.ok("POST", f"{path}/roles/users", USERS)
    api.ok("POST", f"{path}/roles/hosts", HOSTS)
    return path


def _key(engine: str, api: Api) -> str:
    return api.get(f"{engine}/public_key").content.decode()


@pytest.fixture
def sshd(api: Api, engine: str, tmp_path: Path) -> Iterator[Sshd]:
    """An sshd that trusts the engine's CA and has a certificate of it."""
    private = Sshd(tmp_path / "sshd", _key(engine, api), ["deploy"])
    public = (private.folder / "host.pub").read_text()
    signed = api.ok(
        "POST",
        f"{engine}/sign/hosts",
        {"public_key": public, "cert_type": "host", "valid_principals": HOST},
    )
    private.start(signed["signed_key"])
    yield private
    private.stop()


class Client:
    """A user's key, and a known_hosts that trusts the CA for all of example.test."""

    def __init__(self, folder: Path, api: Api, engine: str) -> None:
        self.key = folder / "id"
        self.public = keygen(self.key)
        self.hosts = folder / "known_hosts"
        self.hosts.write_text(f"@cert-authority *.example.test {_key(engine, api)}")
        self._api = api
        self._engine = engine

    def sign(self, **fields: Any) -> dict[str, Any]:
        """Have the key signed and put the certificate beside it."""
        body = {"public_key": self.public, **fields}
        data = self._api.ok("POST", f"{self._engine}/sign/users", body)
        self.key.with_name("id-cert.pub").write_text(data["signed_key"])
        return data


@pytest.fixture
def client(api: Api, engine: str, tmp_path: Path) -> Client:
    return Client(tmp_path, api, engine)


def test_login_both_ways(sshd: Sshd, client: Client, api: Api, engine: str) -> None:
    client.sign()
    done = sshd.login(client.key, client.hosts, host=HOST)
    assert done.stdout == "hello from sshd\n", done.stderr + sshd.log.read_text()
    assert "Accepted publickey" in sshd.log.read_text()
    # The host proved itself by its certificate alone, and only under its name.
    other = sshd.login(client.key, client.hosts, host="other.example.test")
    assert other.returncode == 255
    assert "Host key verification failed" in other.stderr
    # A principal that stands for nobody on this host.
    client.sign(valid_principals="ops")
    refused = sshd.login(client.key, client.hosts, host=HOST)
    assert "Permission denied" in refused.stderr
    assert "Certificate does not contain an authorized principal" in sshd.log.read_text()
    # From another address than allowed.
    client.sign(critical_options={"source-address": "203.0.113.0/24"})
    assert "Permission denied" in sshd.login(client.key, client.hosts, host=HOST).stderr
    client.sign(critical_options={"source-address": "127.0.0.0/8", "force-command": "echo forced"})
    assert sshd.login(client.key, client.hosts, host=HOST).stdout == "forced\n"
    _revoke(sshd, client, api, engine)
    _expire(sshd, client, api, engine)


def _revoke(sshd: Sshd, client: Client, api: Api, engine: str) -> None:
    """By serial, then by key: the KRL that was fetched after the answer refuses."""
    krl = sshd.folder / "krl"
    first = client.sign()
    api.ok("POST", f"{engine}/revoke", {"serial_number": first["serial_number"]})
    krl.write_bytes(api.get(f"{engine}/krl").content)
    assert "Permission denied" in sshd.login(client.key, client.hosts, host=HOST).stderr
    assert "revoked" in sshd.log.read_text()
    client.sign()
    assert sshd.login(client.key, client.hosts, host=HOST).returncode == 0
    api.ok("POST", f"{engine}/revoke", {"public_key": client.public})
    krl.write_bytes(api.get(f"{engine}/krl").content)
    assert "Permission denied" in sshd.login(client.key, client.hosts, host=HOST).stderr
    sshd.revoke_none()


def _expire(sshd: Sshd, client: Client, api: Api, engine: str) -> None:
    client.sign(ttl="1s")
    end = api.get(f"{engine}/krl")  # any answer: time must pass without a sleep of our own
    assert end.status == 200
    while sshd.login(client.key, client.hosts, host=HOST).returncode == 0:
        pass
    assert "Certificate invalid: expired" in sshd.log.read_text()


def test_the_bao_command_logs_in(sshd: Sshd, client: Client, api: Api, engine: str, bao: Bao) -> None:
    """`bao ssh -mode=ca` has the key signed and runs ssh with the certificate."""
    api.ok("POST", f"{engine}/roles/users", {**USERS, "allowed_extensions": "*"})
    done = bao.run(
        "ssh",
        "-mode=ca",
        f"-mount-point={engine}",
        "-role=users",
        f"-public-key-path={client.key}.pub",
        f"-private-key-path={client.key}",
        "-valid-principals=deploy",
        "-strict-host-key-checking=yes",
        f"-user-known-hosts-file={client.hosts}",
        f"{sshd.user}@127.0.0.1",
        "-p",
        str(sshd.port),
        *("-o", f"HostKeyAlias={HOST}", "-o", "BatchMode=yes", "-F", "none", "echo hello from sshd"),
    )
    assert done.stdout == "hello from sshd\n", done.stdout + done.stderr + sshd.log.read_text()


KINDS = {
    "ssh-rsa": ("ssh-rsa", 2048, "using rsa-sha2-512", {"algorithm_signer": "rsa-sha2-512"}),
    "p256": ("ec", 256, "using ecdsa-sha2-nistp256", {}),
    "p384": ("ecdsa-sha2-nistp384", 0, "using ecdsa-sha2-nistp384", {}),
    "p521": ("ec", 521, "using ecdsa-sha2-nistp521", {}),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_ca_is_read_by_openssh(name: str, api: Api, mount: Mount, tmp_path: Path) -> None:
    kind, bits, using, more = KINDS[name]
    path = mount("ssh")
    api.ok("POST", f"{path}/config/ca", {"key_type": kind, "key_bits": bits})
    api.ok("POST", f"{path}/roles/users", {**USERS, **more, "default_extensions": {"permit-pty": ""}})
    public = keygen(tmp_path / "id", "ecdsa")
    data = api.ok("POST", f"{path}/sign/users", {"public_key": public})
    text = shown(data["signed_key"], tmp_path)
    assert using in text
    assert "ecdsa-sha2-nistp256-cert-v01@openssh.com user certificate" in text
    assert f"Serial: {int(data['serial_number'], 16)}" in text
    assert "Principals: \n                deploy\n" in text
    assert "Critical Options: (none)" in text
    assert "Extensions: \n                permit-pty" in text


def test_a_krl_names_serials_key_ids_keys_and_fingerprints(api: Api, engine: str, tmp_path: Path) -> None:
    """`ssh-keygen -Q` is what sshd does."""

    def revoked(*files: Path) -> list[bool]:
        krl = tmp_path / "krl"
        krl.write_bytes(api.get(f"{engine}/krl").content)
        return [_queried(krl, file) for file in files]

    api.ok("POST", f"{engine}/roles/users", {**USERS, "allow_user_key_ids": True})
    files, serials = [], []
    for name in ("serial", "key-id", "key", "print", "good"):
        public = keygen(tmp_path / name)
        signed = api.ok("POST", f"{engine}/sign/users", {"public_key": public, "key_id": name})
        path = tmp_path / f"{name}-cert.pub"
        path.write_text(signed["signed_key"])
        files.append(path)
        serials.append(signed["serial_number"])
    assert revoked(*files) == [False] * 5
    before = api.ok("POST", f"{engine}/revoke", {"serial_number": serials[0]})["krl_version"]
    assert revoked(*files) == [True, False, False, False, False]
    api.ok("POST", f"{engine}/revoke", {"key_id": "key-id"})
    api.ok("POST", f"{engine}/revoke", {"public_key": (tmp_path / "key.pub").read_text()})
    fingerprint = _fingerprint(tmp_path / "print.pub")
    after = api.ok("POST", f"{engine}/revoke", {"fingerprint": fingerprint})["krl_version"]
    assert revoked(*files) == [True, True, True, True, False]
    assert after == before + 3
    again = api.ok("POST", f"{engine}/revoke", {"serial_number": serials[0]})
    assert again["krl_version"] == after
    # Another CA's certificates are not meant, and the CA's own stay revoked when it is gone.
    api.ok("DELETE", f"{engine}/config/ca")
    assert revoked(*files) == [True, True, True, True, False]


def _queried(krl: Path, certificate: Path) -> bool:
    done = subprocess.run(
        ["ssh-keygen", "-Q", "-f", str(krl), str(certificate)], capture_output=True, text=True, check=False
    )
    assert "REVOKED" in done.stdout or done.returncode == 0, done.stdout + done.stderr
    return "REVOKED" in done.stdout


def _fingerprint(public: Path) -> str:
    done = subprocess.run(["ssh-keygen", "-l", "-f", str(public)], capture_output=True, text=True, check=True)
    return done.stdout.split()[1]
