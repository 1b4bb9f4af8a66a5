"""backup, restore and recover: what helps when a disk or the HSM is lost. Each works without the API."""

from __future__ import annotations

import getpass
import json
import sys
from pathlib import Path
from typing import Any

import click

from kms.cli import copies
from kms.clock import SystemClock
from kms.config import Config, check_files, check_private, load
from kms.server import hardening, lock

MAX_SHARES = 255
MAX_SHARES_BYTES = 64 * 1024

_path = click.Path(path_type=Path)
_config = click.option("--config", "path", type=_path, required=True, help="Configuration file (TOML).")
_style = click.option(
    "--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True
)


@click.command()
@_config
@_style
@click.argument("target", type=_path)
def backup(path: Path, style: str, target: Path) -> None:
    """Copy storage and audit log into the new folder TARGET, consistently, while the server runs.

    It needs neither the HSM nor a token of the API. Nothing in it opens without the HSM (or, under recovery
    quorum, the custodians' shares). The HSM is backed up by its vendor's means.
    """
    config = load(path.absolute())
    made = copies.back_up(config, target.absolute(), SystemClock())
    if style == "json":
        click.echo(json.dumps(made))
        return
    click.echo(f"backup: {made['files']} files, {made['bytes']} bytes in {target}, as of {made['at']}")


@click.command()
@_config
@_style
@click.argument("source", type=_path)
def restore(path: Path, style: str, source: Path) -> None:
    """Copy the backup SOURCE into the empty storage and audit folders of the configuration."""
    config = load(path.absolute())
    _take(config)
    done = copies.restore(config, source.absolute())
    if style == "json":
        click.echo(json.dumps(done))
        return
    click.echo(f"restored: {done['files']} files, as of {done['at']}; recovery {done['recovery']}")


@click.command()
@_config
@click.option(
    "--shares-file", type=_path, help="Shares of the custodians, one a line (mode 0600); else standard input."
)
@_style
def recover(path: Path, shares_file: Path | None, style: str) -> None:
    """Open a restored server with the custodians' shares and seal it with a new HSM, after the old one is lost.

    Only under recovery quorum, with the server stopped. The configuration names a new, empty token. A recovery
    that was cut off is finished by the same command.
    """
    config = load(path.absolute())
    check_files(config)
    hardening.harden()
    _take(config)
    from kms.app import recover_server  # noqa: PLC0415  (loads every part; help needs none)

    done = recover_server(config, SystemClock(), lambda: _shares(shares_file))
    if style == "json":
        click.echo(json.dumps(done))
    else:
        click.echo("\n".join(_lines(done, config)))


def _take(config: Config) -> None:
    """Private folders and the server's lock, which ends with this process."""
    for folder in (config.data.storage, config.data.audit):
        lock.make_private(folder)
    lock.hold(config.data.storage, SystemClock())


def _shares(file: Path | None) -> list[str]:
    if file is not None:
        check_private(file, "--shares-file")
        with file.open(encoding="ascii", errors="replace") as stream:
            return _split(stream.read(MAX_SHARES_BYTES))
    if not sys.stdin.isatty():
        return _split(sys.stdin.read(MAX_SHARES_BYTES))
    shares: list[str] = []
    while len(shares) < MAX_SHARES and (
        share := getpass.getpass(f"share {len(shares) + 1}, or Enter: ").strip()
    ):
        shares.append(share)
    return shares


def _split(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _lines(done: dict[str, Any], config: Config) -> list[str]:
    token, log = done["token"], done["log"]
    first = "recovered" if done["recovered"] else "nothing left to do: it was recovered before"
    lines = [
        f"{first}; {done['terms']} keyring terms are sealed by token {token['label']}, serial {token['serial']}",
        f"new audit log {log['origin']}, key {log['fingerprint']}; give {config.data.audit}/log.pub to auditors",
    ]
    if log["before"]:
        lines.append(f"it {log['before']}")
    if log["finding"]:
        lines.append(f"the new log does not verify: {log['finding']}")
    lost = [f"  {row['mount']}{row['name']} version {row['version']}, {row['type']}" for row in done["keys"]]
    lost += [
        f"  {row['mount']} CA key {row['key_name'] or row['key_id']}, issuers: {', '.join(row['issuers']) or 'none'}"
        for row in done["authorities"]
    ]
    lines.append(f"lost with the old HSM, besides its root keys and the key of the old log: {len(lost)}")
    return [*lines, *lost, "everything else opens again; start the server"]
