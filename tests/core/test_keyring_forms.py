"""A keyring term in several forms: which tokens sealed it, which opens it, and what no token's absence may change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from kms.clock import SystemClock
from kms.errors import ErrorKind, KmsError
from kms.hsm import Hsm, KeySpec, Purpose
from kms.hsm.token import softhsm_token
from kms.ids import CkaId, new_cka_id
from kms.keys.keyring import (
    TERMS,
    Keyring,
    Term,
    open_ending,
    open_keyring,
    open_row,
    reseal_known,
    seal_forms,
    term_key,
)
from kms.keys.roots import Root
from kms.sensitive import ACCESS, Sensitive
from kms.storage import FILE_NAME, SqliteStore, prepare

INSTANCE = "an instance"
KEY = Sensitive(bytes(range(32)))


class Tokens:
    """One real token that can say of some of its roots that their token is away."""

    def __init__(self, hsm: Hsm) -> None:
        self._hsm = hsm
        self.away: set[CkaId] = set()

    def order(self, roots: Sequence[CkaId]) -> list[CkaId]:
        return list(roots)

    def seal(self, root: CkaId, data: bytes, aad: bytes) -> bytes:
        self._demand(root)
        return self._hsm.seal(root, data, aad)

    def unseal(self, root: CkaId, sealed: bytes, aad: bytes) -> bytes:
        self._demand(root)
        return self._hsm.unseal(root, sealed, aad)

    def _demand(self, root: CkaId) -> None:
        if root in self.away:
            raise KmsError(ErrorKind.HSM_UNAVAILABLE, "away")


class Rig:
    """Two roots, and a database for terms."""

    def __init__(self, folder: Path) -> None:
        self.hsm = Hsm.open(softhsm_token(folder / "token"), SystemClock())
        self.roots = [Root(new_cka_id(), version, b"") for version in (1, 1)]
        for root in self.roots:
            self.hsm.generate(Purpose.ROOT_SEAL, KeySpec.AES_256, root.cka_id, "keystead root-seal v1")
        self.tokens = Tokens(self.hsm)
        prepare(folder / "storage")
        self.store = SqliteStore.open(folder / "storage" / FILE_NAME)

    def sealed(self, term: int = 1, roots: Sequence[Root] | None = None, ended: int = 0) -> Term:
        bare = Term(term=term, root="", root_version=0, sealed=b"", created=0.0, ended=ended)
        return seal_forms(self.tokens, roots or self.roots, INSTANCE, bare, KEY)  # type: ignore[arg-type]  # its port

    def open(self, term: Term) -> bytes:
        return open_row(self.tokens, INSTANCE, term).reveal(ACCESS)  # type: ignore[arg-type]  # its port

    def keep(self, *terms: Term) -> None:
        with self.store.transaction() as tx:
            for term in terms:
                tx.insert(TERMS, term_key(term.term), term)


@pytest.fixture(name="rig")
def _rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.store.close()
    rig.hsm.close()


def test_either_token_opens_a_term_that_both_sealed(rig: Rig) -> None:
    term = rig.sealed()
    assert [form.root for form in term.forms] == [root.cka_id.hex() for root in rig.roots]
    for root in rig.roots:
        rig.tokens.away = {root.cka_id}
        assert rig.open(term) == KEY.reveal(ACCESS)
    rig.tokens.away = {root.cka_id for root in rig.roots}
    with pytest.raises(KmsError) as error:
        rig.open(term)
    assert error.value.kind is ErrorKind.HSM_UNAVAILABLE


def test_a_term_is_sealed_where_a_token_answers_and_nowhere_else(rig: Rig) -> None:
    first, second = rig.roots
    rig.tokens.away = {second.cka_id}
    term = rig.sealed()
    assert [form.root for form in term.forms] == [first.cka_id.hex()]
    rig.tokens.away = {first.cka_id, second.cka_id}
    with pytest.raises(KmsError) as error:
        rig.sealed()
    assert error.value.kind is ErrorKind.HSM_UNAVAILABLE


def test_what_does_not_open_is_not_taken_for_a_token_that_is_away(rig: Rig) -> None:
    term = rig.sealed(roots=rig.roots[:1])
    with pytest.raises(KmsError, match="does not open under its root") as error:
        rig.open(Term(term=2, root=term.root, root_version=1, sealed=term.sealed, created=0.0))
    assert error.value.kind is ErrorKind.INTEGRITY
    with pytest.raises(KmsError) as error:
        rig.sealed(roots=[Root(new_cka_id(), 1, b"")])
    assert error.value.kind is not ErrorKind.HSM_UNAVAILABLE


def test_a_keyring_knows_what_was_ended_by_what_opens(rig: Rig) -> None:
    reader = rig.store.reader()
    with pytest.raises(KmsError) as error:
        open_keyring(rig.tokens, INSTANCE, reader)  # type: ignore[arg-type]  # its port
    assert error.value.kind is ErrorKind.UNINITIALIZED
    assert Keyring({}, {}).ended == 0
    rig.keep(rig.sealed(3, ended=3), rig.sealed(4, ended=3))
    assert open_keyring(rig.tokens, INSTANCE, reader).ended == 3  # type: ignore[arg-type]  # its port
    assert open_ending(rig.tokens, INSTANCE, reader, 3) == 3  # type: ignore[arg-type]  # its port
    assert open_ending(rig.tokens, INSTANCE, reader, 0) == 3  # type: ignore[arg-type]  # its port
    forged = rig.sealed(5, ended=3)
    rig.keep(Term(term=5, root=forged.root, root_version=1, sealed=forged.sealed, created=0.0, ended=5))
    with pytest.raises(KmsError, match="does not open"):
        open_ending(rig.tokens, INSTANCE, reader, 3)  # type: ignore[arg-type]  # its port


def test_custodians_seal_what_they_opened_under_one_new_root(rig: Rig) -> None:
    rig.keep(rig.sealed())
    rows = rig.store.reader().scan(TERMS)
    ((row, new),) = reseal_known(rig.hsm, INSTANCE, rows, {1: KEY}, rig.roots[1])
    assert (row.value.term, [form.root for form in new.forms]) == (1, [rig.roots[1].cka_id.hex()])
    assert rig.open(new) == KEY.reveal(ACCESS)
