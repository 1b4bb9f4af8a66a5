"""ca ceremony and ca verify-ceremony: an offline CA on a token of its own."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from kms.clock import SystemClock
from kms.config import check_private
from kms.errors import invalid
from kms.server import hardening, lock

if TYPE_CHECKING:
    from kms.hsm import Hsm
    from pki.ceremonies.script import Script
    from pki.ceremonies.verify import Report

EXIT_NOT_PINNED = 3
MAX_PIN_CHARACTERS = 255

_path = click.Path(path_type=Path)
_style = click.option(
    "--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True
)


@click.group()
def ca() -> None:
    """Work with certificate authorities that no server holds."""


@ca.command()
@click.option(
    "--script",
    "script_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    help="What to do (TOML).",
)
@click.option(
    "--transcript",
    "folder",
    type=_path,
    required=True,
    help="Folder of the record: new, or an unfinished one.",
)
@click.option("--pin-file", type=_path, help="File (mode 0600) with the token's PIN; else it is asked for.")
@click.option(
    "--yes-by", "agreed", multiple=True, metavar="NAME", help="This witness confirms every step beforehand."
)
@click.option("--give-up", is_flag=True, help="Do no further step: end an unfinished ceremony as it stands.")
@_style
def ceremony(
    script_file: Path, folder: Path, pin_file: Path | None, agreed: tuple[str, ...], give_up: bool, style: str
) -> None:
    """Make roots, certify intermediates and sign CRLs on an offline token, step by step, before witnesses.

    A ceremony that was cut off goes on with the same command.
    """
    hardening.harden()
    folder = folder.absolute()
    lock.make_private(folder)
    lock.hold(folder, SystemClock(), wait_seconds=0)
    from pki.ceremonies.run import Ceremony  # noqa: PLC0415  (loads the HSM library; help needs none)

    with closing(_Pin(pin_file)) as pin:
        work = Ceremony(
            script_file.read_bytes(),
            script_file.absolute().parent,
            folder,
            pin.open,
            SystemClock(),
            _Terminal(agreed, quiet=style == "json"),
            give_up=give_up,
        )
        unknown = sorted(set(agreed) - set(work.script.witnesses))
        if unknown:
            raise invalid(f"--yes-by {unknown[0]}: the script names no such witness")
        held = work.run()
    if style == "json":
        click.echo(json.dumps({"sha256": held.transcript_sha256, "signer": held.signer, "files": held.files}))
        return
    click.echo(f"\nceremony held; in {folder}: {', '.join(held.files) or 'no new documents'}")
    click.echo(f"transcript signed by {held.signer}, SHA-256 {held.transcript_sha256}")
    click.echo(f"check it anywhere: keystead ca verify-ceremony {folder}")


@ca.command("verify-ceremony")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--trust",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The signer's certificate or public key (PEM), from elsewhere.",
)
@_style
def verify_ceremony(folder: Path, trust: Path | None, style: str) -> None:
    """Check the record of a ceremony in FOLDER, with public keys only, or name the first bad place.

    Exit code 0: it holds; 3: it holds, but the signer's key came from FOLDER itself; 1: it does not.
    """
    from pki.ceremonies.verify import verify  # noqa: PLC0415  (help needs no cryptography)

    report = verify(folder, trust.read_bytes() if trust is not None else None)
    if style == "json":
        click.echo(msgspec.json.encode(report))
    else:
        click.echo("\n".join(_lines(report)))
    sys.exit(0 if report.pinned else EXIT_NOT_PINNED)


class _Pin:
    """The token's PIN: from a file, or typed and kept in anonymous memory, never on a disk."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._memory = -1

    def open(self, script: Script) -> Hsm:
        """The script's token, logged in."""
        from kms.hsm import Hsm  # noqa: PLC0415  (help needs no HSM library)
        from kms.hsm.profiles import configured  # noqa: PLC0415  (as above)

        if self._file is not None:
            check_private(self._file, "--pin-file")
        path = self._file if self._file is not None else self._typed(script.token.token_label)
        section: Any = msgspec.structs.replace(script.token, pin_file=path.absolute())
        return Hsm.open(configured(section), SystemClock())

    def _typed(self, label: str) -> Path:
        if not sys.stdin.isatty():
            raise invalid("there is no terminal to type the PIN at: give --pin-file")
        pin = click.prompt(f"PIN of the token {label}", hide_input=True, type=str)
        if not 0 < len(pin) <= MAX_PIN_CHARACTERS:
            raise invalid(f"a PIN has 1 to {MAX_PIN_CHARACTERS} characters")
        self._memory = os.memfd_create("pin", os.MFD_CLOEXEC)
        os.fchmod(self._memory, 0o600)
        os.write(self._memory, pin.encode())
        return Path(f"/proc/self/fd/{self._memory}")

    def close(self) -> None:
        """Let go of the memory."""
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1


class _Terminal:
    """The witnesses' screen and keyboard."""

    def __init__(self, agreed: Sequence[str], *, quiet: bool) -> None:
        self._agreed = frozenset(agreed)
        self._quiet = quiet

    def show(self, text: Sequence[str]) -> None:
        # Before a question everything is shown, whatever the format of the result.
        click.echo("\n".join(text), err=self._quiet)

    def confirm(self, witness: str) -> str:
        if witness in self._agreed:
            click.echo(f"  {witness} confirmed beforehand", err=self._quiet)
            return "beforehand"
        if not sys.stdin.isatty():
            raise invalid(f"there is no terminal for {witness} to confirm at: give --yes-by for each witness")
        answer = click.prompt(f"  {witness}: type yes if this shall be done", err=self._quiet, type=str)
        return "terminal" if answer.strip().lower() == "yes" else ""


def _lines(report: Report) -> list[str]:
    found = [
        f"{report.title}: held {report.opened} to {report.closed} before {', '.join(report.witnesses)}",
        f"token {report.token}; {report.steps - len(report.given_up)} of {report.steps} steps done",
        f"transcript SHA-256 {report.sha256}, signed by {report.signer}, key SHA-256 {report.signer_sha256}",
    ]
    if report.given_up:
        found.append(f"given up: steps {', '.join(map(str, report.given_up))}")
    if report.stops:
        found.append(f"it was stopped {report.stops} times and went on; the transcript says why")
    if report.previous:
        found.append(f"it goes on from the ceremony whose transcript has SHA-256 {report.previous}")
    for root in report.holdings.roots.values():
        found.append(f"root {root.name}: certificate SHA-256 {root.sha256}, CRL {root.crl_number}")
        found += [f"  certified {one.name}, serial {one.serial}" for one in root.issued]
        found += [f"  revoked {one.serial} {one.reason}".rstrip() for one in root.revoked]
    if not report.pinned:
        found.append("the record is sound in itself; give --trust FILE to know that it is the one you mean")
    return found
