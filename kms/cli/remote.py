"""status and rotate-root: commands that ask a running server over its API."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from kms.cli import client
from kms.clock import SystemClock
from kms.errors import invalid

SEALED_EXIT = 2
WIDTH = 160
_WAIT_SECONDS = 300
_POLL_SECONDS = 0.5

_address = click.option("--address", help="The server; BAO_ADDR or VAULT_ADDR otherwise.")
_style = click.option(
    "--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True
)


@click.command()
@_address
@_style
def status(address: str | None, style: str) -> None:
    """Show the seal status. Exit code 0: open; 2: sealed or not initialised; 1: no answer."""
    url = client.address(address)
    found = client.demand(url, "GET", "sys/seal-status")
    if style == "json":
        click.echo(json.dumps(found, sort_keys=True))
    else:
        _table(f"Keystead at {url}", found)
    sys.exit(SEALED_EXIT if found.get("sealed") or not found.get("initialized") else 0)


@click.command("rotate-root")
@_address
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with a token that has sudo on sys/hsm/root/rotate; BAO_TOKEN or VAULT_TOKEN otherwise.",
)
@_style
def rotate_root(address: str | None, token_file: Path | None, style: str) -> None:
    """Make new root keys in the HSM and re-seal the keyring. No stored ciphertext changes."""
    url, token = client.address(address), client.token(token_file)
    client.demand(url, "POST", "sys/hsm/root/rotate", token)
    progress = _await(url, token)
    if style == "json":
        click.echo(json.dumps(progress, sort_keys=True))
    else:
        _table("Root rotation", progress)


def _await(url: str, token: str) -> dict[str, Any]:
    clock = SystemClock()
    deadline = clock.monotonic() + _WAIT_SECONDS
    while True:
        answer = client.demand(url, "GET", "sys/hsm/root/rotate", token)
        progress: dict[str, Any] = answer.get("data") or {}
        if progress.get("state") == "complete":
            return progress
        if progress.get("failure"):
            raise invalid(f"the rotation stopped: {progress['failure']}; run the command again to resume it")
        if clock.monotonic() > deadline:
            raise invalid("the rotation has not finished yet; it goes on, run the command again to follow it")
        clock.sleep(_POLL_SECONDS)


def _table(title: str, rows: dict[str, Any]) -> None:
    from rich.console import Console  # noqa: PLC0415  (slow to load, and json needs none)
    from rich.table import Table  # noqa: PLC0415  (see above)

    table = Table(title=title, show_header=False, title_justify="left")
    for name, value in rows.items():
        table.add_row(name, json.dumps(value) if isinstance(value, dict | list | bool) else str(value))
    # Piped output is for logs and tests: not cut to 80 columns.
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)
