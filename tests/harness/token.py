"""Looks into the token of a server with OpenSC's pkcs11-tool, which shares no code with the service."""

from __future__ import annotations

import re
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

from tests.harness import processes
from tests.harness.dev import DevServer, clean_environment


@dataclass(frozen=True)
class TokenObject:
    """One stored object."""

    kind: str
    label: str
    id: str
    access: str


def objects(server: DevServer) -> list[TokenObject]:
    """All stored objects of the server's token, as the user sees them after login."""
    section = tomllib.loads((server.data / "keystead.toml").read_text())["hsm"]
    pin = Path(section["pin_file"]).read_text().strip()
    environment = clean_environment(server.folder, SOFTHSM2_CONF=section["softhsm2_conf"], TOKEN_PIN=pin)
    command = [
        processes.program("pkcs11-tool"),
        "--module",
        section["module"],
        "--token-label",
        section["token_label"],
    ]
    done = subprocess.run(
        [*command, "--login", "--pin", "env:TOKEN_PIN", "--list-objects"],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    found: list[TokenObject] = []
    for block in re.split(r"\n(?=\S)", done.stdout):
        head = block.splitlines()[0] if block.strip() else ""
        if ";" not in head:
            continue
        fields = dict(re.findall(r"^\s+(\w[\w ]*?):\s*(.*?)\s*$", block, re.MULTILINE))
        found.append(
            TokenObject(
                head.split(";")[0].strip(),
                fields.get("label", ""),
                fields.get("ID", ""),
                fields.get("Access", ""),
            )
        )
    return found
