"""Another token under the label of ours, while the server runs: it is refused, nothing is made in it, and ours is found again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

from kms.hsm import find_softhsm_module
from tests.harness.dev import DevServer
from tests.harness.workers import one_to_each, replace, until_each

P = b64encode(b"card 4711").decode()
WORKERS = 2
ROUNDS = 20  # so that each worker is asked, more than once


def put_another(tokens: Path) -> Path:
    """An empty token with the same label and PIN stands in the place of ours."""
    away = tokens.with_name("ours")
    tokens.rename(away)
    tokens.mkdir()
    folder = tokens.parent
    subprocess.run(
        [
            sys.executable,
            "-m",
            "kms.hsm.newtoken",
            str(find_softhsm_module()),
            "keystead",
            str(folder / "pin"),
        ],
        check=True,
        env={**os.environ, "SOFTHSM2_CONF": str(folder / "softhsm2.conf")},
        timeout=60,
    )
    return away


def refresh_one_worker(server: DevServer) -> None:
    """A worker, and the jobs process, that have never seen another token than the strange one; they say what it is."""
    replace(server, WORKERS, 1, jobs=True)
    said = b""
    for line in one_to_each(server, WORKERS):
        status, answer = line.ask("LIST", "/v1/transit/keys", known=True)
        said += answer
        assert status in (200, 503), answer
        line.close()
    assert b"does not hold this server's root keys" in said


def test_a_strange_token_serves_nothing(fresh_server: Callable[..., DevServer]) -> None:
    server = fresh_server(workers=WORKERS)
    tokens = next(server.data.rglob("softhsm2.conf")).parent / "tokens"
    with server.api() as api:
        api.ok("POST", "sys/mounts/transit", {"type": "transit"})
        api.ok("POST", "transit/keys/hard", {"type": "aes256-gcm96", "protection": "hsm"})
        api.ok("POST", "transit/keys/signer", {"type": "ed25519"})
        ciphertext = api.ok("POST", "transit/encrypt/hard", {"plaintext": P})["ciphertext"]
    away = put_another(tokens)
    # A key that is loaded may serve until its worker looks at the token; then nothing does.
    for number in range(ROUNDS):
        for path, body in (
            ("sign/signer", {"input": P}),
            (f"keys/new-{number}", {"type": "ed25519"}),
            (f"keys/more-{number}", {"type": "aes256-gcm96", "protection": "hsm"}),
        ):
            with server.api() as api:  # a connection of its own, so any worker
                answer = api.post(f"transit/{path}", body)
            assert answer.status == 503, (path, answer.content)
    for line in one_to_each(server, WORKERS):
        sent = json.dumps({"ciphertext": ciphertext}).encode()
        assert line.ask("POST", "/v1/transit/decrypt/hard", sent, "application/json", known=True)[0] == 503
        line.close()
    refresh_one_worker(server)
    (strange,) = tokens.iterdir()
    held = sorted(path.name for path in strange.glob("*.object") if path.name != "token.object")
    assert held == [], "something was made in the strange token"
    for file in sorted(strange.iterdir()):
        file.unlink()
    strange.rmdir()
    tokens.rmdir()
    away.rename(tokens)
    assert until_each(server, WORKERS, "transit/decrypt/hard", {"ciphertext": ciphertext}) < 20
    with server.api() as api:
        api.ok("POST", "transit/sign/signer", {"input": P})
        assert api.list("transit/keys").data["keys"] == ["hard", "signer"]
