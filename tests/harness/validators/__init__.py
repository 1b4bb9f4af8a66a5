"""What others say of our certificates, CRLs and OCSP answers: eight validators behind one question.

    answers = judge(cases, folder)       # {case name: {validator: "" or its reason to refuse}}

Java and Go get all cases in one process, OpenSSL those that differ in their leaf alone; the other command lines get a
process for each (5 to 20 ms). OpenSSL and Java are asked in two versions: what machines have, and the newest, which
knows ML-DSA. A validator that cannot be asked a case is not among the answers; its module says what and why.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.harness.validators import gnutls, golang, java, lint, nss, openssl, openssl4
from tests.harness.validators.case import Case

VALIDATORS = {
    "openssl": openssl.judge,
    "openssl4": openssl4.judge,
    "gnutls": gnutls.judge,
    "nss": nss.judge,
    "java": java.judge,
    "java25": java.judge_newest,
    "go": golang.judge,
    "pkilint": lint.judge,
}


def know_mldsa() -> frozenset[str]:
    """Who can judge what is made with ML-DSA (RFC 9881)."""
    machine = {"java"} if java.known("ML-DSA") else set()
    return frozenset({"openssl4", "java25", "go", "pkilint"} | machine)


Answers = dict[str, dict[str, str]]


def judge(cases: Sequence[Case], folder: Path, validators: Iterable[str] = tuple(VALIDATORS)) -> Answers:
    """Each validator's answer to each case that it can be asked; files go below `folder`."""
    chosen = list(validators)
    places = {name: folder / name for name in chosen}
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda name: VALIDATORS[name](cases, places[name]), chosen))
    answers: Answers = {case.name: {} for case in cases}
    for name, found in zip(chosen, made, strict=True):
        for case, reason in found.items():
            answers[case][name] = reason
    return answers


__all__ = ["VALIDATORS", "Answers", "Case", "judge"]
