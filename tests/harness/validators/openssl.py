"""`openssl verify -x509_strict` and `openssl ocsp`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.harness.validators.case import Case, clocked, run, write_pem


def judge(cases: Sequence[Case], folder: Path) -> dict[str, str]:
    """Every case."""
    return {case.name: _one(case, folder) for case in cases}


def _one(case: Case, folder: Path) -> str:
    leaf = write_pem(folder / "leaf.pem", [case.leaf])
    roots = write_pem(folder / "roots.pem", case.roots)
    command = ["openssl", "verify", "-x509_strict", "-no-CAstore", "-no-CApath", "-CAfile", roots]
    command += ["-attime", str(case.at)]
    if case.chain:
        command += ["-untrusted", write_pem(folder / "chain.pem", case.chain)]
    if case.crls:
        crls = write_pem(folder / "crls.pem", case.crls, "X509 CRL")
        command += ["-crl_check_all", "-extended_crl", "-use_deltas", "-CRLfile", crls]
    if case.host:
        command += ["-verify_hostname", case.host]
    if case.purpose in {"server", "client"}:  # 3.0 has no purpose for code signing
        command += ["-purpose", f"ssl{case.purpose}"]
    done = run(*command, leaf)
    if done.returncode:
        return done.stderr.decode(errors="replace").strip() or "refused"
    return _ocsp(case, folder, leaf, roots) if case.ocsp else ""


def _ocsp(case: Case, folder: Path, leaf: str, roots: str) -> str:
    answer = folder / "ocsp.der"
    answer.write_bytes(case.ocsp)
    issuer = write_pem(folder / "issuer.pem", (case.chain or case.roots)[:1])
    chain = write_pem(folder / "chain.pem", case.chain) if case.chain else issuer
    # -attime is not for the times of the answer.
    command = [*clocked(case.at), "openssl", "ocsp", "-respin", str(answer), "-issuer", issuer, "-cert", leaf]
    done = run(*command, "-CAfile", roots, "-verify_other", chain, "-no_nonce")
    said = done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")
    if done.returncode == 0 and "Response verify OK" in said and ": good" in said:
        return ""
    return said.strip() or "refused"
