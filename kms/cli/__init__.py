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

import click

from kms import __version__
from kms.cli.auditing import audit
from kms.cli.ca import ca
from kms.cli.doctor import doctor
from kms.cli.policy import policy
from kms.cli.recovering import backup, recover, restore
from kms.cli.remote import recover_compromise, rotate_root, status
from kms.cli.serving import dev, init, serve
from kms.errors import KmsError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def keystead() -> None:
    """HSM-backed keys, certificates and secrets behind the Vault HTTP API."""


@keystead.command()
def version() -> None:
    """Print the version."""
    click.echo(f"keystead {__version__}")


for _command in (
    dev,
    init,
    serve,
    status,
    doctor,
    audit,
    policy,
    ca,
    rotate_root,
    recover_compromise,
    backup,
    restore,
    recover,
):
    keystead.add_command(_command)


def main() -> None:
    """The entry point of the distribution."""
    try:
        keystead()
    except KmsError as error:
        click.echo(f"error: {error.detail}", err=True)
        sys.exit(1)


__all__ = ["keystead", "main"]
