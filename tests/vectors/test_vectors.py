"""The published vectors over HTTP: a sample of the long files, all of the short ones. `-s` shows the counts."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from tests.harness.dev import DevServer
from tests.vectors.cases import Case
from tests.vectors.catalogue import FILES, WYCHEPROOF, File
from tests.vectors.files import ROOT
from tests.vectors.runner import Runner

# Vectors that can be asked, by family: these numbers may not fall.
WYCHEPROOF_ASKED = (15_354, 2_288)
ASKED = {
    "ciphers": 1_566,
    "keywrap": 6_000,
    "HMAC": 8,
    "CMAC": 12,
    "ECDSA": 1_603,
    "Ed25519": 1_024,
    "RSA": 900,
    "MLDSA": 600,
}


@pytest.fixture(scope="module")
def runner(server: DevServer) -> Iterator[Runner]:
    with server.api() as api:
        mount = f"vectors-{secrets.token_hex(4)}"
        api.ok("POST", f"sys/mounts/{mount}", {"type": "transit"})
        yield Runner(api, mount)


def family(file: File) -> str:
    first, second = file.path.split("/")[:2]
    return second if first == "asymmetric" else first


def test_as_many_vectors_are_asked_as_ever_and_each_other_has_a_reason() -> None:
    counts = dict.fromkeys(ASKED, 0)
    for file in FILES:
        for each in file.reader(file.path):
            if isinstance(each, Case):
                counts[family(file)] += 1
            else:
                assert each.reason
    assert counts == ASKED


def test_no_family_is_forgotten() -> None:
    read = {file.path for file in FILES}
    for folder in ("ciphers/AES/GCM", "keywrap/kwtestvectors", "asymmetric/MLDSA"):
        for path in (ROOT / folder).iterdir():
            if path.suffix in (".rsp", ".txt") and path.name != "Readme.txt" and "TKW" not in path.name:
                assert f"{folder}/{path.name}" in read


@pytest.mark.parametrize("file", FILES + WYCHEPROOF, ids=lambda file: file.path.rsplit("/", 1)[-1])
def test_vectors(file: File, runner: Runner) -> None:
    tally = runner.run(file.reader(file.path), file.stride)
    print(tally.line(file.path))
    assert tally.used or tally.excluded
    assert not tally.wrong, tally.wrong[:5]
    assert len(tally.texts) <= 1, "bad ciphertexts of one kind of key get different answers"


def test_as_many_wycheproof_vectors_are_asked_as_ever() -> None:
    asked = excluded = 0
    for file in WYCHEPROOF:
        for each in file.reader(file.path):
            asked += isinstance(each, Case)
            excluded += not isinstance(each, Case)
    assert (asked, excluded) == WYCHEPROOF_ASKED


@pytest.mark.parametrize(
    "name", ["gcmDecrypt128.rsp", "SigVer.rsp", "KW_AE_128.txt", "kat_MLDSA_44_det_pure.rsp"]
)
def test_a_wrong_expectation_is_found(name: str, runner: Runner) -> None:
    file = next(file for file in FILES if file.path.endswith(name))
    cases = [each for each in file.reader(file.path) if isinstance(each, Case)][:6]
    wrong = [Case(c.id, c.key, c.operation, c.item, "something else", c.path, c.common) for c in cases]
    assert len(runner.run(iter(wrong)).wrong) == len(wrong)
