"""After a stolen keyring: nothing of the old terms is left in use, and nobody notices but by the new versions."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

from tests.conftest import ServerFactory
from tests.harness import processes
from tests.harness.api import Api
from tests.harness.dev import DevServer

PATH = "sys/hsm/recover-compromise"
PLAIN = "aGVsbG8="
SECONDS = 90


def status(api: Api) -> dict[str, Any]:
    return api.ok("GET", PATH)


def complete(api: Api) -> bool:
    return bool(status(api)["state"] == "complete")


def terms_in_use(server: DevServer) -> dict[str, set[int]]:
    """Table -> keyring terms that seal its rows."""
    found: dict[str, set[int]] = {}
    with closing(sqlite3.connect(server.data / "storage" / "keystead.db")) as db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            columns = {row[1] for row in db.execute(f"PRAGMA table_info({name})")}
            if {"term", "body"} <= columns:
                rows = db.execute(f"SELECT DISTINCT term FROM {name} WHERE term > 0")  # noqa: S608  (names of our own tables)
                found[name] = {row[0] for row in rows}
    return found


def prepare(api: Api) -> dict[str, str]:
    """Keys and rows of all kinds; ciphertexts of the software keys."""
    api.ok("POST", "sys/mounts/transit", {"type": "transit"})
    api.ok("POST", "sys/mounts/ca", {"type": "pki"})
    api.ok("POST", "ca/root/generate/internal", {"common_name": "Root", "key_type": "ec", "ttl": "700h"})
    api.ok("POST", "ca/roles/any", {"allow_any_name": True, "key_type": "ec"})
    api.ok("POST", "ca/issue/any", {"common_name": "a.example.test", "ttl": "1h"})
    ciphertexts = {}
    for number in range(30):
        api.ok("POST", f"transit/keys/soft-{number}")
        answer = api.ok("POST", f"transit/encrypt/soft-{number}", {"plaintext": PLAIN})
        ciphertexts[f"soft-{number}"] = answer["ciphertext"]
    api.ok("POST", "transit/keys/hard", {"protection": "hsm"})
    api.ok("POST", "transit/keys/asleep")
    api.ok("DELETE", "transit/keys/asleep/soft-delete")
    return ciphertexts


def test_it_needs_sudo_and_runs_once_at_a_time(fresh_server: ServerFactory) -> None:
    server = fresh_server(workers=2)
    with server.api() as api:
        assert status(api) == {"state": "idle"}
        api.ok("POST", "sys/policies/acl/some", {"policy": f'path "{PATH}" {{ capabilities = ["update"] }}'})
        token = api.post("auth/token/create", {"policies": ["some"]}).json["auth"]["client_token"]
        with server.api(token) as some:
            assert some.post(PATH).status == 403
        api.ok("POST", PATH, {"reason": "drill"})
        again = api.post(PATH)
        assert (again.status, "running already" in again.errors[0]) == (400, True)
        processes.wait_for(lambda: complete(api), SECONDS, lambda: str(status(api)))


def test_every_row_and_every_software_key_leaves_the_stolen_terms(fresh_server: ServerFactory) -> None:
    server = fresh_server(workers=2)
    with server.api() as api:
        ciphertexts = prepare(api)
        before = api.get("sys/key-status").json["data"]["term"]
        root = api.ok("GET", "sys/hsm/root/rotate")["version"]
        api.ok("POST", PATH, {"reason": "a backup and the HSM's PIN were copied"})

        # Killed in the middle of it: every process, then a new start.
        processes.wait_for(lambda: status(api)["step"] in ("rows", "keys"), SECONDS, "rows")
        server.kill_all()
        server.after_kill()
        server.start()
        processes.wait_for(lambda: complete(api), SECONDS, lambda: str(status(api)))

        found = status(api)
        assert [name.rpartition("/")[2] for name in found["skipped"]] == ["asleep"]
        assert (found["resealed"] > 60, found["rotated"]) == (True, 30)
        assert api.get("sys/key-status").json["data"]["term"] == before + 1
        assert api.ok("GET", "sys/hsm/root/rotate")["version"] == root + 1
        assert set().union(*terms_in_use(server).values()) == {before + 1}, terms_in_use(server)
        for name, ciphertext in ciphertexts.items():
            assert api.ok("GET", f"transit/keys/{name}")["latest_version"] == 2
            opened = api.ok("POST", f"transit/decrypt/{name}", {"ciphertext": ciphertext})
            assert opened["plaintext"] == PLAIN
            new = api.ok("POST", f"transit/encrypt/{name}", {"plaintext": PLAIN})["ciphertext"]
            assert new.startswith("vault:v2:")
        assert api.ok("GET", "transit/keys/hard")["latest_version"] == 1
        api.ok("POST", "ca/issue/any", {"common_name": "b.example.test", "ttl": "1h"})
    assert server.stop() == 0
    server.start()  # the state digests hold: an older row would refuse the start
    assert server.stop() == 0
