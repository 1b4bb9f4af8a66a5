"""A token and a copy of it over one database: proved by use, waited for by a rotation, and the original's heir."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kms.errors import ErrorKind, KmsError
from kms.hsm import HsmConfig, HsmGroup, KeySpec, Purpose, find_softhsm_module, open_group
from kms.ids import new_cka_id
from kms.keys.copies import Copies
from kms.keys.lost import Losses
from kms.keys.removal import Remover
from kms.keys.roots import ACTIVE, PLANNED, ROOTS, ROTATED
from kms.keys.rotation import WAITING
from kms.keys.tokens import ENROLLED, HSM_TOKENS, OWN_KEYS, REMOVED, SAME_KEYS, Enrolled, copies_of
from kms.operation import Result
from tests.core.test_init import Bench, initialize, run
from tests.hsm.parts import Pulled, private_token

FIRST, COPY = "keystead", "copy"


class CopyBench(Bench):
    """The parts of one process over a token and a place for its copy, which is another module's."""

    configs: dict[str, HsmConfig]

    def restart(self) -> None:
        super().restart()
        self.hsm.close()
        if not isinstance(self.hsm, HsmGroup):
            self.configs = self.places()
        self.hsm = open_group(
            list(self.configs.items()), self.clock, Enrolled(self.store, FIRST), Losses(self.store).refuse
        )
        self.copies = Copies(self.store, lambda: self.hsm, self.clock, FIRST, self.instance)
        self.remover = Remover(
            self.store,
            lambda: self.hsm,
            self.clock,
            epoch=lambda: 1,
            lose=lambda _tx, _kept: None,
            named=lambda _ids: {"keys": []},
        )

    def places(self) -> dict[str, HsmConfig]:
        first = private_token(self.folder / "first")
        folder = self.folder / "copy"
        (folder / "tokens").mkdir(parents=True)
        module, conf = folder / "copied-softhsm.so", folder / "softhsm2.conf"
        shutil.copy(find_softhsm_module(), module)
        conf.write_text(f"directories.tokendir = {folder}/tokens\n")
        return {FIRST: first, COPY: replace(first, module=module, softhsm2_conf=conf)}

    def vendor_copies(self) -> None:
        """What a vendor's cloning does, and a process that has not seen the copy before."""
        self.hsm.close()
        shutil.rmtree(self.folder / "copy" / "tokens")
        shutil.copytree(self.configs[FIRST].pin_file.parent / "tokens", self.folder / "copy" / "tokens")
        self.restart()

    def enrol(self) -> Result:
        change = self.copies.enrol(COPY)
        with self.store.transaction() as tx:
            return change.write(tx)

    def states(self) -> dict[str, tuple[str, str]]:
        """State and relation of each token."""
        return {
            row.key: (row.value.state, row.value.relation) for row in self.store.reader().scan(HSM_TOKENS)
        }

    def homes(self) -> set[str]:
        return {row.value.home for row in self.store.reader().find(ROOTS, {"state": ACTIVE})}


@pytest.fixture
def copied(tmp_path: Path) -> Iterator[CopyBench]:
    bench = CopyBench(tmp_path)
    initialize(bench)
    yield bench
    bench.close()


def test_a_copy_is_proved_before_it_serves(copied: CopyBench) -> None:
    with pytest.raises(KmsError) as absent:
        copied.copies.enrol(COPY)
    assert absent.value.kind is ErrorKind.HSM_UNAVAILABLE
    copied.vendor_copies()
    copied.hsm.at(FIRST).generate(Purpose.KEY_SIGN, KeySpec.ED25519, new_cka_id(), "born since")
    with pytest.raises(KmsError, match=r'it lacks 1 of [0-9]+ objects, one of them "born since"'):
        copied.copies.enrol(COPY)
    assert copied.states() == {}
    copied.vendor_copies()
    held = len(copied.hsm.at(FIRST).objects(""))
    assert copied.enrol().data == {"name": COPY, "state": ENROLLED, "objects": held}
    assert copied.states() == {FIRST: (ENROLLED, OWN_KEYS), COPY: (ENROLLED, SAME_KEYS)}
    assert copied.homes() == {FIRST}
    assert copies_of(copied.store.reader()) == [COPY]
    with pytest.raises(KmsError, match="serves already"):
        copied.copies.enrol(COPY)


@pytest.mark.parametrize("purpose", [*ROTATED, Purpose.LOG_SIGN])
def test_a_copy_with_another_key_is_refused(copied: CopyBench, purpose: Purpose) -> None:
    copied.vendor_copies()
    root, copy = copied.roots.current(purpose), copied.hsm.at(COPY)
    spec = KeySpec.ED25519 if purpose is Purpose.LOG_SIGN else KeySpec.AES_256
    copy.destroy(root)
    copy.generate(purpose, spec, root, "another key under the same name")
    with pytest.raises(KmsError, match=f"its {purpose.value} v1 is another key") as error:
        copied.copies.enrol(COPY)
    assert error.value.kind is ErrorKind.INVALID
    assert copied.states() == {}


def test_a_rotation_waits_for_the_copy_and_goes_on(copied: CopyBench) -> None:
    before = copied.terms()
    copied.vendor_copies()
    copied.enrol()
    assert copied.rotator.due() is None
    for _ in range(2):  # asked again, it makes no further roots
        waiting = run(copied, copied.rotator.rotate())
        assert waiting.data == {"state": WAITING, "to_version": 2, "waits_for": [COPY]}
        planned = copied.store.reader().find(ROOTS, {"state": PLANNED})
        assert sorted(row.value.purpose for row in planned) == sorted(ROTATED)
    progress = copied.rotator.progress()
    assert (progress["state"], progress["version"], progress["waits_for"]) == (WAITING, 1, (COPY,))
    assert copied.rotator.due() is None, "the copy does not hold the roots yet"
    files = Pulled(replace(copied.configs[COPY], pin_file=copied.folder / "copy" / "pin"))
    files.vanish()
    assert copied.rotator.due() is None, "the copy does not answer"
    files.come_back()
    copied.vendor_copies()
    rest = copied.rotator.due()
    assert rest is not None
    assert run(copied, rest).data == {"state": "complete", "from_version": 1, "to_version": 2}
    assert copied.terms() == before
    assert {row.value.purpose for row in planned} == set(ROTATED)
    assert {copied.roots.current(purpose).hex() for purpose in ROTATED} == {row.key for row in planned}
    assert copied.rotator.due() is None


def test_a_copy_becomes_the_original(copied: CopyBench) -> None:
    before = copied.terms()
    copied.vendor_copies()
    copied.enrol()
    with pytest.raises(KmsError, match=f'"{COPY}" answers'):
        copied.remover.remove(COPY)
    with pytest.raises(KmsError, match="no HSM token"):
        copied.remover.remove("third")
    Pulled(copied.configs[FIRST]).vanish()
    assert copied.terms() == before, "the copy serves alone"
    with pytest.raises(KmsError, match="does not answer"):
        run(copied, copied.rotator.rotate())
    first, late = copied.remover.remove(FIRST), copied.remover.remove(FIRST)
    with copied.store.transaction() as tx:
        assert first.write(tx).data == {"name": FIRST, "state": REMOVED, "lost": {"keys": []}}
    with pytest.raises(KmsError) as error, copied.store.transaction() as tx:
        late.write(tx)
    assert error.value.kind is ErrorKind.CONFLICT
    assert copied.states() == {FIRST: (REMOVED, OWN_KEYS), COPY: (ENROLLED, OWN_KEYS)}
    assert copied.homes() == {COPY}
    copied.restart()
    with pytest.raises(KmsError, match="the only one that serves"):
        copied.remover.remove(COPY)
    run(copied, copied.rotator.rotate())
    assert copied.roots.active(Purpose.ROOT_SEAL).version == 2
    assert copied.terms() == before
