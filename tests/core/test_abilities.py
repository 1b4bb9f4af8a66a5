"""Two tokens of which one can less: each is asked for itself, and a key is born as the token that answers can have it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kms.hsm import AwayError, KeySpec, Purpose, Resident
from kms.keys.envelope import resident_ref, residents
from kms.keys.lifecycle import Wish
from kms.keys.model import KeyVersion, WrappedMaterial
from kms.keys.store import KEY_VERSIONS, version_key
from tests.core.test_init import run
from tests.core.test_joint import MOUNT, JointBench, away, back

NO_WRAP = ("CKM_AES_KEY_WRAP_PAD", "CKM_AES_KEY_WRAP_KWP")
NO_OAEP = ("CKM_RSA_PKCS_OAEP",)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[JointBench]:
    bench = JointBench(tmp_path)
    yield bench
    bench.close()


def limit(two: JointBench, name: str, lacks: tuple[str, ...]) -> None:
    """From its next start on this token is used without these mechanisms; the second is then enrolled."""
    two.configs[name] = replace(two.configs[name], exclude=lacks)
    two.restart()
    two.open()
    run(two, two.enroller.enrol("second"))
    two.settle()


def made(two: JointBench, name: str, **wish: Any) -> KeyVersion:
    two.do(two.keys.create(MOUNT, name, Wish(protection="hsm", **wish)))
    row = two.keys.core.row(MOUNT, name)
    assert row is not None
    version = two.store.reader().get(KEY_VERSIONS, version_key(row.value.id, 1))
    assert version is not None
    return version.value


def wrapped(version: KeyVersion) -> bool:
    return isinstance(version.material, WrappedMaterial)


def works(two: JointBench, version: KeyVersion) -> None:
    """A resident AES key encrypts."""
    (ref, *_) = [resident_ref(part) for part in residents(version)]
    assert isinstance(ref, Resident)
    assert two.hsm.decrypt(ref, bytes(12), two.hsm.encrypt(ref, bytes(12), b"x", b""), b"") == b"x"


def test_the_second_wraps_nothing(two: JointBench) -> None:
    limit(two, "second", NO_WRAP)
    assert wrapped(made(two, "both-here"))
    files = away(two, "keystead")
    alone = made(two, "first-away")
    assert not wrapped(alone)
    works(two, alone)
    back(two, files, "keystead")
    assert wrapped(made(two, "both-again"))
    away(two, "second")
    with pytest.raises(AwayError, match='"second"'):
        works(two, alone)


def test_the_first_wraps_nothing(two: JointBench) -> None:
    """Its roots of before serve no more; the other's do, and where that is away a key is resident, not refused."""
    two.make("before", multi_token=False)
    limit(two, "keystead", NO_WRAP)
    assert not two.hsm.at("keystead").can_wrap(KeySpec.AES_256)
    files = away(two, "second")
    alone = made(two, "second-away")
    assert not wrapped(alone)
    works(two, alone)
    back(two, files, "second")
    files = away(two, "keystead")
    assert wrapped(made(two, "first-away"))
    back(two, files, "keystead")


def test_the_wrapping_key_of_imports_is_asked_for_where_it_is(two: JointBench) -> None:
    limit(two, "second", NO_OAEP)
    shown = two.do(two.keys.imports.hsm.wrapping_key(MOUNT))
    assert shown["hash_functions"] == ["SHA1"]
    files = away(two, "keystead")
    # The other token says nothing of a pair that it does not have.
    assert two.hsm.oaep(Purpose.IMPORT_UNWRAP) == ()
    with pytest.raises(AwayError, match='"keystead"'):
        two.keys.imports.hsm.wrapping_key(MOUNT)
    back(two, files, "keystead")
    assert two.do(two.keys.imports.hsm.wrapping_key(MOUNT)) == shown
