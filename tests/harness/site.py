"""A server as an operator runs one: its own configuration file, token and folders, and the offline commands."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from kms.hsm import softhsm_token
from tests.harness.dev import KEYSTEAD, DevServer, clean_environment

COMMAND_SECONDS = 120


class Site(DevServer):
    """`keystead init` and `keystead serve`, with parts that can be lost and replaced.

    Args:
        folder: holds `token-<n>/`, `data/` and the configuration file.
        recovery: the choice of the configuration.
    """

    def __init__(self, folder: Path, recovery: str, *, workers: int = 2) -> None:
        super().__init__(folder, workers=workers)
        self.recovery = recovery
        self.configuration = folder / "site.toml"
        self.token_folder = folder / "token-0"
        self._tokens = 0

    def command(self) -> list[str]:
        """The command line of the server."""
        return [str(KEYSTEAD), "serve", "--config", str(self.configuration)]

    def configure(self, token_folder: Path | None = None) -> None:
        """Name a token in the configuration: a new, empty one, or that in the folder."""
        if token_folder is None:
            self._tokens += 1
            token_folder = self.folder / f"token-{self._tokens}"
        self.token_folder = token_folder
        token = softhsm_token(token_folder)
        lines = [
            f'listen = "127.0.0.1:{self.port}"',
            f"workers = {self.workers}",
            f'recovery = "{self.recovery}"',
            "[data]",
            f'storage = "{self.data / "storage"}"',
            f'audit = "{self.audit}"',
            "[hsm]",
            f'module = "{token.module}"',
            f'token_label = "{token.token_label}"',
            f'pin_file = "{token.pin_file}"',
            f'softhsm2_conf = "{token.softhsm2_conf}"',
        ]
        self.configuration.write_text("\n".join(lines) + "\n")

    def init(self) -> list[str]:
        """`keystead init`; returns the custodians' shares."""
        answer = json.loads(self.run("init", "--format", "json").stdout)
        self.token = answer["root_token"]
        shares: list[str] = answer["recovery_keys_base64"]
        return shares

    def run(self, *arguments: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command of `keystead` with this configuration."""
        command, *rest = arguments
        done = subprocess.run(
            [str(KEYSTEAD), command, "--config", str(self.configuration), *rest],
            input=stdin,
            capture_output=True,
            text=True,
            env=clean_environment(self.folder),
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert not check or done.returncode == 0, (
            f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done

    def recover(self, shares: list[str]) -> dict[str, Any]:
        """`keystead recover`, the shares on standard input; what it reports."""
        done: dict[str, Any] = json.loads(
            self.run("recover", "--format", "json", stdin="\n".join(shares)).stdout
        )
        return done

    def lose_disks(self) -> None:
        """Storage and audit folders are gone."""
        shutil.rmtree(self.data)

    def lose_hsm(self) -> None:
        """The token and its PIN are gone."""
        shutil.rmtree(self.token_folder)

    def verify(self, folder: Path) -> dict[str, Any]:
        """`keystead audit verify` of a log, with its own key."""
        done = subprocess.run(
            [str(KEYSTEAD), "audit", "verify", "--format", "json", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        report: dict[str, Any] = json.loads(done.stdout)
        return report
