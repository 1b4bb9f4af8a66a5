"""The end of keys on a real server whose clock is moved: the wait, the calling off, and that nothing is left."""

from __future__ import annotations

import sqlite3
from base64 import b64encode
from contextlib import closing
from pathlib import Path

import hvac
import pytest

from tests.conftest import ServerFactory
from tests.drills import observe
from tests.harness import token
from tests.harness.api import Api
from tests.harness.dev import DevServer
from tests.harness.processes import wait_for
from tests.harness.shift import ShiftedServer

P = b64encode(b"card 4711").decode()
KEYS = {
    "soft": {},
    "wrapped": {"protection": "hsm"},
    "pair": {"type": "ecdsa-p256"},
    "ed": {"type": "ed25519", "protection": "hsm"},
    "spared": {},
}


def bodies(server: DevServer, ids: list[str]) -> list[bytes]:
    """What the rows of these keys' versions hold on disk: sealed, with the blobs inside."""
    path = next((server.data / "storage").glob("*.db"))
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        query = "SELECT body FROM key_versions WHERE key_id = ?"
        return [row[0] for each in ids for row in database.execute(query, [each])]


def files_with(folder: Path, needles: list[bytes]) -> list[str]:
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            # Any 32 bytes of the middle: a page boundary may cut the rest.
            found += [path.name for each in needles if each[64:96] in content]
    return found


def pending(api: Api) -> dict[str, dict[str, str]]:
    info: dict[str, dict[str, str]] = api.list("transit/pending").data["key_info"]
    return {each["name"]: {**each, "id": which} for which, each in info.items()}


@pytest.mark.timeout(240)
def test_a_deleted_key_waits_and_is_then_nowhere(fresh_server: ServerFactory, tmp_path: Path) -> None:
    shifted = ShiftedServer(fresh_server, tmp_path)
    server = shifted.server
    with server.api() as api:
        api.ok("POST", "sys/mounts/transit", {"type": "transit"})
    before = {each.id for each in token.objects(server)}
    client = hvac.Client(url=server.address, token=server.token)
    with server.api() as api:
        for name, body in KEYS.items():
            api.ok("POST", f"transit/keys/{name}", body)
            assert api.call("DELETE", f"transit/keys/{name}").status == 400  # deletion is not allowed yet
            client.secrets.transit.update_key_configuration(name, deletion_allowed=True)
        sealed = api.ok("POST", "transit/encrypt/spared", {"plaintext": P})["ciphertext"]
        for days in (0, 1, 6, 31, -7):
            assert api.call("DELETE", f"transit/keys/soft?waiting_days={days}").status == 400
        for name in KEYS:
            client.secrets.transit.delete_key(name)
            assert api.post(f"transit/hmac/{name}", {"input": P}).status == 400
        waiting = pending(api)
        assert {each["state"] for each in waiting.values()} == {"waiting"}
        shorter = api.ok("POST", f"transit/pending/{waiting['soft']['id']}/schedule", {"waiting_days": 7})
        assert shorter["destroy_time"] >= waiting["soft"]["destroy_time"]
    client.adapter.close()
    doomed = [waiting[name]["key_id"] for name in KEYS if name != "spared"]
    needles = bodies(server, doomed)
    assert len(needles) == len(doomed)
    assert files_with(server.data, needles), "the search must find what is there"

    shifted.at(29)
    with server.api() as api:
        assert {each["state"] for each in pending(api).values()} == {"waiting"}
        api.ok("POST", f"transit/pending/{waiting['spared']['id']}/cancel")

    shifted.at(31)
    with server.api() as api:
        wait_for(lambda: set(pending(api)) == {"spared"}, 90, "destruction of what has waited")
        assert pending(api)["spared"]["state"] == "kept"
        for name in ("soft", "wrapped", "pair", "ed"):
            record = api.ok("GET", f"transit/pending/{waiting[name]['id']}")
            assert (record["state"], record["key_state"], record["name"]) == ("destroyed", "destroyed", name)
            assert api.post(f"transit/pending/{waiting[name]['id']}/restore").status == 400
        api.ok("POST", f"transit/pending/{waiting['spared']['id']}/restore")
        assert api.ok("POST", "transit/decrypt/spared", {"ciphertext": sealed})["plaintext"] == P
    assert {each.id for each in token.objects(server)} == before
    assert files_with(server.data, needles) == []
    server.stop()
    assert files_with(server.data, needles) == []
    sound, said = observe.verify(server, whole=True)
    assert sound, said
