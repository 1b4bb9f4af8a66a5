"""After a stolen keyring: nothing of the old terms is left in use, and nobody notices but by the new versions."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ServerFactory
from tests.harness import processes
from tests.harness.api import Api
from tests.harness.dev import KEYSTEAD, DevServer, clean_environment
from tests.harness.thief import Thief, steal

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


def run(server: DevServer, token: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`keystead recover-compromise`, with this token."""
    return subprocess.run(
        [KEYSTEAD, "recover-compromise", *arguments],
        env=clean_environment(server.folder, BAO_ADDR=server.address, BAO_TOKEN=token),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


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
        untold = run(server, server.token)
        assert (untold.returncode, "give --reason" in untold.stderr) == (1, True)
        denied = run(server, token, "--reason", "drill")
        assert (denied.returncode, "permission denied" in denied.stderr) == (1, True)
        done = run(server, server.token, "--reason", "drill", "--format", "json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["state"] == "complete"
        assert json.loads(done.stdout)["reason"] == "drill"
        assert done.stderr.splitlines()[0] in ("step root", "step term", "step rows")

        api.ok("POST", PATH, {"reason": "and another"})
        again = api.post(PATH)
        assert (again.status, "running already" in again.errors[0]) == (400, True)
        # It follows that one, or starts a third where that was quicker than we.
        followed = run(server, server.token, "--reason", "and a third")
        assert followed.returncode == 0, followed.stderr
        assert "and another" in followed.stdout or "and a third" in followed.stdout
        assert terms_in_use(server)["tokens"] <= {3, 4}


# A row of every table, sealed again at its place under the newest stolen term, is read, and looked for by the sweep.
FORGE_EVERYWHERE = """
import json, sqlite3, sys
from pathlib import Path
from kms.app import App
from kms.app.rows import SEALED
from kms.clock import SystemClock
from kms.config import load
from kms.errors import KmsError
from kms.shared import Shared
from kms.storage import sweep
from tests.harness.thief import thief

app = App(load(Path(sys.argv[1]) / "keystead.toml"), Shared(), SystemClock(), "worker")
app.state.demand_open()
stolen = thief(Path(sys.argv[1]), json.load(sys.stdin))
reader = app.store.reader()
forged = {}
for table in SEALED:
    for key in reader.keys(table):
        if table not in forged and key not in sys.argv[2:]:
            forged[table] = reader.get(table, key)
for table, row in forged.items():
    stolen.insert(table, row.key, row.value)
    try:
        reader.get(table, row.key)
        print(table.name, "accepted")
    except KmsError as error:
        print(table.name, "refused" if "which was ended" in error.detail else error.detail)
found = [one.detail for one in sweep(app.store, SEALED)]
print("swept", sum("which was ended" in detail for detail in found), sum(bool(table.digest) for table in forged))
app.close()
"""


def forge_everywhere(server: DevServer, stolen: Thief) -> list[str]:
    """What became of a forged row of each table; the server is stopped. Its database is not to be used again."""
    done = subprocess.run(
        [sys.executable, "-c", FORGE_EVERYWHERE, str(server.data), *stolen.written],
        input=json.dumps(stolen.loot),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


def refuses(server: DevServer, token: str) -> bool:
    """Whether the token opens nothing, by every worker."""
    with server.api(token) as forged:
        return all(forged.get("sys/mounts").status in (403, 500) for _ in range(12))


def test_every_row_and_every_software_key_leaves_the_stolen_terms(fresh_server: ServerFactory) -> None:
    server = fresh_server(workers=2)
    with server.api() as api:
        ciphertexts = prepare(api)
        stolen = steal(server)
        stolen.root_token("forged-before")
        with server.api("forged-before") as forged:
            forged.ok("GET", "sys/mounts")  # so the forgery is a good one
            forged.ok("POST", "auth/token/revoke-self")
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

        # Under the newest stolen term, at a running server: no worker accepts it, and others are served.
        stolen.root_token("forged-after")
        assert refuses(server, "forged-after")
        api.ok("GET", "sys/mounts")
    assert server.stop() == 0
    with pytest.raises(AssertionError, match="which was ended after a theft"):
        server.start()  # nor does the server start on it
    server.after_kill()
    verdicts = forge_everywhere(server, stolen)
    assert len(verdicts) > 12, verdicts
    assert {verdict.split()[1] for verdict in verdicts[:-1]} == {"refused"}, verdicts
    _, swept, expected = verdicts[-1].split()
    assert int(swept) >= int(expected) > 10, verdicts
