"""T-02, a short walk: no answer holds a byte of a key; `scripts/leaks` makes ten thousand calls."""

from __future__ import annotations

import secrets
from pathlib import Path

from tests.drills.leaks import Walk, forms, hits
from tests.harness.api import Api
from tests.harness.dev import DevServer

CALLS = 300


def test_no_answer_holds_a_byte_of_a_key(server: DevServer, api: Api, tmp_path: Path) -> None:
    mount, seed = f"walk-{secrets.token_hex(4)}", secrets.randbits(32)
    api.ok("POST", f"sys/mounts/{mount}", {"type": "transit"})
    walk = Walk(server, api, mount, tmp_path / "rig", seed)
    walk.prepare()
    walk.go(CALLS)
    kept, free = walk.secrets()
    assert len(kept) > 40
    assert sum(walk.good.values()) > CALLS // 5, seed
    assert hits(walk.answers, kept) == 0, seed
    assert hits(walk.answers, free), "the exported key was not found, so the search proves nothing"


def test_a_secret_is_found_in_every_form_and_place() -> None:
    secret = secrets.token_bytes(32)
    for answer in forms(secret):
        assert hits([b"before", b"x" + answer + b"y"], [secret]) == 1
    assert hits([secret[:8], secret[16:]], [secret]) == 0
