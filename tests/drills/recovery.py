"""Loses a server and its HSM, and brings back what the recovery choice promises. Rows T-63 and T-63b.

quorum      backup under load; storage, log and token destroyed; `keystead restore`, `keystead recover` with shares
            on a new token, start. Software keys, data and tokens are back; what the lost HSM held is listed by name
            and refused with a reason; the old and the new log verify
hsm-backup  the same, and the vendor's backup of the token (its folder, copied) put back: everything is back
none        the same with a new token: nothing opens, and the command says so in the words of init

Always: the keyring is rotated before the backup, without any share present; nothing that was answered before the
backup began is missing after it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import threading
import time
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from kms.system.choices import EXPLAINED
from tests.harness.api import Api
from tests.harness.site import Site

CLIENTS: Final = 4
BATCH: Final = 250
SOFT: Final = ("soft", "late")  # `late` is made after the keyring's rotation
HARD: Final = {"hard": "aes256-gcm96", "pen": "ecdsa-p256", "edwards": "ed25519"}
RTO_SECONDS: Final = 15 * 60


@dataclass
class Kept:
    """What clients were told before the backup began."""

    ciphertexts: list[tuple[str, str, str]] = field(default_factory=list)  # key, ciphertext, plaintext
    hard: tuple[str, str] = ("", "")
    signature: str = ""
    keys: set[str] = field(default_factory=set)
    token: str = ""


class Clients:
    """Encrypts and makes keys until told to stop; remembers what was acknowledged."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self.ciphertexts: list[tuple[float, str, str]] = []  # answered at, ciphertext, plaintext
        self.keys: list[tuple[float, str]] = []
        self.refused: list[str] = []
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(CLIENTS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _work(self, number: int) -> None:
        with self._site.api() as api:
            turn = 0
            while not self._ending.is_set():
                turn += 1
                plain = b64encode(f"load {number} {turn}".encode()).decode()
                answer = api.post("transit/encrypt/soft", {"plaintext": plain})
                # Some in the HSM: a backup then meets intents without an end, and objects without a row.
                kind = {"type": "ed25519", "protection": "hsm" if turn % 20 else "software"}
                made = api.post(f"transit/keys/load-{number}-{turn}", kind) if turn % 10 == 0 else None
                with self._lock:
                    if answer.status == 200:
                        self.ciphertexts.append((time.monotonic(), answer.data["ciphertext"], plain))
                    else:
                        self.refused.append(f"{answer.status} {answer.content[:200]!r}")
                    if made is not None and made.status < 300:
                        self.keys.append((time.monotonic(), f"load-{number}-{turn}"))

    def wait(self, count: int) -> None:
        """Until so many were encrypted since the start."""
        deadline = time.monotonic() + 60
        while len(self.ciphertexts) < count:
            assert time.monotonic() < deadline, self.refused[:3]
            time.sleep(0.01)


class Drill:
    """One server, from its first day to the day after."""

    def __init__(self, folder: Path, recovery: str, ciphertexts: int) -> None:
        self.site = Site(folder / recovery, recovery)
        self.recovery = recovery
        self.backup = folder / recovery / "backup"
        self.vendor = folder / recovery / "vendor-backup"
        self.shares: list[str] = []
        self.kept = Kept()
        self.figures: dict[str, Any] = {}
        self._ciphertexts = ciphertexts

    # -- before ----------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """First day: init, keys of all kinds, and data under them; the keyring rotates without a share."""
        self.site.configure()
        printed = self.site.run("init", "--format", "table")
        assert f"recovery {EXPLAINED[self.recovery]}" in printed.stdout
        lines = printed.stdout.splitlines()
        self.shares = [line.split(": ")[1] for line in lines if line.startswith("share ")]
        self.site.token = next(line.split(": ")[1] for line in lines if line.startswith("root token: "))
        self.site.start()
        with self.site.api() as api:
            assert api.get("sys/seal-status").json["recovery"] == self.recovery
            self._engines(api)
            self._encrypt(api, "soft", self._ciphertexts // 2)
            if self.recovery == "hsm-backup":
                self._vendor_backup()
            api.ok("POST", "sys/rotate")
            assert api.get("sys/key-status").json["data"]["term"] == 2
            api.ok("POST", "transit/keys/late")
            self._encrypt(api, "late", self._ciphertexts - self._ciphertexts // 2)

    def _engines(self, api: Api) -> None:
        api.ok("POST", "sys/mounts/transit", {"type": "transit"})
        api.ok("POST", "sys/mounts/ca", {"type": "pki"})
        api.ok("POST", "transit/keys/soft")
        for name, kind in HARD.items():
            api.ok("POST", f"transit/keys/{name}", {"type": kind, "protection": "hsm"})
        plain = b64encode(b"under an hsm key").decode()
        self.kept.hard = (api.ok("POST", "transit/encrypt/hard", {"plaintext": plain})["ciphertext"], plain)
        self.kept.signature = api.ok("POST", "transit/sign/pen", {"input": plain})["signature"]
        root = {"common_name": "Drill Root", "issuer_name": "top", "key_type": "ec", "ttl": "700h"}
        api.ok("POST", "ca/root/generate/internal", root)
        api.ok("POST", "ca/roles/any", {"allow_any_name": True, "key_type": "ec"})
        rules = 'path "transit/decrypt/soft" { capabilities = ["update"] }'
        api.ok("POST", "sys/policies/acl/app", {"policy": rules})
        made = api.post("auth/token/create", {"policies": ["app"], "ttl": "24h"})
        self.kept.token = made.json["auth"]["client_token"]

    def _encrypt(self, api: Api, key: str, count: int) -> None:
        for first in range(0, count, BATCH):
            plains = [
                b64encode(f"{key} {n}".encode()).decode() for n in range(first, min(first + BATCH, count))
            ]
            batch = {"batch_input": [{"plaintext": plain} for plain in plains]}
            found = api.ok("POST", f"transit/encrypt/{key}", batch)["batch_results"]
            pairs = zip(found, plains, strict=True)
            self.kept.ciphertexts += [(key, one["ciphertext"], plain) for one, plain in pairs]

    def _vendor_backup(self) -> None:
        """What the vendor's tool does for hardware, on some day before the rotation of the keyring."""
        shutil.copytree(self.site.token_folder, self.vendor)

    # -- the day -----------------------------------------------------------------------------------------

    def back_up(self) -> None:
        """Back up while clients work; what was answered before it began must come back."""
        with Clients(self.site) as clients:
            clients.wait(50)
            began = time.monotonic()
            done = self.site.run("backup", "--format", "json", str(self.backup))
            ended = time.monotonic()
            clients.wait(len(clients.ciphertexts) + 20)
        assert not clients.refused, clients.refused[:3]
        self.kept.ciphertexts += [
            ("soft", text, plain) for at, text, plain in clients.ciphertexts if at < began
        ]
        self.kept.keys = {name for at, name in clients.keys if at < began}
        during = sum(began <= at <= ended for at, _, _ in clients.ciphertexts)
        self.figures |= {"backup_seconds": ended - began, "answered_during_backup": during}
        self.figures["backup"] = done.stdout.strip()

    def destroy(self) -> None:
        """Everything is gone at once: processes, disks, the HSM."""
        self.site.kill_all()
        self.site.after_kill()
        self.site.lose_disks()
        self.site.lose_hsm()

    # -- the day after -------------------------------------------------------------------------------------

    def come_back(self) -> None:
        """Restore on empty folders, as the choice allows, until the first old ciphertext opens."""
        began = time.monotonic()
        if self.recovery == "hsm-backup":
            shutil.copytree(self.vendor, self.site.token_folder)
        else:
            self.site.configure()
        self.site.run("restore", str(self.backup))
        if self.recovery == "quorum":
            self.figures["report"] = self.site.recover(self.shares[1:4])
        self.site.start()
        key, ciphertext, plain = self.kept.ciphertexts[0]
        with self.site.api() as api:
            assert api.ok("POST", f"transit/decrypt/{key}", {"ciphertext": ciphertext})["plaintext"] == plain
        self.figures["recovery_seconds"] = time.monotonic() - began
        assert self.figures["recovery_seconds"] < RTO_SECONDS

    def check(self) -> None:
        """Nothing that was answered before the backup is missing; then use what came back."""
        with self.site.api() as api:
            for first in range(0, len(self.kept.ciphertexts), BATCH):
                self._decrypt(api, self.kept.ciphertexts[first : first + BATCH])
            self.figures["decrypted"] = len(self.kept.ciphertexts)
            names = set(api.list("transit/keys").data["keys"])
            assert self.kept.keys <= names, self.kept.keys - names
            assert api.get("auth/token/lookup-self").status == 200
            verified = api.ok("POST", "transit/verify/pen", self._signed())
            assert verified["valid"]  # its public half needs no HSM
            api.ok("POST", "sys/rotate")
            api.ok("POST", "sys/hsm/root/rotate")
        with self.site.api(self.kept.token) as app:
            assert app.post("transit/decrypt/soft", {"ciphertext": self.kept.ciphertexts[0][1]}).status == 200

    def _signed(self) -> dict[str, str]:
        return {"input": self.kept.hard[1], "signature": self.kept.signature}

    def _decrypt(self, api: Api, part: list[tuple[str, str, str]]) -> None:
        for key in SOFT:
            wanted = [(text, plain) for name, text, plain in part if name == key]
            if not wanted:
                continue
            batch = {"batch_input": [{"ciphertext": text} for text, _ in wanted]}
            found = api.ok("POST", f"transit/decrypt/{key}", batch)["batch_results"]
            assert [one["plaintext"] for one in found] == [plain for _, plain in wanted]

    def check_everything(self) -> None:
        """The HSM came back: so did what it holds."""
        with self.site.api() as api:
            ciphertext, plain = self.kept.hard
            assert api.ok("POST", "transit/decrypt/hard", {"ciphertext": ciphertext})["plaintext"] == plain
            for name in ("pen", "edwards"):
                api.ok("POST", f"transit/sign/{name}", {"input": plain})
            api.ok("POST", "ca/issue/any", {"common_name": "a.example.test", "ttl": "1h"})

    def check_lost(self) -> None:
        """What the HSM held is named, refused with the reason, and replaced by a rotation."""
        report = self.figures["report"]
        listed = {
            (row["mount"], row["name"], row["version"], row["type"])
            for row in report["keys"]
            if not row["name"].startswith("load-")
        }
        loaded = {row["name"] for row in report["keys"]} - set(HARD)
        assert {name for name in self.kept.keys if int(name.split("-")[2]) % 20} <= loaded
        assert listed == {("transit/", name, 1, kind) for name, kind in HARD.items()}
        assert [(row["mount"], row["issuers"]) for row in report["authorities"]] == [("ca/", ["top"])]
        self.figures["lost"] = sorted(f"{mount}{name} v{number}" for mount, name, number, _ in listed)
        ciphertext, plain = self.kept.hard
        calls = [
            ("transit/decrypt/hard", {"ciphertext": ciphertext}),
            ("transit/encrypt/hard", {"plaintext": plain}),
            ("transit/hmac/hard", {"input": plain}),
            ("transit/sign/pen", {"input": plain}),
            ("transit/sign/edwards", {"input": plain}),
            ("ca/issue/any", {"common_name": "a.example.test", "ttl": "1h"}),
        ]
        with self.site.api() as api:
            for path, body in calls:
                answer = api.post(path, body)
                assert answer.status == 400, (path, answer)
                assert "lost" in answer.errors[0], (path, answer.errors)
            for name in HARD:
                api.ok("POST", f"transit/keys/{name}/rotate")
            api.ok("POST", "transit/sign/edwards", {"input": plain})
            root = {"common_name": "Next Root", "issuer_name": "next", "key_type": "ec", "ttl": "700h"}
            api.ok("POST", "ca/root/generate/internal", root)
            api.ok("POST", "ca/issuer/next/issue/any", {"common_name": "a.example.test", "ttl": "1h"})

    def check_logs(self) -> None:
        """Stop; the log in use verifies, and vouches for the one before, which verifies by itself."""
        assert self.site.stop() == 0
        report = self.site.verify(self.site.audit)
        assert report["ok"], report
        self.figures["log"] = {"records": report["records"], "size": report["size"]}
        if self.recovery != "quorum":
            return
        old = self.site.verify(self.site.audit / "epochs" / "1")
        assert old["ok"], old
        assert report["origin"] == f"{old['origin']}/epoch-2"
        assert any(f"signed to size {old['size']}" in note for note in report["notes"]), report["notes"]
        self.figures["old_log"] = {
            "records": old["records"],
            "size": old["size"],
            "behind": old["uncovered"],
        }

    def check_refused(self) -> None:
        """Under every choice but quorum the command says what init said; under none nothing opens."""
        if self.recovery == "hsm-backup":
            self.site.configure()
            self.site.run("restore", str(self.backup))
        done = self.site.run("recover", stdin="\n".join(self.shares), check=False)
        assert done.returncode == 1
        assert EXPLAINED[self.recovery] in done.stderr, done.stderr
        self.figures["refusal"] = done.stderr.strip()
        told = self.site.run("doctor", check=False).stdout
        assert self.recovery in told

    def check_nothing_opens(self) -> None:
        """A server on the restored folders and a new token does not start, and says what to do."""
        done = self.site.run("serve", check=False)
        assert done.returncode == 1, done.stdout
        assert "does not hold this server's root keys" in done.stderr, done.stderr
        self.figures["start_refused"] = done.stderr.strip()


def drill(folder: Path, recovery: str, ciphertexts: int) -> dict[str, Any]:
    """One whole drill; its figures."""
    one = Drill(folder, recovery, ciphertexts)
    try:
        one.prepare()
        one.back_up()
        one.destroy()
        if recovery == "none":
            one.site.configure()
            one.site.run("restore", str(one.backup))
            one.check_refused()
            one.check_nothing_opens()
            return one.figures
        one.come_back()
        one.check()
        if recovery == "quorum":
            one.check_lost()
        else:
            one.check_everything()
        one.check_logs()
        if recovery == "hsm-backup":
            one.site.lose_disks()
            one.check_refused()
        return one.figures
    finally:
        one.site.stop()


def main() -> int:
    """Entry point of scripts/recovery-drill."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--ciphertexts", type=int, default=1000)
    parser.add_argument("--choice", choices=list(EXPLAINED), action="append")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="keystead-drill-") as folder:
        for choice in given.choice or list(EXPLAINED):
            began = time.monotonic()
            figures = drill(Path(folder), choice, given.ciphertexts)
            figures.pop("report", None)
            print(f"recovery={choice}: as printed at init, {time.monotonic() - began:.0f} s")
            for name, value in figures.items():
                print(f"  {name:<24}{value:.2f}" if isinstance(value, float) else f"  {name:<24}{value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
