"""The checks of `keystead doctor`. Each yields findings and raises nothing."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from kms.cli.findings import Finding, Verdict
from kms.clock import Clock
from kms.config import Config, check_files
from kms.errors import KmsError
from kms.hsm import Hsm, HsmConfig
from kms.server.lock import LOCK_NAME

MINIMUM_FREE_BYTES = 256 * 1024 * 1024
# What each part of the service needs from the token: mechanism -> what is missing without it.
NEEDED = {
    "AES_KEY_GEN": "root keys cannot be born",
    "AES_GCM": "the keyring cannot be sealed with AES-GCM",
    "AES_KEY_WRAP_KWP": "hsm keys cannot be wrapped, only kept resident",
    "SHA256_HMAC": "hsm HMAC keys cannot be used",
    "EC_KEY_PAIR_GEN": "EC keys cannot be born",
    "ECDSA": "EC keys cannot sign",
    "EDDSA": "Ed25519 keys, and so the audit log, cannot sign",
    "RSA_PKCS_KEY_PAIR_GEN": "RSA keys cannot be born",
}


def packages() -> Iterator[Finding]:
    """The interpreter and the libraries that everything stands on."""
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    yield Finding(
        "python",
        Verdict.GOOD if good else Verdict.BAD,
        f"{version} {sys.executable}",
        "" if good else "install Python 3.11 or newer",
    )
    for name in ("cryptography", "python-pkcs11", "gunicorn", "sqlite-utils"):
        try:
            yield Finding(name, Verdict.GOOD, metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Finding(name, Verdict.BAD, "not installed", "run scripts/setup")


def files(config: Config) -> Iterator[Finding]:
    """Secrets on disk and the folders of ours."""
    try:
        check_files(config)
        yield Finding("secret files", Verdict.GOOD, f"{config.hsm.pin_file} is readable by its owner only")
    except KmsError as error:
        yield Finding("secret files", Verdict.BAD, error.detail, "see the sentence beside this")
    for name, folder in (("storage folder", config.data.storage), ("audit folder", config.data.audit)):
        yield _folder(name, folder)


def _folder(name: str, folder: Path) -> Finding:
    if not folder.is_dir():
        return Finding(name, Verdict.WARN, f"{folder} does not exist yet", "the first start makes it")
    if folder.stat().st_mode & 0o077:
        return Finding(name, Verdict.BAD, f"{folder} can be entered by others", f"chmod 700 {folder}")
    if not os.access(folder, os.W_OK):
        return Finding(name, Verdict.BAD, f"{folder} is not writable by this user", "run as its owner")
    free = shutil.disk_usage(folder).free
    if free < MINIMUM_FREE_BYTES:
        return Finding(
            name, Verdict.BAD, f"{free // 2**20} MiB free", "make room: a full disk stops state changes"
        )
    return Finding(name, Verdict.GOOD, f"{folder}, {free // 2**20} MiB free")


def processes() -> Iterator[Finding]:
    """What protects the memory of the server's processes."""
    try:
        swapping = len(Path("/proc/swaps").read_text("ascii").splitlines()) > 1
    except OSError:
        swapping = False
    if swapping:
        yield Finding(
            "swap", Verdict.WARN, "swap is on: software keys may reach the disk", "encrypt it, or swapoff -a"
        )
    else:
        yield Finding("swap", Verdict.GOOD, "off")


def token(config: Config, clock: Clock) -> Iterator[Finding]:
    """The HSM: does it open, does it answer, can it do what we need?"""
    section = config.hsm
    try:
        hsm = Hsm.open(
            HsmConfig(section.module, section.token_label, section.pin_file, section.softhsm2_conf), clock
        )
    except KmsError as error:
        yield Finding("token", Verdict.BAD, error.detail, "check [hsm] of the configuration and the device")
        return
    try:
        yield from _opened(hsm)
    finally:
        hsm.close()


def _opened(hsm: Hsm) -> Iterator[Finding]:
    info = hsm.info
    yield Finding(
        "token", Verdict.GOOD, f"{info.label}: {info.manufacturer} {info.model}, serial {info.serial}"
    )
    try:
        hsm.check()
        yield Finding("token self-test", Verdict.GOOD, "the sentinel key answers")
    except KmsError as error:
        yield Finding("token self-test", Verdict.BAD, error.detail, "look into the device's own log")
    offered = hsm.mechanisms()
    for name, lost in NEEDED.items():
        good = name in offered
        yield Finding(
            f"mechanism {name}",
            Verdict.GOOD if good else Verdict.BAD,
            "offered" if good else lost,
            "" if good else "enable it in the token's policy, or choose another token",
        )


def storage(config: Config) -> Iterator[Finding]:
    """Whether a server runs here."""
    path = config.data.storage / LOCK_NAME
    if not path.exists():
        yield Finding("server", Verdict.WARN, "never started on this storage folder", "keystead serve")
        return
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            yield Finding("server", Verdict.GOOD, "running")
            return
    yield Finding("server", Verdict.WARN, "not running", "keystead serve")


def audit(config: Config) -> Iterator[Finding]:
    """The audit folder; its contents are checked by `keystead audit verify`."""
    folder = config.data.audit
    if folder.is_dir():
        files_there = sum(1 for path in folder.rglob("*") if path.is_file())
        yield Finding("audit log", Verdict.GOOD, f"{files_there} files", f"keystead audit verify {folder}")
