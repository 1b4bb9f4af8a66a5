"""The SoftHSM token in a folder of its own."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pkcs11 import exceptions as p11

from kms.errors import ErrorKind, KmsError
from kms.hsm import find_softhsm_module, newtoken, softhsm_token, token
from kms.hsm.durable import TokenFolder
from tests.hsm.parts import StepClock, make_roots, opened, private_token


def test_what_is_in_the_folder(tmp_path: Path) -> None:
    config = softhsm_token(tmp_path / "deep" / "token")
    folder = tmp_path / "deep" / "token"
    assert {path.name for path in folder.iterdir()} == {"pin", "softhsm2.conf", "tokens"}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(config.pin_file.stat().st_mode) == 0o600
    assert len(config.pin_file.read_text().strip()) == 32
    assert config.softhsm2_conf is not None
    settings = [line for line in config.softhsm2_conf.read_text().splitlines() if line and line[0] != "#"]
    assert settings == [
        f"directories.tokendir = {folder}/tokens",
        "objectstore.backend = file",
        "log.level = ERROR",
        "slots.removable = false",
        "slots.mechanisms = ALL",
        "library.reset_on_fork = true",
    ]
    assert list((tmp_path / "deep").iterdir()) == [folder], "no staging folder stays"


def test_a_second_call_changes_nothing(tmp_path: Path) -> None:
    first = softhsm_token(tmp_path / "token")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "token").rglob("*")}
    assert softhsm_token(tmp_path / "token") == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "token").rglob("*")} == before


def test_a_moved_folder_goes_on_working(tmp_path: Path) -> None:
    config = private_token(tmp_path)
    with opened(config) as hsm:
        roots = make_roots(hsm)
    (tmp_path / "token").rename(tmp_path / "moved here")
    moved = softhsm_token(tmp_path / "moved here", module=config.module)
    with opened(moved) as hsm:
        assert all(hsm.exists(cka_id) for cka_id in roots.values())


def test_no_pin_is_ever_an_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    honest = subprocess.run

    def seen(command: list[str], **options: object) -> object:
        commands.append(command)
        return honest(command, **options)  # type: ignore[call-overload]  # passed on

    monkeypatch.setattr(subprocess, "run", seen)
    config = softhsm_token(tmp_path / "token")
    pin = config.pin_file.read_text().strip()
    assert len(commands) == 1
    assert not [part for part in commands[0] if pin in part]


def test_a_failed_start_leaves_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "broken.so"
    broken.write_text("no module")
    with pytest.raises(KmsError, match="cannot initialise") as caught:
        softhsm_token(tmp_path / "token", module=broken)
    assert caught.value.kind is ErrorKind.HSM_UNAVAILABLE
    assert [path.name for path in tmp_path.iterdir()] == ["broken.so"]


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "token").mkdir()
    (tmp_path / "token" / "mine").write_text("x")
    with pytest.raises(KmsError, match="cannot make a token"):
        softhsm_token(tmp_path / "token")
    assert [path.name for path in (tmp_path / "token").iterdir()] == ["mine"]
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("label", ["", "x" * 33])
def test_labels_are_bounded(tmp_path: Path, label: str) -> None:
    with pytest.raises(KmsError, match="1 to 32"):
        softhsm_token(tmp_path / "token", label)


def test_a_path_with_a_newline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KmsError, match="newline"):
        softhsm_token(tmp_path / "to\nken")


def test_find_softhsm_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_softhsm_module().name == "libsofthsm2.so"
    mine = tmp_path / "mine.so"
    mine.write_text("")
    monkeypatch.setenv("KEYSTEAD_SOFTHSM_MODULE", str(mine))
    assert find_softhsm_module() == mine
    monkeypatch.setenv("KEYSTEAD_SOFTHSM_MODULE", str(tmp_path / "missing.so"))
    with pytest.raises(KmsError, match="apt-get install"):
        find_softhsm_module()
    monkeypatch.delenv("KEYSTEAD_SOFTHSM_MODULE")
    monkeypatch.setattr(token, "_MODULES", ())
    with pytest.raises(KmsError, match="apt-get install"):
        find_softhsm_module()


def test_newtoken_reports_on_stderr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = private_token(tmp_path)
    assert newtoken.main([str(tmp_path / "missing.so"), "x", str(config.pin_file)]) == 1
    assert "cannot load" in capsys.readouterr().err
    monkeypatch.setenv("SOFTHSM2_CONF", str(config.softhsm2_conf))
    assert newtoken.main([str(config.module), "second", str(config.pin_file)]) == 0
    with opened(config) as hsm:
        assert hsm.info.label == "keystead"


def test_acknowledged_objects_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SoftHSM writes without fsync; a power failure must not lose a key whose id the database has."""
    synced: list[str] = []
    config = private_token(tmp_path)
    honest = TokenFolder._sync

    def counted(self: TokenFolder, path: Path) -> None:
        before = len(self._synced)
        honest(self, path)
        if len(self._synced) > before:
            synced.append(path.suffix)

    monkeypatch.setattr(TokenFolder, "_sync", counted)
    with opened(config) as hsm:
        roots = make_roots(hsm)
        assert synced.count(".object") >= len(roots) + 1
    TokenFolder(None).sync()
    TokenFolder(tmp_path / "missing").sync()


def test_a_disk_that_takes_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = private_token(tmp_path)
    folder = TokenFolder(config.softhsm2_conf)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(KmsError, match="cannot be synced: No space"):
            folder.sync()
        for backup in tmp_path.rglob("token.backup"):
            backup.unlink()
        with pytest.raises(KmsError, match="keep a copy"):
            folder.logged_in()
    folder.logged_in()
    assert len(list(tmp_path.rglob("token.backup"))) == 1


def test_a_configuration_without_a_folder_is_not_guarded(tmp_path: Path) -> None:
    conf = tmp_path / "softhsm2.conf"
    conf.write_text("log.level = ERROR\n")
    folder = TokenFolder(conf)
    assert folder.path is None
    with folder.exclusive(StepClock()):
        folder.logged_in()
        folder.sync()


def test_newtoken_says_what_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise p11.PinLenRange

    slot = SimpleNamespace(slot_id=0)
    library = SimpleNamespace(get_slots=list, get_token=lambda **_: SimpleNamespace(open=refuse))
    module: Any = SimpleNamespace(library=library, init_token=lambda *_: 0x5, restart=lambda: None)
    with pytest.raises(KmsError, match="no slot"):
        newtoken.initialise(module, "x", "1234")
    monkeypatch.setattr(library, "get_slots", lambda: [slot])
    with pytest.raises(KmsError, match="C_InitToken failed"):
        newtoken.initialise(module, "x", "1234")
    monkeypatch.setattr(module, "init_token", lambda *_: 0)
    with pytest.raises(KmsError, match="C_InitPIN failed"):
        newtoken.initialise(module, "x", "1234")
