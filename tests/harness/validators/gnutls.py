"""`certtool --verify` and `ocsptool --verify-response`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.harness.validators.case import PURPOSES, Case, clocked, run, write_pem


def judge(cases: Sequence[Case], folder: Path) -> dict[str, str]:
    """Every case."""
    return {case.name: _one(case, folder) for case in cases}


def _one(case: Case, folder: Path) -> str:
    chain = write_pem(folder / "chain.pem", (case.leaf, *case.chain))
    roots = write_pem(folder / "roots.pem", case.roots)
    command = [*clocked(case.at), "certtool", "--verify", "--load-ca-certificate", roots, "--infile", chain]
    if case.crls:
        command += ["--load-crl", write_pem(folder / "crls.pem", case.crls, "X509 CRL")]
    if case.host:
        command += ["--verify-hostname", case.host]
    if case.purpose:
        command += ["--verify-purpose", PURPOSES[case.purpose]]
    done = run(*command)
    if done.returncode:
        said = (done.stdout + done.stderr).decode(errors="replace")
        return said[max(0, said.rfind("Chain verification output")) :].strip() or "refused"
    return _ocsp(case, folder) if case.ocsp else ""


def _ocsp(case: Case, folder: Path) -> str:
    answer = folder / "ocsp.der"
    answer.write_bytes(case.ocsp)
    leaf = write_pem(folder / "leaf.pem", [case.leaf])
    issuer = write_pem(folder / "issuer.pem", (case.chain or case.roots)[:1])
    command = [*clocked(case.at), "ocsptool", "--verify-response", "--load-response", str(answer)]
    command += ["--load-cert", leaf]
    done = run(*command, "--load-issuer", issuer, "--load-trust", issuer)
    said = (done.stdout + done.stderr).decode(errors="replace")
    return "" if done.returncode == 0 and "Success" in said and "revoked" not in said else said.strip()
