"""After the HSM is lost: what is refused, what comes back, and a recovery that is killed and run again."""

from __future__ import annotations

import base64
import json
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from kms.audit.verify import verify
from kms.system.choices import EXPLAINED
from tests.drills.recovery import drill
from tests.harness.dev import clean_environment
from tests.harness.site import Site

KILLS = 3
TRACED = "kms.system.recover,kms.audit.epochs,kms.keys.roots,kms.app.recovery"
PLAIN = "aGVsbG8="


@dataclass
class Day:
    """A backup under quorum, and what must come out of it."""

    backup: Path
    shares: list[str]
    token: str
    old_token: Path
    ciphertext: str


@pytest.fixture(name="day", scope="module")
def _day(tmp_path_factory: pytest.TempPathFactory) -> Day:
    folder = tmp_path_factory.mktemp("recovery")
    site = Site(folder / "site", "quorum")
    site.configure()
    shares = site.init()
    site.start()
    try:
        with site.api() as api:
            api.ok("POST", "sys/mounts/transit", {"type": "transit"})
            api.ok("POST", "transit/keys/soft")
            api.ok("POST", "transit/keys/edwards", {"type": "ed25519", "protection": "hsm"})
            api.ok("POST", "sys/rotate")
            ciphertext = api.ok("POST", "transit/encrypt/soft", {"plaintext": PLAIN})["ciphertext"]
        site.run("backup", str(folder / "backup"))
    finally:
        site.stop()
    return Day(folder / "backup", shares, site.token, site.token_folder, ciphertext)


def restored(day: Day, folder: Path) -> Site:
    """An empty machine with the backup on it and a new token."""
    site = Site(folder / "site", "quorum")
    site.configure()
    site.run("restore", str(day.backup))
    site.token = day.token
    return site


def refusal(site: Site, shares: list[str], *arguments: str) -> str:
    done = site.run("recover", *arguments, stdin="\n".join(shares), check=False)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr


def opens(day: Day, site: Site) -> None:
    """Serve; the software key decrypts, the HSM key is refused with the reason, both logs verify."""
    site.start()
    with site.api() as api:
        found = api.ok("POST", "transit/decrypt/soft", {"ciphertext": day.ciphertext})
        assert found["plaintext"] == PLAIN
        answer = api.post("transit/sign/edwards", {"input": PLAIN})
        assert (answer.status, "lost" in answer.errors[0]) == (400, True)
    assert site.stop() == 0
    logs = [site.verify(folder) for folder in (site.audit, site.audit / "epochs" / "1")]
    assert [log["ok"] for log in logs] == [True, True], logs
    recorded = "".join(path.read_text() for path in (site.audit / "segments").glob("*.jsonl"))
    assert recorded.count('"operation":"sys.recover"') == 1


# -- what is refused -----------------------------------------------------------------------------------


def test_a_server_does_not_start_on_a_token_that_is_not_its_own(day: Day, tmp_path: Path) -> None:
    done = restored(day, tmp_path).run("serve", check=False)
    assert done.returncode == 1, done.stdout
    assert "does not hold this server's root keys" in done.stderr
    assert "run 'keystead recover' with the custodians' shares" in done.stderr
    assert "Traceback" not in done.stderr


def test_shares_that_do_not_open_the_server_change_nothing(day: Day, tmp_path: Path) -> None:
    site = restored(day, tmp_path)
    wrong = bytearray(base64.b64decode(day.shares[2]))
    wrong[0] ^= 1
    other = base64.b64encode(wrong).decode()
    cases = [
        ([], "0 shares were given; 3 are needed"),
        (day.shares[:2], "2 shares were given; 3 are needed"),
        ([*day.shares[:2], other], "the shares do not open this server"),
        ([day.shares[0]] * 3, "the same share was given twice"),
        ([*day.shares[:2], "no share!"], "hex or base64"),
    ]
    for shares, text in cases:
        assert text in refusal(site, shares)
    loose = tmp_path / "shares"
    loose.write_text("\n".join(day.shares))
    loose.chmod(0o644)
    assert "can be read by others" in refusal(site, [], "--shares-file", str(loose))
    loose.chmod(0o600)
    assert json.loads(site.run("recover", "--shares-file", str(loose), "--format", "json").stdout)[
        "recovered"
    ]
    opens(day, site)


def test_it_is_refused_where_it_is_no_help(day: Day, tmp_path: Path) -> None:
    site = Site(tmp_path / "site", "quorum")
    site.configure()
    assert "holds no database" in refusal(site, day.shares)
    site.run("restore", str(day.backup))
    assert "is not empty" in site.run("restore", str(day.backup), check=False).stderr

    site.configure(day.old_token)
    assert "the HSM is not lost" in refusal(site, day.shares)

    # The token of another server: its roots would be mixed with ours.
    other = Site(tmp_path / "other", "quorum")
    other.configure()
    other.init()
    site.configure(other.token_folder)
    assert "the token is not empty" in refusal(site, day.shares)

    site.configure()
    site.recover(day.shares[2:])
    site.start()
    assert "another Keystead server is running" in refusal(site, day.shares)
    site.stop()


def test_a_server_that_was_recovered_half_does_not_start(day: Day, tmp_path: Path) -> None:
    site = restored(day, tmp_path)
    killed = run_killed(site, day, "kms.audit.epochs:put_aside", 8)
    assert killed.returncode == -9
    done = site.run("serve", check=False)
    assert (done.returncode, "run 'keystead recover" in done.stderr) == (1, True)
    told = site.run("doctor", check=False).stdout
    assert "a recovery was cut off" in told
    site.recover([])  # no shares are needed any more
    opens(day, site)


# -- a backup that is not whole --------------------------------------------------------------------------


def test_a_backup_that_is_not_whole_is_not_restored(day: Day, tmp_path: Path) -> None:
    copy = tmp_path / "backup"
    site = Site(tmp_path / "site", "quorum")
    site.configure()

    def attempt() -> str:
        return site.run("restore", str(copy), check=False).stderr

    shutil.copytree(day.backup, copy)
    (copy / "backup.json").rename(tmp_path / "aside")
    assert "not a whole backup" in attempt()
    (tmp_path / "aside").rename(copy / "backup.json")
    database = copy / "storage" / "keystead.db"
    whole = database.read_bytes()
    database.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "is not the file that was backed up" in attempt()
    database.unlink()
    assert "is missing" in attempt()
    assert not (site.data / "storage" / "keystead.db").exists()
    assert "is not empty" in site.run("backup", str(copy), check=False).stderr


# -- the log before --------------------------------------------------------------------------------------


def test_the_new_log_vouches_for_every_byte_of_the_old_one(day: Day, tmp_path: Path) -> None:
    site = restored(day, tmp_path)
    site.recover(day.shares[:3])
    aside = site.audit / "epochs"
    files = sorted(path for path in (aside / "1").rglob("*") if path.is_file())
    assert len(files) >= 5
    for path in [*files, aside / "1.manifest"]:
        whole = path.read_bytes()
        for damaged in (whole[:-2] + b"x\n", b"", None):
            if damaged == whole:
                continue
            path.unlink()
            if damaged is not None:
                path.write_bytes(damaged)
            found = verify(site.audit, None).failure
            assert found is not None, path
            assert path.name in found.place, (path, found)
        path.write_bytes(whole)
    for stranger in (aside / "1" / "segments" / "more", aside / "2.manifest", aside / "notes"):
        stranger.write_text("x")
        found = verify(site.audit, None).failure
        assert found is not None, stranger
        assert found.place.endswith(stranger.name)
        stranger.unlink()
    assert site.verify(site.audit)["ok"]
    # And an earlier log without a successor that names it is no part of a log.
    (aside / "1" / "epochs").mkdir()
    assert not site.verify(aside / "1")["ok"]


def test_the_hsm_is_lost_a_second_time(day: Day, tmp_path: Path) -> None:
    site = restored(day, tmp_path)
    site.recover(day.shares[:3])
    site.start()
    with site.api() as api:
        api.ok("POST", "transit/keys/edwards/rotate")
        api.ok("POST", "transit/sign/edwards", {"input": PLAIN})
    assert site.stop() == 0
    site.lose_hsm()
    site.configure()
    report = site.recover(day.shares[2:5])
    assert [(row["name"], row["version"]) for row in report["keys"]] == [("edwards", 1), ("edwards", 2)]
    assert report["epoch"] == 3
    site.start()
    with site.api() as api:
        found = api.ok("POST", "transit/decrypt/soft", {"ciphertext": day.ciphertext})
        assert found["plaintext"] == PLAIN
    assert site.stop() == 0
    for folder in (site.audit, site.audit / "epochs" / "2", site.audit / "epochs" / "1"):
        assert site.verify(folder)["ok"], folder


# -- killed anywhere -------------------------------------------------------------------------------------


def run_killed(site: Site, day: Day, modules: str, at: int) -> subprocess.CompletedProcess[str]:
    """`keystead recover`, killed at the `at`-th line in the modules."""
    command = [sys.executable, "-m", "tests.drills.killed", str(at), modules]
    return subprocess.run(
        [*command, "recover", "--config", str(site.configuration), "--format", "json"],
        input="\n".join(day.shares[:3]),
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
        env=clean_environment(site.folder),
    )


def test_a_recovery_that_is_killed_anywhere_is_finished_by_running_it_again(day: Day, tmp_path: Path) -> None:
    whole = run_killed(restored(day, tmp_path / "whole"), day, TRACED, 0)
    assert whole.returncode == 0, whole.stderr
    lines = int(whole.stderr.splitlines()[-1])
    assert lines > 200
    chosen = sorted(random.sample(range(1, lines), KILLS))
    for number, at in enumerate(chosen):
        site = restored(day, tmp_path / str(number))
        killed = run_killed(site, day, TRACED, at)
        assert killed.returncode == -9, (at, killed.stderr)
        again = site.run("recover", "--format", "json", stdin="\n".join(day.shares[2:5]), check=False)
        assert again.returncode == 0, (at, lines, again.stderr)
        report = json.loads(again.stdout)
        assert [row["name"] for row in report["keys"]] == ["edwards"], (at, report)
        opens(day, site)


@pytest.mark.parametrize("choice", list(EXPLAINED))
def test_each_choice_keeps_what_it_printed_at_init(choice: str, tmp_path: Path) -> None:
    figures = drill(tmp_path, choice, 300)
    assert figures["answered_during_backup"] > 0
