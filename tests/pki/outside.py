"""Judges that are not ours: OpenSSL's strict verifier, GnuTLS, pkilint."""

from __future__ import annotations

import subprocess
from pathlib import Path

from pki.lint import Pkilint


def run(command: list[str], text: str = "") -> str:
    done = subprocess.run(command, input=text, capture_output=True, check=False, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text + "\n")
    return str(path)


def openssl_verify(
    folder: Path, leaf: str, root: str, between: str = "", *, at: int, purpose: str = "", crls: str = ""
) -> None:
    """`openssl verify -x509_strict`, with CRLs where given. Raises AssertionError."""
    command = [
        "openssl",
        "verify",
        "-x509_strict",
        "-attime",
        str(at),
        "-CAfile",
        write(folder, "root.pem", root),
    ]
    if between:
        command += ["-untrusted", write(folder, "between.pem", between)]
    if purpose:
        command += ["-purpose", purpose]
    if crls:
        command += ["-crl_check", "-CRLfile", write(folder, "crls.pem", crls)]
    run([*command, write(folder, "leaf.pem", leaf)])


def gnutls_verify(folder: Path, leaf: str, root: str, between: str = "") -> None:
    """`certtool --verify` at the machine's time; it wants the chain leaf first. Raises AssertionError."""
    chain = "\n".join(part for part in (leaf, between) if part)
    trust = write(folder, "trust.pem", root)
    run(["certtool", "--verify", "--load-ca-certificate", trust, "--infile", write(folder, "c.pem", chain)])


def lint(der: bytes) -> list[str]:
    """Pkilint's findings of severity ERROR and worse, but for what our own grammar decides."""
    return Pkilint().certificate(der)


def lint_crl(der: bytes) -> list[str]:
    """The same for a CRL."""
    return Pkilint().crl(der)


def lint_ocsp(der: bytes) -> list[str]:
    """The same for an OCSP answer."""
    return Pkilint().ocsp(der)
