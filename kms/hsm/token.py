"""A SoftHSM token in a folder of its own: the embedded default.

    FOLDER/softhsm2.conf   rendered from hsm-config/softhsm2.conf.template
    FOLDER/pin             the user PIN, 0600
    FOLDER/tokens/         SoftHSM's objects

The folder is built beside its place and renamed into it, so that it is there whole or not at all. PINs are
random and are never an argument of a process: `ps` shows arguments to everybody. The security officer's PIN
is thrown away: it could only reset the user PIN or wipe the token, and a second secret that opens
all keys is one more to lose. Who loses the user PIN has lost the token; back up the folder as a whole.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import kms
from kms.hsm.durable import TokenFolder
from kms.hsm.model import HsmConfig
from kms.hsm.module import unavailable

MODULE_VARIABLE: Final = "KEYSTEAD_SOFTHSM_MODULE"
DEFAULT_LABEL: Final = "keystead"
MAX_TOKEN_LABEL: Final = 32
_TIMEOUT_SECONDS: Final = 60
_MODULES: Final = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
)


def find_softhsm_module() -> Path:
    """SoftHSM's shared object.

    The environment variable KEYSTEAD_SOFTHSM_MODULE puts another in its place, for example pkcs11-spy.so.

    Raises:
        KmsError(HSM_UNAVAILABLE): not installed.
    """
    override = os.environ.get(MODULE_VARIABLE)
    for candidate in (override,) if override else _MODULES:
        if Path(candidate).is_file():
            return Path(candidate)
    raise unavailable("SoftHSM is not installed: apt-get install softhsm2")


def config_folder() -> Path:
    """The hsm-config folder at the top of the source tree that this package was installed from."""
    return Path(kms.__file__).parent.parent / "hsm-config"


def softhsm_token(folder: Path, label: str = DEFAULT_LABEL, module: Path | None = None) -> HsmConfig:
    """The token in `folder`; made first if there is none. Nothing of an existing token is changed.

    The configuration names an absolute path, so it is rendered again when the folder was moved.

    Raises:
        KmsError(HSM_UNAVAILABLE): SoftHSM is missing or fails.
    """
    folder = folder.absolute()
    module = module or find_softhsm_module()
    if not (folder / "pin").exists():
        _create(folder, label, module)
    conf = folder / "softhsm2.conf"
    wanted = _render(folder)
    if not conf.exists() or conf.read_text("utf-8") != wanted:
        fresh = conf.with_suffix(".new")
        _write(fresh, wanted)
        fresh.replace(conf)
    return HsmConfig(module, label, folder / "pin", conf)


def _render(folder: Path) -> str:
    template = (config_folder() / "softhsm2.conf.template").read_text("utf-8")
    path = str(folder / "tokens")
    if "\n" in path:
        raise unavailable("the path of a token cannot contain a newline")
    head, tail = template.split("\ndirectories.tokendir = @TOKENDIR@\n")
    return f"{head}\ndirectories.tokendir = {path}\n{tail}"


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _create(folder: Path, label: str, module: Path) -> None:
    if not 0 < len(label.encode()) <= MAX_TOKEN_LABEL:
        raise unavailable(f"a token label has 1 to {MAX_TOKEN_LABEL} bytes")
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    staging = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    (staging / "tokens").mkdir(parents=True, mode=0o700)
    staging.chmod(0o700)
    try:
        _write(staging / "pin", secrets.token_urlsafe(24) + "\n")
        _write(staging / "softhsm2.conf", _render(staging))
        _initialise(staging, label, module)
        TokenFolder(staging / "softhsm2.conf").logged_in()
        _write(staging / "softhsm2.conf", _render(folder))
        _sync(staging)
        # Fails, as it should, when something other than an empty folder stands there.
        staging.rename(folder)
    except OSError as error:
        raise unavailable(f"cannot make a token in {folder}: {error.strerror}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    _sync_folder(folder.parent)


def _initialise(staging: Path, label: str, module: Path) -> None:
    """In a process of its own: the module's state is process-wide, and this process may have it open."""
    command = [sys.executable, "-m", "kms.hsm.newtoken", str(module), label, str(staging / "pin")]
    environment = {**os.environ, "SOFTHSM2_CONF": str(staging / "softhsm2.conf")}
    done = subprocess.run(  # noqa: S603  # our own interpreter and module, no shell
        command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
    )
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise unavailable(f"cannot initialise a SoftHSM token: {reason[0]}")


def _sync(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            _sync_folder(path)
        else:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
