"""A module that refuses C_Initialize(NULL) and wants a string, in this process: NSS softoken."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kms.errors import ErrorKind, KmsError
from kms.hsm import Hsm, KeySpec, Purpose
from kms.hsm.module import Module
from kms.ids import new_cka_id
from tests.hsm.modules import NSS_LABEL, NSS_SOFTOKEN, nss_token
from tests.hsm.parts import opened


@pytest.fixture(scope="module")
def nss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hsm]:
    """Through a copy of the module, as its function list is changed for as long as the process lives."""
    folder: Path = tmp_path_factory.mktemp("nss")
    module = folder / "private-softokn.so"
    shutil.copy(NSS_SOFTOKEN, module)
    with opened(replace(nss_token(folder), module=module)) as hsm:
        yield hsm


def test_the_string_reaches_the_module_at_each_start(nss: Hsm) -> None:
    """It names the database: without it there would be no such token."""
    assert nss.info.label == NSS_LABEL
    assert nss.info.os_locking
    module = nss.gate._module
    before = nss.gate._connection
    assert before is not None
    nss.gate._drop(before)  # the next call initialises the module anew
    nss.check()
    assert nss.gate._connection is not before
    assert nss.gate._module is module
    assert nss.info.label == NSS_LABEL


def test_it_seals_under_a_pair(nss: Hsm) -> None:
    root = new_cka_id()
    nss.generate(Purpose.ROOT_SEAL_RSA, KeySpec.RSA_3072, root, "seal")
    sealed = nss.seal(root, b"keyring", b"term")
    assert nss.unseal(root, sealed, b"term") == b"keyring"
    with pytest.raises(KmsError) as caught:
        nss.unseal(root, sealed, b"other")
    assert caught.value.kind is ErrorKind.INTEGRITY


def test_without_the_string_it_does_not_load(tmp_path: Path) -> None:
    module = tmp_path / "private-softokn.so"
    shutil.copy(NSS_SOFTOKEN, module)
    with pytest.raises(KmsError, match="cannot load the PKCS#11 module") as caught:
        Module(module, {})
    assert caught.value.kind is ErrorKind.HSM_UNAVAILABLE
