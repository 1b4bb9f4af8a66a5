"""The real sops keeps a YAML file with a transit key of ours: encrypt, edit, rotate, decrypt; and is refused."""

from __future__ import annotations

import re
import secrets
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import TokenFactory
from tests.harness.api import Api
from tests.harness.dev import DevServer, clean_environment

SOPS = Path(sys.prefix) / "bin" / "sops"
Mount = Callable[[str], str]
PLAIN = "database:\n    user: orders\n    password: correct horse\nport: 5432\n"
# What $EDITOR does to the file that sops shows it.
EDITOR = "#!/bin/sh\nsed -i 's/correct horse/battery staple/' \"$1\"\n"


@dataclass
class Sops:
    """Runs sops in a folder with VAULT_TOKEN and nothing else of the caller's environment."""

    folder: Path
    key: str  # the URI of a transit key
    token: str

    def run(self, *arguments: str, token: str | None = None) -> subprocess.CompletedProcess[str]:
        environment = clean_environment(
            self.folder,
            VAULT_TOKEN=self.token if token is None else token,
            EDITOR=str(self.folder / "editor"),
            SOPS_DISABLE_VERSION_CHECK="1",
        )
        return subprocess.run(
            [str(SOPS), *arguments],
            capture_output=True,
            text=True,
            env=environment,
            cwd=self.folder,
            timeout=60,
            check=False,
        )

    def __call__(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, f"sops {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def wrapped(self, text: str) -> str:
        """The wrapped data key that an encrypted file carries."""
        found = re.search(r"enc: (vault:v\d+:\S+)", text)
        assert found, text
        return found[1]


@pytest.fixture
def sops(server: DevServer, api: Api, mount: Mount, tmp_path: Path) -> Sops:
    assert SOPS.exists(), "sops is not installed; run scripts/setup"
    transit = mount("transit")
    api.ok("POST", f"{transit}/keys/files", {})
    editor = tmp_path / "editor"
    editor.write_text(EDITOR)
    editor.chmod(0o700)
    (tmp_path / "plain.yaml").write_text(PLAIN)
    return Sops(tmp_path, f"{server.address}/v1/{transit}/keys/files", server.token)


def transit_of(sops: Sops) -> str:
    return sops.key.split("/v1/")[1].removesuffix("/keys/files")


def test_a_token_without_the_right_gets_no_file(sops: Sops, token_with: TokenFactory) -> None:
    sealed = sops("encrypt", "--hc-vault-transit", sops.key, "plain.yaml")
    (sops.folder / "sealed.yaml").write_text(sealed)
    transit = transit_of(sops)
    only_encrypts = token_with(f'path "{transit}/encrypt/files" {{ capabilities = ["update"] }}')
    for token in (only_encrypts, "hvs." + secrets.token_hex(12)):
        done = sops.run("decrypt", "sealed.yaml", token=token)
        assert done.returncode != 0
        assert "correct horse" not in done.stdout + done.stderr
        assert "permission denied" in done.stderr
    assert (
        sops.run("encrypt", "--hc-vault-transit", sops.key, "plain.yaml", token=only_encrypts).returncode == 0
    )


def test_a_wrapped_data_key_that_was_changed_opens_nothing(sops: Sops) -> None:
    sealed = sops("encrypt", "--hc-vault-transit", sops.key, "plain.yaml")
    wrapped = sops.wrapped(sealed)
    at = len(wrapped) - 8
    changed = wrapped[:at] + ("A" if wrapped[at] != "A" else "B") + wrapped[at + 1 :]
    (sops.folder / "sealed.yaml").write_text(sealed.replace(wrapped, changed))
    done = sops.run("decrypt", "sealed.yaml")
    assert done.returncode != 0
    assert "message authentication failed" in done.stderr


def test_encrypt_edit_rotate_and_decrypt_a_file(sops: Sops, api: Api) -> None:
    sealed = sops.folder / "sealed.yaml"
    sealed.write_text(sops("encrypt", "--hc-vault-transit", sops.key, "plain.yaml"))
    assert "correct horse" not in sealed.read_text()
    assert "password: ENC[" in sealed.read_text()
    assert sops("decrypt", "sealed.yaml") == PLAIN
    first = sops.wrapped(sealed.read_text())

    sops("edit", "sealed.yaml")
    assert "battery staple" not in sealed.read_text()
    assert sops("decrypt", "sealed.yaml") == PLAIN.replace("correct horse", "battery staple")

    # A rotation of the key leaves the file readable; sops's own rotation then uses the new version.
    api.ok("POST", f"{transit_of(sops)}/keys/files/rotate", {})
    assert "battery staple" in sops("decrypt", "sealed.yaml")
    assert sops.wrapped(sealed.read_text()) == first
    sops("rotate", "--in-place", "sealed.yaml")
    assert sops.wrapped(sealed.read_text()).startswith("vault:v2:")
    assert sops("decrypt", "--extract", '["database"]["password"]', "sealed.yaml").strip() == "battery staple"


def test_a_key_in_the_hsm_serves_a_token_that_may_only_this(
    sops: Sops, api: Api, token_with: TokenFactory
) -> None:
    transit = transit_of(sops)
    api.ok("POST", f"{transit}/keys/vault", {"type": "aes256-gcm96", "protection": "hsm"})
    sops.token = token_with(
        f'path "{transit}/encrypt/vault" {{ capabilities = ["update"] }}\n'
        f'path "{transit}/decrypt/vault" {{ capabilities = ["update"] }}'
    )
    uri = sops.key.replace("/keys/files", "/keys/vault")
    (sops.folder / "sealed.yaml").write_text(sops("encrypt", "--hc-vault-transit", uri, "plain.yaml"))
    assert sops("decrypt", "sealed.yaml") == PLAIN
