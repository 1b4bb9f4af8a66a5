"""NSS: `vfychain` (CERT_PKIXVerifyCert) on databases made by `certutil` and `crlutil`.

It checks no host names, so it is not asked cases whose point is one, and it takes no OCSP answer from a file.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.harness.validators.case import Case, run

_USAGES = {"client": "0", "server": "1", "code": "6", "": "0"}


def judge(cases: Sequence[Case], folder: Path) -> dict[str, str]:
    """Every case without an OCSP answer."""
    return {case.name: _one(case, folder) for case in cases if not case.ocsp}


def _one(case: Case, folder: Path) -> str:
    try:
        database = _database(case, folder)
    except LookupError as refused:
        return str(refused)
    names = []
    for number, der in enumerate((case.leaf, *case.chain)):
        path = folder / f"{number}.der"
        path.write_bytes(der)
        names.append(str(path))
    # The tool knows no seconds: a check at the second of notBefore is one in the minute that follows.
    minute = datetime.fromtimestamp((case.at + 59) // 60 * 60, UTC).strftime("%y%m%d%H%MZ")
    command = ["vfychain", "-d", database, "-pp", "-u", _USAGES[case.purpose], "-b", minute]
    if case.crls:
        flags = ["-m", "crl", "-s", "forbidFetching,requireInfo,failIfNoInfo"]
        command += ["-g", "leaf", "-h", "requireFreshInfo", *flags]
        command += ["-g", "chain", "-h", "requireFreshInfo", *flags]
    done = run(*command, *names)
    said = (done.stdout + done.stderr).decode(errors="replace").strip()
    return "" if done.returncode == 0 and "Chain is good" in said else said or "refused"


def _database(case: Case, folder: Path) -> str:
    """A database with these roots and CRLs; made once.

    Raises:
        LookupError: it does not take one of them.
    """
    parts = (*case.roots, *case.crls, *(case.chain if case.crls else ()))
    place = folder / hashlib.sha256(b"".join(parts)).hexdigest()[:16]
    name = f"sql:{place}"
    if not (place / "whole").exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        _demand("certutil", "-N", "-d", name, "--empty-password")
        for number, der in enumerate(case.roots):
            _demand("certutil", "-A", "-d", name, "-n", f"root{number}", "-t", "CT,C,C", data=der)
        if case.crls:
            # A CRL is taken only from an issuer that the database knows.
            for number, der in enumerate(case.chain):
                _demand("certutil", "-A", "-d", name, "-n", f"ca{number}", "-t", ",,", data=der)
            for number, der in enumerate(case.crls):
                path = place / f"{number}.crl"
                path.write_bytes(der)
                _demand("crlutil", "-I", "-B", "-d", name, "-i", str(path))
        (place / "whole").touch()
    return name


def _demand(*command: str, data: bytes | None = None) -> None:
    done = run(*command, data=data)
    if done.returncode:
        raise LookupError(f"{command[0]}: {done.stderr.decode(errors='replace').strip()}")
