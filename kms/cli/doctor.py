"""doctor: what is wrong with this machine, and how to mend it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from kms.cli.findings import Finding, Verdict
from kms.cli.serving import CONFIG_NAME
from kms.clock import SystemClock
from kms.config import Config, load
from kms.errors import KmsError, invalid

WIDTH = 160
_MARKS = {Verdict.GOOD: "[green]ok[/]", Verdict.WARN: "[yellow]note[/]", Verdict.BAD: "[red]wrong[/]"}


@click.command()
@click.option("--config", "path", type=click.Path(path_type=Path), help="Configuration file (TOML).")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of `keystead dev`.")
@click.option("--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True)
def doctor(path: Path | None, data_dir: Path | None, style: str) -> None:
    """Check configuration, HSM, storage and audit log. Exit code 1 if something is wrong."""
    if (path is None) == (data_dir is None):
        raise invalid("give --config FILE or --data-dir DIR")
    found = list(_examine(path or Path(str(data_dir)) / CONFIG_NAME))
    if style == "json":
        click.echo(json.dumps([finding.as_dict() for finding in found]))
    else:
        _table(found)
    sys.exit(1 if any(finding.verdict is Verdict.BAD for finding in found) else 0)


def _examine(path: Path) -> Iterator[Finding]:
    from kms.cli import examine  # noqa: PLC0415  (loads the HSM library; help needs none)

    yield from examine.packages()
    try:
        config: Config = load(path.absolute())
    except KmsError as error:
        yield Finding("configuration", Verdict.BAD, error.detail, "mend the file; kms.config lists every key")
        return
    yield Finding("configuration", Verdict.GOOD, str(path))
    yield from examine.files(config)
    yield from examine.processes()
    yield from examine.token(config, SystemClock())
    yield from examine.alone_in_one_token(config, SystemClock())
    yield from examine.storage(config)
    yield from examine.recovery(config)
    yield from examine.audit(config)


def _table(found: list[Finding]) -> None:
    from rich.console import Console  # noqa: PLC0415  (slow to load, and json needs none)
    from rich.table import Table  # noqa: PLC0415  (see above)

    table = Table(title="keystead doctor", title_justify="left")
    for title in ("check", "", "found", "what to do"):
        table.add_column(title, overflow="fold")
    for finding in found:
        table.add_row(finding.check, _MARKS[finding.verdict], finding.detail, finding.mend)
    # Piped output is for logs and tests: not cut to 80 columns.
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)
    counts = {verdict: sum(finding.verdict is verdict for finding in found) for verdict in Verdict}
    click.echo(f"{len(found)} checks: {counts[Verdict.BAD]} wrong, {counts[Verdict.WARN]} to note")
