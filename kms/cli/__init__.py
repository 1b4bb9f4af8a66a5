"""The `keystead` command.

    keystead dev            a token, init and a server in one, for a laptop or a test
    keystead init           production: roots in the HSM, custodians' shares, the first root token
    keystead serve          production: the server
    keystead status         is it sealed?                      (asks the server)
    keystead rotate-root    new root keys, no data touched     (asks the server)
    keystead recover-compromise   after a theft of the keyring  (asks the server)
    keystead doctor         what is wrong with this machine, and how to mend it
    keystead backup         a consistent copy of storage and log, of a running server
    keystead restore        that copy put into empty folders
    keystead recover        after the HSM is lost: shares, a backup and a new token
    keystead ca ceremony    an offline root: scripted, witnessed, on record
    keystead ca verify-ceremony   that record, checked offline
    keystead audit verify   the log, offline, with public keys only
    keystead policy explain, who, grants   what policies decide, and why
    keystead policy unused   which grants nobody used, by an audit log
    keystead policy test    expectations in a file, for CI
    keystead version

Exit codes: 0 done; 1 refused or failed, with a sentence and a hint on standard error; 2 wrong usage.
`status` adds 2 for "sealed", as other clients of this API do; `audit verify` adds 3 for "sound, but the
log's key is not pinned". Secrets are never arguments of a child process and are printed only where the
command exists to print them. Everyday use goes through any client of the API.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Final

import click

from kms import __version__
from kms.cli.loading import loading
from kms.errors import KmsError

# Where each command is. Only the one that is asked for is loaded: some need the whole server, others a file.
_PLACES: Final = {
    "dev": "serving",
    "init": "serving",
    "serve": "serving",
    "status": "remote",
    "rotate-root": "remote",
    "recover-compromise": "remote",
    "doctor": "doctor",
    "audit": "auditing",
    "policy": "policy",
    "ca": "ca",
    "backup": "recovering",
    "restore": "recovering",
    "recover": "recovering",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_PLACES})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = super().get_command(ctx, cmd_name)
        if found is None and cmd_name in _PLACES:
            with loading():
                module = import_module(f"kms.cli.{_PLACES[cmd_name]}")
            found = getattr(module, cmd_name.replace("-", "_"))
            if not isinstance(found, click.Command):
                raise TypeError(f"{cmd_name} is no command")
            self.add_command(found)
        return found


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
def keystead() -> None:
    """HSM-backed keys, certificates and secrets behind the Vault HTTP API."""


@keystead.command()
def version() -> None:
    """Print the version."""
    click.echo(f"keystead {__version__}")


def main() -> None:
    """The entry point of the distribution."""
    try:
        keystead(prog_name="keystead")
    except KmsError as error:
        click.echo(f"error: {error.detail}", err=True)
        sys.exit(1)


__all__ = ["keystead", "main"]
