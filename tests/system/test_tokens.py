"""A server on two HSM tokens: either may go and come back while it serves."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kms.audit.note import LogKey, open_checkpoint
from kms.audit.verify import TrustFile, verify
from kms.errors import KmsError
from tests.gates.sources import manual
from tests.harness.api import Api
from tests.harness.dev import KEYSTEAD
from tests.harness.processes import wait_for
from tests.harness.tokens import FIRST, SECOND, CopiedToken, TwoTokens
from tests.hsm.parts import Pulled, further_token

README = manual()
P = b64encode(b"card 4711").decode()
CALLERS = 4
PER_SECOND = 60


@contextmanager
def started(folder: Path, enrol: Callable[[TwoTokens], None]) -> Iterator[TwoTokens]:
    """Four workers, the second token enrolled, and a key in each token."""
    server = TwoTokens(folder)
    server.prepare()
    server.start()
    try:
        enrol(server)
        server.wait_vouched()
        with server.api() as api:
            api.ok("POST", "sys/mounts/transit", {"type": "transit"})
            api.ok("POST", "transit/keys/soft", {"type": "aes256-gcm96", "protection": "software"})
            make(api, f"in-{FIRST}")
        with_one_away(server, FIRST, f"in-{SECOND}")
        yield server
    finally:
        server.stop()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[TwoTokens]:
    """Enrolled over the API."""
    with started(tmp_path / "server", TwoTokens.enrol) as server:
        yield server


@pytest.fixture
def by_readme(tmp_path: Path) -> Iterator[TwoTokens]:
    """Enrolled with the commands of the README."""
    with started(tmp_path / "server", commands_of_the_readme) as server:
        yield server


def commands_of_the_readme(server: TwoTokens) -> None:
    """Those of "Two HSMs"."""
    (block,) = re.findall(r"^```sh\n(bao write -f sys/hsm/tokens/.*?)^```$", README, re.MULTILINE | re.DOTALL)
    environment = {
        "PATH": f"{KEYSTEAD.parent}:{os.environ['PATH']}",
        "HOME": str(server.folder),
        "BAO_ADDR": server.address,
        "BAO_TOKEN": server.token,
    }
    done = subprocess.run(
        ["bash", "-euc", block],
        cwd=server.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "only in second" in done.stdout


def make(api: Api, name: str) -> None:
    api.ok("POST", f"transit/keys/{name}", {"type": "aes256-gcm96", "protection": "hsm"})


def with_one_away(server: TwoTokens, gone: str, name: str) -> None:
    """Make a key in the token that is left."""
    files = server.pulled(gone)
    files.vanish()
    with server.api() as api:
        make(api, name)
    files.come_back()
    server.wait_back()


def encrypt(api: Api, name: str) -> str:
    ciphertext: str = api.ok("POST", f"transit/encrypt/{name}", {"plaintext": P})["ciphertext"]
    return ciphertext


def tokens(api: Api) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = api.ok("GET", "sys/hsm/tokens")["tokens"]
    return found


def pinned(server: TwoTokens) -> TrustFile:
    """The key that the log began with."""
    return TrustFile.parse((server.audit / "log.pub").read_text())


def signed_by_another(server: TwoTokens, first: LogKey) -> bool:
    """Whether the newest checkpoint bears another key's signature."""
    try:
        open_checkpoint((server.audit / "checkpoint").read_bytes(), [first])
    except KmsError:
        return True
    return False


class Callers:
    """Threads that encrypt with a software key, decrypt with a key of each token, and make keys."""

    def __init__(self, server: TwoTokens, ciphertexts: dict[str, str]) -> None:
        self.seen: Counter[tuple[str, int]] = Counter()
        self.wrong: list[str] = []
        self._server = server
        self._ciphertexts = ciphertexts
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(n,)) for n in range(CALLERS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call(self, number: int) -> None:
        made = 0
        with self._server.api() as api:
            while not self._stop.is_set():
                made += 1
                self._one(api, made, f"new-{number}-{made}")
                time.sleep(CALLERS / PER_SECOND)

    def _one(self, api: Api, made: int, new: str) -> None:
        names = ["soft", *self._ciphertexts]
        name = names[made % len(names)]
        path, body = f"decrypt/{name}", {"ciphertext": self._ciphertexts.get(name, "")}
        if name == "soft":
            path, body = "encrypt/soft", {"plaintext": P}
        if made % 10 == 0:
            name, path, body = "new", f"keys/{new}", {"type": "aes256-gcm96", "protection": "hsm"}
        answer = api.post(f"transit/{path}", body)
        self.seen[name, answer.status] += 1
        if answer.status == 200:
            if path.startswith("decrypt") and answer.data["plaintext"] != P:
                self.wrong.append(f"{path}: a wrong plaintext")
        elif answer.status != 503 or not name.startswith("in-") or f'"{name[3:]}"' not in answer.errors[0]:
            self.wrong.append(f"{path}: {answer.status} {answer.errors}")


@pytest.mark.timeout(300)
def test_each_token_goes_and_comes_back_under_load(two: TwoTokens) -> None:
    trust = pinned(two)
    with two.api() as api:
        names = [f"in-{FIRST}", f"in-{SECOND}"]
        ciphertexts = {name: encrypt(api, name) for name in names}
        callers = Callers(two, ciphertexts)
        callers.start()
        try:
            for gone, left in ((FIRST, SECOND), (SECOND, FIRST)):
                files = two.pulled(gone)
                files.vanish()
                time.sleep(1.5)
                # A term that the missing token does not have.
                assert api.post("sys/rotate").status == 204
                shown = tokens(api)
                assert shown[gone]["answers"] is False
                assert shown[left]["answers"] is True
                assert int(str(shown[gone]["terms"])) < int(str(shown[left]["terms"]))
                # The log is signed by the token that is left.
                (key,) = trust.keys
                wait_for(
                    lambda gone=gone, key=key: signed_by_another(two, key) == (gone == FIRST),  # type: ignore[misc]
                    20,
                    "signed",
                )
                files.come_back()
                two.wait_back()
                terms = api.ok("GET", "sys/hsm/tokens")["terms"]
                wait_for(
                    lambda gone=gone, terms=terms: tokens(api)[gone]["terms"] == terms,  # type: ignore[misc]
                    30,
                    f"terms of {gone}",
                )
        finally:
            callers.stop()
        print(dict(callers.seen))
        assert callers.wrong == []
        for name in names:
            assert callers.seen[name, 200]
            assert api.ok("POST", f"transit/decrypt/{name}", {"ciphertext": ciphertexts[name]})
        # Every key that was made meanwhile is usable.
        for name in api.list("transit/keys").data["keys"]:
            if name.startswith("new"):
                encrypt(api, name)
    # It starts with either.
    for gone, name in ((FIRST, SECOND), (SECOND, FIRST)):
        two.stop()
        files = two.pulled(gone)
        files.vanish()
        two.start()
        with two.api() as api:
            encrypt(api, "soft")
            encrypt(api, f"in-{name}")
            refused = api.post(f"transit/encrypt/in-{gone}", {"plaintext": P})
            assert (refused.status, f'"{gone}"' in refused.errors[0]) == (503, True)
        files.come_back()
        two.wait_back()
    two.stop()
    # Whoever signed: who knows the first key believes all of it.
    report = verify(two.audit, trust)
    assert report.failure is None, report.failure
    assert report.pinned


def doctor(server: TwoTokens) -> dict[str, str]:
    """What doctor finds: check -> detail. Of checks that come twice, the last."""
    command = [str(KEYSTEAD), "doctor", "--config", str(server.configuration), "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return {row["check"]: row["detail"] for row in json.loads(done.stdout)}


def go_on_with_the_second(two: TwoTokens, soft: str) -> None:
    """The configuration without the removed token starts."""
    two.stop()
    text = two.configuration.read_text()
    whole, _, rest = text.partition("[[hsm.others]]")
    head = whole.partition("[hsm]")[0]
    two.configuration.write_text(head + "[hsm]" + rest.replace('relation = "own-keys"\n', ""))
    two.start()
    with two.api() as api:
        assert api.ok("POST", "transit/decrypt/soft", {"ciphertext": soft})["plaintext"] == P
        encrypt(api, f"in-{FIRST}")
    two.stop()


def recover_to_a_third(two: TwoTokens, soft: str) -> None:
    """The second is lost too: the custodians open the keyring under a third."""
    two.pulled(SECOND).vanish()
    third = further_token(two.configs[FIRST], "third")
    text = two.configuration.read_text().replace(f'token_label = "{SECOND}"', 'token_label = "third"')
    two.configuration.write_text(text.replace(str(two.configs[SECOND].pin_file), str(third.pin_file)))
    command = [str(KEYSTEAD), "recover", "--config", str(two.configuration), "--format", "json"]
    done = subprocess.run(
        command, input="\n".join(two.shares), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lost = [row["name"] for row in json.loads(done.stdout)["keys"]]
    assert sorted(set(lost)) == [f"in-{FIRST}", f"in-{SECOND}"]
    two.start()
    with two.api() as api:
        assert api.ok("POST", "transit/decrypt/soft", {"ciphertext": soft})["plaintext"] == P
        states = tokens(api)
        assert (states["third"]["state"], states["third"]["terms"]) == (
            "enrolled",
            api.ok("GET", "sys/hsm/tokens")["terms"],
        )
        assert {states[FIRST]["state"], states[SECOND]["state"]} == {"removed"}


@pytest.mark.timeout(300)
def test_a_lost_token_is_removed(by_readme: TwoTokens) -> None:
    """What it held is named by doctor and by the answer, and refused with that reason; the other serves on."""
    two = by_readme
    trust = pinned(two)
    with two.api() as api:
        old = encrypt(api, f"in-{FIRST}")
        soft = encrypt(api, "soft")
        other = encrypt(api, f"in-{SECOND}")
        api.ok("POST", "sys/mounts/pki", {"type": "pki"})
        api.ok("POST", "pki/root/generate/internal", {"common_name": "Root", "key_name": "ca"})
        # Not while it answers, not the only one, and not one that nobody knows.
        assert "answers" in api.call("DELETE", f"sys/hsm/tokens/{FIRST}").errors[0]
        assert api.call("DELETE", "sys/hsm/tokens/third").status == 404
        assert api.call("POST", f"sys/hsm/tokens/{SECOND}").status == 400
    two.pulled(FIRST).vanish()
    shown = doctor(two)
    assert shown[f"only in {FIRST}"].startswith(
        "it does not answer; in no other token: 2: transit/in-keystead"
    )
    with two.api() as api:
        removed = api.ok("DELETE", f"sys/hsm/tokens/{FIRST}")
        assert removed["state"] == "removed"
        assert [(row["mount"], row["name"], row["version"]) for row in removed["lost"]["keys"]] == [
            ("transit/", f"in-{FIRST}", 1)
        ]
        assert [row["key_name"] for row in removed["lost"]["authorities"]] == ["ca"]
        assert "the only one" in api.call("DELETE", f"sys/hsm/tokens/{SECOND}").errors[0]
    # Each worker refuses it for good, with the reason; rotating the key mends it.
    for _ in range(8):
        with two.api() as api:
            refused = api.post(f"transit/decrypt/in-{FIRST}", {"ciphertext": old})
            assert (refused.status, "bound to an HSM that is lost" in refused.errors[0]) == (400, True)
    with two.api() as api:
        api.ok("POST", f"transit/keys/in-{FIRST}/rotate")
        encrypt(api, f"in-{FIRST}")
        for name, text in (("soft", soft), (f"in-{SECOND}", other)):
            assert api.ok("POST", f"transit/decrypt/{name}", {"ciphertext": text})["plaintext"] == P
        api.ok("POST", "sys/hsm/root/rotate")
        assert tokens(api)[SECOND]["root_version"] == 2
        assert api.post("sys/rotate").status == 204
    go_on_with_the_second(two, soft)
    report = verify(two.audit, trust)
    assert report.failure is None, report.failure
    recover_to_a_third(two, soft)


@pytest.fixture
def copied(tmp_path: Path) -> Iterator[CopiedToken]:
    """Two workers; the copy is configured, and not there yet."""
    server = CopiedToken(tmp_path / "server", workers=2)
    server.prepare()
    server.start()
    yield server
    server.stop()


@pytest.mark.timeout(300)
def test_a_copy_takes_over(copied: CopiedToken) -> None:
    with copied.api() as api:
        api.ok("POST", "sys/mounts/transit", {"type": "transit"})
        make(api, "old")
        old = encrypt(api, "old")
        # Nothing there, then an old copy: both are told what is missing.
        assert api.call("POST", "sys/hsm/tokens/copy").status == 503
        copied.vendor_copies()
        api.ok("POST", "sys/mounts/pki", {"type": "pki"})
        api.ok("POST", "pki/root/generate/internal", {"common_name": "Root"})
        copied.stop()
        copied.start()
        refused = api.call("POST", "sys/hsm/tokens/copy")
        assert refused.status == 400
        assert "is no copy" in refused.errors[0]
        copied.stop()
        copied.vendor_copies()
        copied.start()
        proved = api.ok("POST", "sys/hsm/tokens/copy")
        assert proved["state"] == "enrolled"
        assert tokens(api)["copy"]["relation"] == "same-keys"
        # A new root is not used before the copy holds it.
        api.ok("POST", "sys/hsm/root/rotate")
        waiting = api.ok("GET", "sys/hsm/root/rotate")
        assert (waiting["state"], waiting["waits_for"], waiting["version"]) == ("waiting", ["copy"], 1)
        api.ok("POST", "sys/hsm/root/rotate")
        assert api.ok("GET", "sys/hsm/root/rotate")["state"] == "waiting"
        copied.stop()
        copied.vendor_copies()
        copied.start()
        wait_for(lambda: api.ok("GET", "sys/hsm/root/rotate")["state"] == "complete", 30, "the rotation")
        assert api.ok("GET", "sys/hsm/root/rotate")["version"] == 2
        make(api, "new")
        new = encrypt(api, "new")
    files = Pulled(copied.first)
    files.vanish()
    for _ in range(2):
        with copied.api() as api:
            for name, text in (("old", old), ("new", new)):
                assert api.ok("POST", f"transit/decrypt/{name}", {"ciphertext": text})["plaintext"] == P
            answer = api.ok("POST", "pki/root/generate/internal", {"common_name": "Second"})
            assert "certificate" in answer
        copied.stop()
        copied.start()
    with copied.api() as api:
        refused = api.call("POST", "sys/hsm/root/rotate")
        assert refused.status == 503
        removed = api.ok("DELETE", f"sys/hsm/tokens/{FIRST}")
        assert removed["lost"] == {"keys": [], "authorities": []}
        # The copy is the original now.
        assert tokens(api)["copy"]["relation"] == "own-keys"
        api.ok("POST", "sys/hsm/root/rotate")
        wait_for(lambda: api.ok("GET", "sys/hsm/root/rotate")["version"] == 3, 30, "the rotation")
        assert api.ok("POST", "transit/decrypt/old", {"ciphertext": old})["plaintext"] == P
