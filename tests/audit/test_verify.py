"""The verifier on live folders, with trust files and receipts, and as a command."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from kms.audit import LogKey, parse_receipt
from kms.audit.verify import TrustFile, verify
from kms.audit.verify.__main__ import main
from kms.errors import KmsError
from tests.audit.damage import (
    HISTORY,
    LEAVES,
    Log,
    edit,
    truncated_history,
)
from tests.audit.rig import Rig, Signer, die, event


def test_a_live_folder_is_judged_up_to_its_checkpoint(rig: Rig) -> None:
    sequencer = rig.sequencer()
    recorder = rig.recorder()
    recorder.write(event())
    recorder.flush()
    sequencer.step()
    for _ in range(3):
        recorder.write(event())
    newer = rig.recorder()
    newer.write(event())
    report = rig.verified()
    assert (report.records, report.uncovered) == (1, 4)
    assert any("not covered by a checkpoint yet" in line for line in report.lines())
    with rig.layout.segment(recorder.segment).open("ab") as file:
        file.write(b'{"segment":"being writ')
    assert rig.verified().uncovered == 4
    die(recorder)
    rig.recover()
    assert rig.verified().failure is None
    newer.close()
    sequencer.stop()
    assert rig.verified().uncovered == 0


def test_a_changed_record_in_the_uncovered_part_is_named_too(rig: Rig) -> None:
    sequencer = rig.sequencer()
    recorder = rig.recorder()
    sequencer.step()
    recorder.write(event(operation="thing.read"))
    recorder.close()
    path = rig.layout.segment(recorder.segment)
    path.write_bytes(path.read_bytes().replace(b"thing.read", b"thing.rood"))
    report = rig.verify()
    assert report.failure is not None
    assert report.failure.place.endswith(f"{recorder.segment}.jsonl:2")


def test_a_folder_that_grows_while_it_is_verified_holds(rig: Rig) -> None:
    sequencer = rig.sequencer()
    recorder = rig.recorder()
    for _ in range(30):
        recorder.write(event())
        recorder.flush()
        sequencer.step()
        rig.verified()
    recorder.close()
    sequencer.stop()


def test_truncating_everything_to_an_older_head_is_caught_by_a_remembered_checkpoint(log: Log) -> None:
    head = log.report()
    truncated_history(log)
    size = int(log.lines("checkpoint")[1])
    log.write(LEAVES, log.lines(LEAVES)[:size])
    for name in ("segments/A", "segments/B"):
        log.write(name, log.lines(name)[: 5 if name.endswith("A") else 3])
    log.write("segments/DEAD", log.lines("segments/DEAD")[:1])
    log.path("torn").unlink()
    assert log.report().failure is None, "nothing inside the folder can know"
    root = bytes.fromhex(head.root)
    trust = TrustFile((log.rig.key,), {head.size: root})
    report = verify(log.folder, trust)
    assert report.failure is not None
    assert "has been seen" in report.failure.what


def test_a_remembered_root_that_differs_is_a_fork(log: Log) -> None:
    size = int(json.loads(log.lines(HISTORY)[0])["note"].split("\n")[1])
    report = verify(log.folder, TrustFile((log.rig.key,), {size: b"x" * 32}))
    assert report.failure is not None
    assert "trust file" in report.failure.what


def test_without_a_trust_file_the_key_is_printed_and_not_pinned(log: Log) -> None:
    report = verify(log.folder, None)
    assert (report.failure, report.exit_code) == (None, 3)
    assert any("key not pinned" in line for line in report.lines())
    digest = hashlib.sha256(log.rig.signer.public).hexdigest()
    assert digest in report.lines()[0]


def test_another_logs_key_is_not_this_logs(log: Log) -> None:
    other = TrustFile.parse(_vkey(Signer(), "other"))
    assert verify(log.folder, other).exit_code == 1


def _vkey(signer: Signer, name: str) -> str:
    return LogKey(name, signer.public).line()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n",
        "nonsense\n",
        "seen 1 x\n",
        "seen x AAAA\n",
        _vkey(Signer(), "a") + "\n" + _vkey(Signer(), "b"),
    ],
)
def test_bad_trust_files(text: str) -> None:
    with pytest.raises(KmsError):
        TrustFile.parse(text)


def test_a_trust_file_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "trust"
    path.write_bytes(b"#" * 70_000)
    with pytest.raises(KmsError):
        TrustFile.load(path)


def test_receipts_are_checked(log: Log) -> None:
    assert verify(log.folder, log.rig.trust, log.receipts).failure is None
    receipt = log.receipts[1]
    wrong = {
        "leaf": msgspec.structs.replace(receipt, leaf=b"x" * 32),
        "number": msgspec.structs.replace(receipt, seq=999),
        "segment": msgspec.structs.replace(receipt, segment="ab" * 16),
        "origin": msgspec.structs.replace(receipt, origin="other"),
    }
    for name, bad in wrong.items():
        report = verify(log.folder, log.rig.trust, [bad])
        assert report.failure is not None, name
    twice = [receipt, wrong["leaf"]]
    assert verify(log.folder, log.rig.trust, twice).failure is not None
    assert parse_receipt(receipt.header()) == receipt


def test_nothing_to_verify(tmp_path: Path, rig: Rig) -> None:
    assert verify(tmp_path, None).failure is not None
    rig.layout.make()
    report = rig.verify()
    assert report.failure is not None
    assert "no checkpoint was ever signed" in report.failure.what


def test_the_command(log: Log, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trust = tmp_path / "trust"
    trust.write_text(f"# our log\n{log.rig.key.line()}\n")
    folder = str(log.folder)
    assert main([folder, "--trust", str(trust)]) == 0
    assert capsys.readouterr().out.endswith("VERIFIED\n")
    assert main([folder]) == 3
    assert "key not pinned" in capsys.readouterr().out
    assert main([folder, "--trust", str(trust), "--receipt", log.receipts[0].header()]) == 0
    edit("segments/A", 3, b"thing.read", b"thing.rood")(log)
    assert main([folder, "--trust", str(trust)]) == 1
    assert "FAILED at segments/" in capsys.readouterr().out
    assert main([str(tmp_path / "missing")]) == 2
    assert main([folder, "--trust", str(tmp_path / "missing")]) == 2
    assert main([folder, "--receipt", "nonsense"]) == 2
    trust.write_text("nonsense")
    assert main([folder, "--trust", str(trust)]) == 2


def test_it_stands_alone(log: Log) -> None:
    """A process that may import neither storage, HSM nor web framework verifies the folder."""
    code = (
        "import sys\n"
        "for name in ('sqlite3','sqlite_utils','pkcs11','flask','kms.storage','kms.hsm','kms.keys','kms.pipeline'):\n"
        "    sys.modules[name] = None\n"
        "from kms.audit.verify.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(log.folder)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (3, "")
    module = [sys.executable, "-W", "error", "-m", "kms.audit.verify", str(log.folder)]
    assert subprocess.run(module, capture_output=True, check=False).returncode == 3
