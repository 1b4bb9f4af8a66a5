"""An offline CA: a SoftHSM token that no server opens, and ceremonies on it by the real command."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kms.hsm import HsmConfig, softhsm_token
from tests.harness.dev import KEYSTEAD, clean_environment

WITNESSES = ("Ada", "Grace")


@dataclass
class Offline:
    """One token and its ceremonies, each in a folder of its own below `folder`."""

    folder: Path
    ceremonies: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.token: HsmConfig = softhsm_token(self.folder / "token", "offline")

    def script(self, *steps: dict[str, Any], signer: str) -> Path:
        """Write a script that goes on from the ceremony before."""
        lines = [
            'title = "A ceremony"',
            f"witnesses = {json.dumps(WITNESSES)}",
            f"signer = {json.dumps(signer)}",
            f"previous = {json.dumps(str(self.ceremonies[-1]) if self.ceremonies else '')}",
            "[token]",
            'profile = "softhsm"',
            f"token_label = {json.dumps(self.token.token_label)}",
            f"softhsm2_conf = {json.dumps(str(self.token.softhsm2_conf))}",
        ]
        for step in steps:
            lines += ["[[step]]", *(f"{name} = {json.dumps(value)}" for name, value in step.items())]
        path = self.folder / f"script-{len(self.ceremonies) + 1}.toml"
        path.write_text("\n".join(lines) + "\n")
        return path

    def hold(self, *steps: dict[str, Any], signer: str) -> Path:
        """Hold a ceremony and have its record checked; returns the folder of the record."""
        script = self.script(*steps, signer=signer)
        record = self.folder / f"ceremony-{len(self.ceremonies) + 1}"
        command = ["ca", "ceremony", "--script", str(script), "--transcript", str(record)]
        agreed = [word for name in WITNESSES for word in ("--yes-by", name)]
        self.run(*command, "--pin-file", str(self.token.pin_file), *agreed)
        self.run("ca", "verify-ceremony", str(record), "--trust", str(record / "transcript.pub"))
        self.ceremonies.append(record)
        return record

    def put(self, name: str, text: str) -> str:
        """Store an input beside the scripts."""
        (self.folder / name).write_text(text if text.endswith("\n") else text + "\n")
        return name

    def run(self, *arguments: str) -> str:
        """One command of ours that must succeed; what it printed."""
        done = subprocess.run(
            [str(KEYSTEAD), *arguments],
            capture_output=True,
            text=True,
            env=clean_environment(self.folder),
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
