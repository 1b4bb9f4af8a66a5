"""Keys that are born for several tokens, on a server whose tokens come, go, and are enrolled while it is killed."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness.api import Api
from tests.harness.dev import KEYSTEAD, clean_environment
from tests.harness.processes import wait_for
from tests.harness.tokens import FIRST, SECOND, TwoTokens
from tests.hsm.parts import further_token, token_folder

P = b64encode(b"card 4711").decode()
DIGEST = b64encode(bytes(32)).decode()
CALLERS = 3
SECONDS = 60


@pytest.fixture
def two(tmp_path: Path) -> Iterator[TwoTokens]:
    """Two workers; the second token is not enrolled."""
    server = TwoTokens(tmp_path / "server", workers=2)
    server.prepare()
    server.start()
    yield server
    server.stop()


def shared(api: Api) -> dict[str, Any]:
    found: dict[str, Any] = api.ok("GET", "sys/hsm/tokens")["multi_token"]
    return found


def wait_shared(api: Api) -> None:
    wait_for(
        lambda: shared(api) == {"ready": True, "tokens": [FIRST, SECOND], "not_in": []},
        SECONDS,
        "shared roots",
    )


def make(api: Api, name: str, kind: str = "aes256-gcm96", **more: object) -> None:
    api.ok("POST", f"transit/keys/{name}", {"type": kind, "protection": "hsm", **more})


def doctor(server: TwoTokens) -> dict[str, str]:
    command = [str(KEYSTEAD), "doctor", "--config", str(server.configuration), "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return {row["check"]: row["detail"] for row in json.loads(done.stdout)}


class Callers:
    """Threads that use the keys of both tokens: no answer but 200 is good."""

    def __init__(self, server: TwoTokens, ciphertext: str) -> None:
        self.seen: Counter[tuple[str, int]] = Counter()
        self.wrong: list[str] = []
        self._server, self._ciphertext = server, ciphertext
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(n,)) for n in range(CALLERS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call(self, number: int) -> None:
        with self._server.api() as api:
            made = 0
            while not self._stop.is_set():
                made += 1
                path, body = [
                    ("decrypt/both", {"ciphertext": self._ciphertext}),
                    ("encrypt/both", {"plaintext": P}),
                    ("sign/signer", {"input": DIGEST, "prehashed": True}),
                    ("hmac/both", {"input": P}),
                    (f"keys/new-{number}-{made}", {"protection": "hsm", "multi_token": True}),
                ][made % 5]
                answer = api.post(f"transit/{path}", body)
                self.seen[path.partition("/")[0], answer.status] += 1
                if answer.status != 200:
                    self.wrong.append(f"{path}: {answer.status} {answer.errors}")
                time.sleep(0.05)


@pytest.mark.timeout(600)
def test_a_key_of_both_goes_on_when_either_dies(two: TwoTokens) -> None:
    with two.api() as api:
        api.ok("POST", "sys/mounts/transit", {"type": "transit"})
        refused = api.post("transit/keys/both", {"protection": "hsm", "multi_token": True})
        assert (refused.status, "needs two enrolled HSM tokens" in refused.errors[0]) == (400, True)
        two.enrol()
        wait_shared(api)
        make(api, "both", multi_token=True)
        make(api, "signer", "ecdsa-p256", multi_token=True)
        make(api, f"in-{FIRST}")
        assert api.ok("GET", "transit/keys/both")["multi_token_versions"] == [1]
        refused = api.post("transit/keys/no", {"type": "ed25519", "multi_token": True})
        assert (refused.status, "lives in one HSM token" in refused.errors[0]) == (400, True)
        ciphertext = api.ok("POST", "transit/encrypt/both", {"plaintext": P})["ciphertext"]
        alone = api.ok("POST", f"transit/encrypt/in-{FIRST}", {"plaintext": P})["ciphertext"]
        callers = Callers(two, ciphertext)
        try:
            for gone in (FIRST, SECOND):
                files = two.pulled(gone)
                time.sleep(1)
                files.vanish()
                time.sleep(2)
                if gone == FIRST:
                    # What a worker has loaded works until that worker notices.
                    wait_for(partial(decrypts, two, alone, 503), SECONDS, "a refusal")
                else:
                    assert decrypts(two, alone, 200)
                files.come_back()
                two.wait_back()
        finally:
            callers.stop()
        print(dict(callers.seen))
        assert callers.wrong == []
        assert {operation for operation, _ in callers.seen} == {"decrypt", "encrypt", "sign", "hmac", "keys"}
        # The root is rotated: the tokens share a new one, and what is wrapped under the old opens.
        api.ok("POST", "sys/hsm/root/rotate")
        wait_for(lambda: api.ok("GET", "sys/hsm/root/rotate")["version"] == 2, SECONDS, "the rotation")
        wait_shared(api)
    either_alone(two, ciphertext)
    found = doctor(two)
    assert found["tokens that share keys"] == f"those of {FIRST}, {SECOND}"
    assert "both" not in found[f"only in {FIRST}"]
    remove_the_first(two, ciphertext, alone)


def decrypts(two: TwoTokens, ciphertext: str, status: int) -> bool:
    """Whether the key of the first token alone is answered so, on a connection of its own."""
    with two.api() as api:
        return api.post(f"transit/decrypt/in-{FIRST}", {"ciphertext": ciphertext}).status == status


def either_alone(two: TwoTokens, ciphertext: str) -> None:
    """It starts with either, and uses every key of both."""
    for gone in (FIRST, SECOND):
        two.stop()
        files = two.pulled(gone)
        files.vanish()
        two.start()
        with two.api() as api:
            assert api.ok("POST", "transit/decrypt/both", {"ciphertext": ciphertext})["plaintext"] == P
            for name in api.list("transit/keys").data["keys"]:
                if name.startswith("new"):
                    api.ok("POST", f"transit/encrypt/{name}", {"plaintext": P})
        files.come_back()
        two.wait_back()


def remove_the_first(two: TwoTokens, ciphertext: str, alone: str) -> None:
    """What both had is not lost with one."""
    two.pulled(FIRST).vanish()
    with two.api() as api:
        removed = api.ok("DELETE", f"sys/hsm/tokens/{FIRST}")
        assert [row["name"] for row in removed["lost"]["keys"]] == [f"in-{FIRST}"]
        assert api.ok("POST", "transit/decrypt/both", {"ciphertext": ciphertext})["plaintext"] == P
        assert api.post(f"transit/decrypt/in-{FIRST}", {"ciphertext": alone}).status == 400
        api.ok("POST", "transit/keys/both/rotate")
        assert api.post("transit/keys/next", {"protection": "hsm", "multi_token": True}).status == 400
    with_a_new_partner(two, ciphertext)


def with_a_new_partner(two: TwoTokens, ciphertext: str) -> None:
    """A third token takes the place of the first; what is born from then on is in it too, and doctor names what is not."""
    two.stop()
    further_token(two.configs[SECOND], "third")
    text = two.configuration.read_text()
    whole, _, rest = text.partition("[[hsm.others]]")
    second = rest.replace('relation = "own-keys"\n', "")
    third = rest.replace(f'token_label = "{SECOND}"', 'token_label = "third"')
    third = third.replace(
        f'"{two.configs[SECOND].pin_file}"', f'"{two.configs[SECOND].pin_file.with_name("third.pin")}"'
    )
    two.configuration.write_text(f"{whole.partition('[hsm]')[0]}[hsm]{second}\n[[hsm.others]]{third}")
    two.start()
    with two.api() as api:
        api.ok("POST", "sys/hsm/tokens/third")
        ready = {"ready": True, "tokens": [SECOND, "third"], "not_in": []}
        wait_for(lambda: shared(api) == ready, SECONDS, lambda: str(shared(api)))
        named = doctor(two)["multi_token keys not in each token"]
        assert "transit/both" in named
        api.ok("POST", "transit/keys/both/rotate")
        assert "transit/both" not in doctor(two)["multi_token keys not in each token"]
        new = api.ok("POST", "transit/encrypt/both", {"plaintext": P})["ciphertext"]
    files = two.pulled(SECOND)
    files.vanish()
    with two.api() as api:
        assert api.ok("POST", "transit/decrypt/both", {"ciphertext": new})["plaintext"] == P
        refused = api.post("transit/decrypt/both", {"ciphertext": ciphertext})
        assert (refused.status, f'"{SECOND}"' in refused.errors[0]) == (503, True)
    files.come_back()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("objects", [1, 3, 5, 8])
def test_kill_9_during_an_enrolment(two: TwoTokens, objects: int) -> None:
    """The whole server dies when the second token holds so many objects; afterwards it serves, and both are whole."""
    with two.api() as api:
        api.ok("POST", "sys/mounts/transit", {"type": "transit"})
        make(api, "before")
        ciphertext = api.ok("POST", "transit/encrypt/before", {"plaintext": P})["ciphertext"]
    place = token_folder(two.configs[SECOND])

    def ask() -> None:
        with suppress(httpx.HTTPError), two.api() as client:
            client.call("POST", f"sys/hsm/tokens/{SECOND}")

    asking = threading.Thread(target=ask)
    asking.start()
    end = time.monotonic() + SECONDS
    while len(list(place.glob("*.object"))) <= objects:  # and token.object
        assert time.monotonic() < end, "the enrolment made nothing"
    two.kill_all()
    asking.join()
    two.after_kill()
    two.start()
    with two.api() as api:
        wait_for(lambda: settled(api), SECONDS, lambda: str(api.ok("GET", "sys/hsm/tokens")))
        if api.ok("GET", "sys/hsm/tokens")["tokens"][SECOND]["state"] != "enrolled":
            two.enrol()
        wait_shared(api)
        shown = api.ok("GET", "sys/hsm/tokens")
        assert shown["tokens"][SECOND]["terms"] == shown["terms"]
        make(api, "after", multi_token=True)
    # Each token alone opens the keyring and does the work.
    for gone in (FIRST, SECOND):
        two.stop()
        files = two.pulled(gone)
        files.vanish()
        two.start()
        with two.api() as api:
            api.ok("POST", "transit/encrypt/after", {"plaintext": P})
            answer = api.post("transit/decrypt/before", {"ciphertext": ciphertext})
            assert answer.status == (503 if gone == FIRST else 200)
        files.come_back()
        two.wait_back()


def settled(api: Api) -> bool:
    """Whether what the kill left open has been finished or undone."""
    return api.ok("GET", "sys/hsm/tokens")["tokens"][SECOND]["state"] in ("enrolled", "not enrolled")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("away", ["", SECOND])
def test_recover_compromise_with_two_tokens(two: TwoTokens, away: str) -> None:
    """Each token gets a new root and the new term; one that was away meanwhile gets them when it is back."""
    two.enrol()
    with two.api() as api:
        wait_shared(api)
        api.ok("POST", "sys/mounts/transit", {"type": "transit"})
        make(api, "both", multi_token=True)
        api.ok("POST", "transit/keys/soft", {"protection": "software"})
        texts = {
            name: api.ok("POST", f"transit/encrypt/{name}", {"plaintext": P})["ciphertext"]
            for name in ("both", "soft")
        }
        files = two.pulled(away) if away else None
        if files is not None:
            files.vanish()
        done = subprocess.run(
            [KEYSTEAD, "recover-compromise", "--reason", "drill", "--format", "json"],
            env=clean_environment(two.folder, BAO_ADDR=two.address, BAO_TOKEN=two.token),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert json.loads(done.stdout)["state"] == "complete"
        assert api.ok("GET", "transit/keys/soft")["latest_version"] == 2
        if files is not None:
            files.come_back()
            two.wait_back()
        wait_for(lambda: renewed(api), SECONDS, lambda: str(api.ok("GET", "sys/hsm/tokens")))
        wait_shared(api)
        make(api, "new", multi_token=True)
    for gone in (FIRST, SECOND):
        two.stop()
        pulled = two.pulled(gone)
        pulled.vanish()
        two.start()
        with two.api() as api:
            for name, text in texts.items():
                assert api.ok("POST", f"transit/decrypt/{name}", {"ciphertext": text})["plaintext"] == P
            api.ok("POST", "transit/encrypt/new", {"plaintext": P})
        pulled.come_back()
        two.wait_back()


def renewed(api: Api) -> bool:
    shown = api.ok("GET", "sys/hsm/tokens")
    return all(
        (token["root_version"], token["terms"]) == (2, shown["terms"]) for token in shown["tokens"].values()
    )
