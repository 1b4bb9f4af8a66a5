"""What must be true of the files that the configuration names."""

from __future__ import annotations

import os
from pathlib import Path

from kms.config.model import Config
from kms.errors import invalid


def check_files(config: Config) -> None:
    """What must be true of the files at start: they exist and keep their secrets.

    Raises:
        KmsError(INVALID): missing, or readable by others.
    """
    for section in config.hsm.tokens:
        if section.module is not None and not section.module.is_file():
            raise invalid(f"hsm.module {section.module} does not exist; install the token's PKCS#11 library")
    for section in config.hsm.tokens:
        check_private(section.pin_file, "hsm.pin_file")
    if config.tls is not None:
        check_private(config.tls.key, "tls.key")
        if not config.tls.certificate.is_file():
            raise invalid(f"tls.certificate {config.tls.certificate} does not exist")


def check_private(path: Path, key: str) -> None:
    """Raise KmsError(INVALID) unless `path` is a file that only its owner can read."""
    try:
        status = path.stat()
    except OSError as error:
        raise invalid(f"{key}: cannot read {path}: {error.strerror}") from None
    if status.st_mode & 0o077:
        raise invalid(f"{key}: {path} can be read by others; run: chmod 600 {path}")
    if status.st_uid not in (os.geteuid(), 0):
        raise invalid(f"{key}: {path} belongs to another user; run keystead as its owner or change the owner")
