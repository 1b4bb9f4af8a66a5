"""The checks of `keystead doctor`. Each yields findings and raises nothing."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from kms.app.holdings import Sharing, alone
from kms.audit.verify import verify
from kms.cli.findings import Finding, Verdict
from kms.clock import Clock
from kms.config import Config, TokenSection, check_files
from kms.errors import KmsError
from kms.hsm import Hsm, HsmConfig, theft
from kms.hsm.capabilities import survey
from kms.hsm.profiles import configured
from kms.server.lock import LOCK_NAME
from kms.storage import FILE_NAME, SqliteStore
from kms.system.choices import explain
from kms.system.instance import read_instance

MINIMUM_FREE_BYTES = 256 * 1024 * 1024
VERIFY_BYTES = 256 * 1024 * 1024
_NO_ENFORCEMENT = "PIN and database together give keys away on this token; choose one that enforces templates"


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
    """The HSM: does it open, does it answer, can it do what we need? Each token of several."""
    for section in config.hsm.tokens:
        if len(config.hsm.tokens) > 1:
            yield Finding("token name", Verdict.GOOD, section.title)
        yield from _token(section, clock)


def _token(section: TokenSection, clock: Clock) -> Iterator[Finding]:
    try:
        chosen = configured(section)
        hsm = Hsm.open(chosen, clock)
    except KmsError as error:
        yield Finding("token", Verdict.BAD, error.detail, "check [hsm] of the configuration and the device")
        return
    try:
        yield from _opened(hsm, chosen)
    finally:
        hsm.close()


def _opened(hsm: Hsm, config: HsmConfig) -> Iterator[Finding]:
    info = hsm.info
    yield Finding(
        "token", Verdict.GOOD, f"{info.label}: {info.manufacturer} {info.model}, serial {info.serial}"
    )
    yield from _choices(config)
    try:
        hsm.check()
        yield Finding("token self-test", Verdict.GOOD, "the sentinel key answers")
    except KmsError as error:
        yield Finding("token self-test", Verdict.BAD, error.detail, "look into the device's own log")
    yield _residents(hsm, config)
    yield from _abilities(hsm)
    yield from _thefts(hsm)


def _choices(config: HsmConfig) -> Iterator[Finding]:
    """What the operator or the profile chose."""
    yield Finding("seal", Verdict.GOOD, f"new seal roots are {config.seal.value}")
    if config.exclude:
        yield Finding(
            "mechanisms not used", Verdict.WARN, f"{', '.join(config.exclude)}: excluded by the profile"
        )
    if config.omit:
        detail = f"objects of this token do not know the guards {', '.join(config.omit)}"
        yield Finding("guards", Verdict.WARN, detail, "Keystead alone keeps its keys from being copied")


def _residents(hsm: Hsm, config: HsmConfig) -> Finding:
    """How full the token is of keys that cannot be wrapped."""
    try:
        count = len(hsm.objects("keystead"))
    except KmsError as error:
        return Finding("resident keys", Verdict.BAD, error.detail, "look into the device's own log")
    detail = f"{count:,} of at most {config.resident_limit:,}"
    if count * 5 < config.resident_limit * 4:
        return Finding("resident keys", Verdict.GOOD, detail)
    advice = "types that the token can wrap cost it nothing: hsm-config/README.md, How many keys fit"
    return Finding("resident keys", Verdict.WARN, detail, advice)


def _abilities(hsm: Hsm) -> Iterator[Finding]:
    """Each operation that Keystead needs, tried with a throwaway key."""
    try:
        rows = survey(hsm)
    except KmsError as error:
        yield Finding("token abilities", Verdict.BAD, error.detail, "choose another token")
        return
    for row in rows:
        verdict = Verdict.GOOD if row.works else Verdict.BAD if row.required else Verdict.WARN
        yield Finding(f"{row.operation}, {row.spec}", verdict, row.finding, row.advice)


def _thefts(hsm: Hsm) -> Iterator[Finding]:
    """Commit the theft test; what the token does not refuse, Keystead alone has to."""
    try:
        attempts = theft.steal(hsm)
    except KmsError as error:
        yield Finding("theft test", Verdict.BAD, error.detail, "look into the device's own log")
        return
    worked = [row.attempt for row in attempts if not row.refused]
    word = theft.verdict(attempts, hsm.info)
    detail = f"{word} ({len(attempts) - len(worked)} of {len(attempts)} attempts refused)"
    if worked:
        yield Finding(
            "theft test", Verdict.BAD, f"{detail}; worked: {', '.join(worked[:3])}", _NO_ENFORCEMENT
        )
    elif word == theft.SIMULATED:
        yield Finding("theft test", Verdict.WARN, detail, "production: a hardware token")
    else:
        yield Finding("theft test", Verdict.GOOD, detail)


def alone_in_one_token(config: Config, clock: Clock) -> Iterator[Finding]:
    """Of several tokens, what would be lost with each."""
    if len(config.hsm.others) == 0 or not (config.data.storage / FILE_NAME).exists():
        return
    try:
        found, shared = alone(config, clock)
    except KmsError as error:
        yield Finding("in one token only", Verdict.BAD, error.detail, "check [hsm] of the configuration")
        return
    for token in found:
        check = f"only in {token.token}"
        held = [*token.keys, *(f"CA key {name}" for name in token.authorities)]
        detail = f"{len(held)}: {', '.join(held)}" if held else "nothing"
        if not token.answers:
            detail = f"it does not answer; in no other token: {detail}"
        mend = "they are lost with this token; let the vendor's tool copy it, where it can" if held else ""
        yield Finding(check, Verdict.WARN if held else Verdict.GOOD, detail, mend)
    if shared is not None:
        yield from _shared(shared)


def _shared(shared: Sharing) -> Iterator[Finding]:
    """Whether keys can be born for several tokens, and which of those that were are not in each."""
    together = f"those of {', '.join(shared.tokens)}" if shared.tokens else "none yet"
    if shared.missing:
        detail = f"{together}; not {', '.join(shared.missing)}"
        yield Finding("tokens that share keys", Verdict.WARN, detail, "it follows when all of them answer")
    else:
        yield Finding("tokens that share keys", Verdict.GOOD, together)
    if shared.keys:
        detail = f"{len(shared.keys)}: {', '.join(shared.keys)}"
        mend = "rotate them: a version that is born now is in each token"
        yield Finding("multi_token keys not in each token", Verdict.WARN, detail, mend)


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


def recovery(config: Config) -> Iterator[Finding]:
    """What was chosen for the day on which the HSM is lost."""
    if not (config.data.storage / FILE_NAME).exists():
        return
    try:
        store = SqliteStore.open(config.data.storage / FILE_NAME)
        try:
            row = read_instance(store.reader())
        finally:
            store.close()
    except KmsError as error:
        yield Finding("recovery", Verdict.BAD, error.detail, "look into the storage folder")
        return
    if row is None or not row.value.initialized:
        return
    verdict = Verdict.WARN if row.value.recovery == "none" else Verdict.GOOD
    yield Finding("recovery", verdict, explain(row.value))
    if row.value.recovery != config.recovery:
        detail = (
            f"the configuration says {config.recovery}, the server was initialized with {row.value.recovery}"
        )
        yield Finding("recovery setting", Verdict.WARN, detail, "mend the file: the choice cannot be changed")
    if row.value.recovering:
        yield Finding("recovery", Verdict.BAD, "a recovery was cut off", "keystead recover --config FILE")


def audit(config: Config) -> Iterator[Finding]:
    """The audit log, verified where that is quick; its key is not pinned here."""
    folder = config.data.audit
    if not folder.is_dir():
        return
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    command = f"keystead audit verify {folder} --trust FILE"
    if size > VERIFY_BYTES:
        yield Finding("audit log", Verdict.WARN, f"{size // 2**20} MiB, not verified here", command)
        return
    report = verify(folder, None)
    if report.failure is not None:
        detail = f"{report.failure.place}: {report.failure.what}"
        yield Finding("audit log", Verdict.BAD, detail, f"keep a copy, then: {command}")
    else:
        yield Finding("audit log", Verdict.GOOD, f"{report.records} records hold; key {report.fingerprint}")
