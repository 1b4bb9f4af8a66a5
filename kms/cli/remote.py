"""status, rotate-root and recover-compromise: commands that ask a running server over its API."""

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

_COMPROMISE = "sys/hsm/recover-compromise"
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


@click.command("recover-compromise")
@_address
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with a token that has sudo on sys/hsm/recover-compromise; BAO_TOKEN or VAULT_TOKEN otherwise.",
)
@click.option(
    "--reason", default="", help="Why, for the audit log. Needed to start, not to follow one that runs."
)
@_style
def recover_compromise(address: str | None, token_file: Path | None, reason: str, style: str) -> None:
    """After a theft of the storage keyring: new root and term, all rows sealed again, all software keys rotated,
    and the old terms ended. Follows one that is running already; the server goes on when this command ends.
    """
    url, token = client.address(address), client.token(token_file)
    found: dict[str, Any] = client.demand(url, "GET", _COMPROMISE, token).get("data") or {}
    if found.get("state") != "running":
        if not reason:
            raise invalid("give --reason: it stands in the audit log, beside what was done")
        client.demand(url, "POST", _COMPROMISE, token, {"reason": reason})
    progress = _follow(url, token)
    if style == "json":
        click.echo(json.dumps(progress, sort_keys=True))
    else:
        _table("Recovery from a stolen keyring", progress)


def _follow(url: str, token: str) -> dict[str, Any]:
    """Wait until it is complete, as long as something moves; each step is told on standard error."""
    clock = SystemClock()
    last: dict[str, Any] = {}
    step = ""
    deadline = clock.monotonic() + _WAIT_SECONDS
    while True:
        progress: dict[str, Any] = client.demand(url, "GET", _COMPROMISE, token).get("data") or {}
        if progress.get("state") == "complete":
            return progress
        if progress.get("failure"):
            raise invalid(f"the recovery stopped: {progress['failure']}")
        if progress.get("step") != step:
            step = str(progress.get("step"))
            click.echo(f"step {step}", err=True)
        if progress != last:
            last, deadline = progress, clock.monotonic() + _WAIT_SECONDS
        if clock.monotonic() > deadline:
            raise invalid(
                f"nothing moved for {_WAIT_SECONDS} s; read the server's log, then run the command again"
            )
        clock.sleep(_POLL_SECONDS)


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
