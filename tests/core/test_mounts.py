"""Mount paths have one spelling, never nest, and resolve to the same engine in every process."""

from __future__ import annotations

from pathlib import Path

import pytest

from kms.errors import ErrorKind, KmsError
from kms.system.mounts import MOUNTS, MountTable, canonical_path, new_mount
from tests.support import make_sealer, make_store

_REFUSED = [
    "",
    "/",
    "a//b",
    "../x",
    "a/../b",
    ".",
    "a/./b",
    "a b",
    "a\\b",
    "a%2fb",
    "ä",
    "a\x00b",
    "x" * 300,
    "-a",
]


@pytest.mark.parametrize("path", _REFUSED)
def test_paths_with_two_spellings_are_refused(path: str) -> None:
    with pytest.raises(KmsError):
        canonical_path(path)


@pytest.mark.parametrize(
    ("given", "canonical"), [("transit", "transit/"), ("/a/b/", "a/b/"), ("Team.1/pki-x", "Team.1/pki-x/")]
)
def test_slashes_at_the_ends_do_not_matter(given: str, canonical: str) -> None:
    assert canonical_path(given) == canonical


def _open() -> None:
    return None


def test_only_sys_answers_while_the_table_cannot_be_read(tmp_path: Path) -> None:
    def sealed() -> None:
        raise KmsError(ErrorKind.SEALED, "Vault is sealed")

    store = make_store(tmp_path)
    table = MountTable(store, sealed)
    found = table.resolve("sys/health")
    assert found is not None
    assert (found[0].type, found[1]) == ("system", "health")
    with pytest.raises(KmsError) as error:
        table.resolve("transit/encrypt/x")
    assert error.value.kind is ErrorKind.SEALED
    store.close()


def test_mounts_do_not_nest_and_are_seen_by_other_processes(tmp_path: Path) -> None:
    sealer = make_sealer()
    store, other = make_store(tmp_path, sealer), make_store(tmp_path, sealer)
    here, there = MountTable(store, _open), MountTable(other, _open)
    assert there.resolve("team/keys/encrypt/x") is None
    with store.transaction() as tx:
        here.enable(tx, "team/keys/", new_mount("transit"))
    other.refresh()
    found = there.resolve("team/keys/encrypt/x")
    assert found is not None
    assert (found[0].path, found[0].type, found[1]) == ("team/keys/", "transit", "encrypt/x")
    assert there.resolve("team/keys") is None
    for taken in ("team/", "team/keys/", "team/keys/more/"):
        with pytest.raises(KmsError, match="path is already in use"), store.transaction() as tx:
            here.enable(tx, taken, new_mount("pki"))
    with other.transaction() as tx:
        row = tx.get(MOUNTS, "team/keys/")
        assert row is not None
        tx.delete(MOUNTS, row)
    store.refresh()
    assert here.resolve("team/keys/encrypt/x") is None
    store.close()
    other.close()
