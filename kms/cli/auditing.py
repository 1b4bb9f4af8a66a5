"""audit verify: the log checked offline, with public keys only."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from kms.audit.receipt import parse_receipt
from kms.audit.verify import TrustFile
from kms.audit.verify import verify as verify_folder
from kms.errors import invalid


@click.group()
def audit() -> None:
    """Work with audit logs."""


@audit.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--trust",
    "trust_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Origin, log keys and remembered checkpoints.",
)
@click.option(
    "--receipt", "texts", multiple=True, help="A value of X-Keystead-Receipt that must be in the log."
)
@click.option("--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True)
def verify(folder: Path, trust_file: Path | None, texts: tuple[str, ...], style: str) -> None:
    """Prove that the log in FOLDER is complete and unchanged, or name the first bad place.

    Exit code 0: it holds; 3: it holds, but the key came from FOLDER itself; 1: it does not.
    """
    trust = TrustFile.load(trust_file) if trust_file is not None else None
    receipts = [parse_receipt(text) for text in texts]
    try:
        report = verify_folder(folder, trust, receipts)
    except OSError as error:
        raise invalid(f"cannot read {error.filename}: {error.strerror}") from None
    if style == "json":
        found = {"ok": report.ok, "exit_code": report.exit_code, **msgspec.structs.asdict(report)}
        click.echo(msgspec.json.encode(found))
    else:
        click.echo("\n".join(report.lines()))
    sys.exit(report.exit_code)
