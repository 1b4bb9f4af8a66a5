"""Init over the API, custodians' ceremonies and keyring terms, with hvac and bao against four workers."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import hvac
import hvac.exceptions
import pytest
import requests.exceptions

from tests.harness.bao import Bao
from tests.harness.dev import DevServer


def client(server: DevServer, token: str = "") -> hvac.Client:
    return hvac.Client(url=server.address, token=token)


class BareServer(DevServer):
    """Serves uninitialised or sealed just as well."""

    def answers(self) -> bool:
        with suppress(httpx.HTTPError), httpx.Client(trust_env=False, timeout=5) as plain:
            return plain.get(f"{self.address}/v1/sys/health").status_code in {200, 501, 503}
        return False


Custody = tuple[DevServer, list[str], str]


@pytest.fixture(name="custody")
def _custody(tmp_path: Path) -> Iterator[Custody]:
    """A server initialised through the API with three shares of which two are needed."""
    server = BareServer(tmp_path / "server", arguments=["--no-init"])
    try:
        server.start()
        anyone = client(server)
        assert not anyone.sys.is_initialized()
        with pytest.raises(hvac.exceptions.VaultDown):
            client(server, "any").secrets.transit.read_key("k")
        for shares, threshold in ((2, 3), (300, 2)):
            with pytest.raises(hvac.exceptions.InvalidRequest):
                anyone.sys.initialize(secret_shares=shares, secret_threshold=threshold)
        made: dict[str, Any] = anyone.sys.initialize(secret_shares=3, secret_threshold=2)
        with pytest.raises(hvac.exceptions.InvalidRequest, match="already initialized"):
            anyone.sys.initialize(secret_shares=1, secret_threshold=1)
        yield server, made["keys_base64"], made["root_token"]
    finally:
        server.stop()


def test_a_seal_holds_over_a_restart_until_a_quorum_lifts_it(
    custody: Custody,
) -> None:
    server, shares, token = custody
    root = client(server, token)
    root.sys.enable_secrets_engine("transit")
    root.secrets.transit.create_key("k")
    cipher = root.secrets.transit.encrypt_data("k", base64.b64encode(b"kept").decode())["data"]["ciphertext"]
    root.sys.seal()
    for _ in range(20):
        # The workers that were open end: one of them may close the connection instead of answering.
        with pytest.raises((hvac.exceptions.VaultDown, requests.exceptions.ConnectionError)):
            root.secrets.transit.decrypt_data("k", cipher)
    server.stop()
    server.start()
    status = root.sys.read_seal_status()
    assert (status["sealed"], status["t"], status["n"], status["recovery"]) == (True, 2, 3, "quorum")
    wrong = base64.b64encode(bytes(32) + b"\x07").decode()
    root.sys.submit_unseal_key(shares[0])
    with pytest.raises(hvac.exceptions.InvalidRequest, match="do not open"):
        root.sys.submit_unseal_key(wrong)
    assert root.sys.read_seal_status()["progress"] == 0
    assert root.sys.submit_unseal_key(shares[2])["progress"] == 1
    assert root.sys.submit_unseal_key(shares[2])["progress"] == 1, "the same share counts once"
    assert root.sys.submit_unseal_key(shares[1])["sealed"] is False
    for _ in range(20):
        plain = root.secrets.transit.decrypt_data("k", cipher)["data"]["plaintext"]
        assert base64.b64decode(plain) == b"kept"


def test_a_quorum_makes_a_root_token_that_only_the_otp_opens(
    custody: Custody,
) -> None:
    server, shares, _ = custody
    anyone = client(server)
    with pytest.raises(hvac.exceptions.InvalidRequest, match="OTP"):
        anyone.sys.start_root_token_generation(otp="short")
    otp = "0123456789012345678901234567"
    nonce = anyone.sys.start_root_token_generation(otp=otp)["nonce"]
    with pytest.raises(hvac.exceptions.InvalidRequest, match="already in progress"):
        anyone.sys.start_root_token_generation(otp=otp)
    with pytest.raises(hvac.exceptions.InvalidRequest, match="nonce"):
        anyone.sys.cancel_root_generation()
    with pytest.raises(hvac.exceptions.InvalidRequest, match="nonce"):
        anyone.sys.generate_root(key=shares[0], nonce="0" * 36)
    assert anyone.sys.generate_root(key=shares[0], nonce=nonce)["progress"] == 1
    _stranger_ends_nothing(anyone, "generate-root/attempt")
    assert anyone.sys.read_root_generation_progress()["progress"] == 1
    for spelling in ("generate-root-token", "generate-root"):
        shown = client(server, custody[2]).adapter.get(f"/v1/sys/{spelling}/attempt")
        assert shown.get("data", shown)["nonce"] == nonce, "who may cancel is told"
    done = anyone.sys.generate_root(key=shares[1], nonce=nonce)
    assert done["complete"]
    raw = base64.b64decode(done["encoded_token"] + "==")
    token = bytes(a ^ b for a, b in zip(raw, otp.encode(), strict=True)).decode()
    assert client(server, token).auth.token.lookup_self()["data"]["policies"] == ["root"]
    assert not anyone.sys.read_root_generation_progress()["started"]


def test_rekey_with_verification_switches_only_when_new_shares_came_back(
    custody: Custody,
) -> None:
    server, old, token = custody
    root = client(server, token)
    root.sys.start_rekey(secret_shares=5, secret_threshold=3, require_verification=True)
    nonce = root.sys.read_rekey_progress()["nonce"]
    assert nonce == root.adapter.get("/v1/sys/rotate/root/init")["data"]["nonce"]
    weak = client(server, root.auth.token.create(policies=["default"])["auth"]["client_token"])
    assert weak.sys.read_rekey_progress()["nonce"] == ""
    with pytest.raises(hvac.exceptions.InvalidRequest, match="nonce"):
        weak.sys.cancel_rekey()
    root.sys.cancel_rekey()
    root.sys.start_rekey(secret_shares=5, secret_threshold=3, require_verification=True)
    nonce = root.sys.read_rekey_progress()["nonce"]
    root.sys.rekey(key=old[0], nonce=nonce)
    _stranger_ends_nothing(client(server), "rekey/init")
    made = root.sys.rekey(key=old[1], nonce=nonce)
    assert (made["complete"], len(made["keys"])) == (True, 5)
    assert root.sys.read_seal_status()["n"] == 3, "until verification the old shares count"
    new = made["keys"]
    for key in new[:2]:
        _verify(root, key, made["verification_nonce"])
    _stranger_ends_nothing(client(server), "rekey/verify")
    # One in 128 of the old shares has the place of one of those: then it is told by that.
    taken = {bytes.fromhex(key)[-1] for key in new[:2]}
    wrong = next(share for share in old if base64.b64decode(share)[-1] not in taken)
    with pytest.raises(hvac.exceptions.InvalidRequest, match="not the new shares"):
        _verify(root, wrong, made["verification_nonce"])
    for key in new[1:3]:
        _verify(root, key, made["verification_nonce"])
    assert _verify(root, new[4], made["verification_nonce"])["complete"]
    assert (root.sys.read_seal_status()["n"], root.sys.read_seal_status()["t"]) == (5, 3)
    root.sys.seal()
    server.stop()
    server.start()
    for share in new[:3]:
        status = root.sys.submit_unseal_key(share)
    assert status["sealed"] is False


def _stranger_ends_nothing(stranger: hvac.Client, path: str) -> None:
    """What anybody may see of an attempt is not what it takes to cancel it (CVE-2025-4656, CVE-2026-5807)."""
    shown = stranger.adapter.get(f"/v1/sys/{path}")
    assert (shown["started"], shown["nonce"]) == (True, "")
    for body in ({}, {"nonce": shown["nonce"]}, {"nonce": "0" * 36}):
        with pytest.raises(hvac.exceptions.InvalidRequest, match="nonce"):
            stranger.adapter.delete(f"/v1/sys/{path}", json=body)
    assert stranger.adapter.get(f"/v1/sys/{path}")["started"]


def _verify(root: hvac.Client, key: str, nonce: str) -> dict[str, Any]:
    answer: dict[str, Any] = root.adapter.put("/v1/sys/rekey/verify", json={"key": key, "nonce": nonce})
    return answer


def test_a_new_keyring_term_is_used_by_every_worker_and_old_rows_stay_readable(
    server: DevServer, bao: Bao
) -> None:
    root = client(server, server.token)
    root.sys.create_or_update_policy("before-term", 'path "x" { capabilities = ["read"] }')
    before = root.read("sys/key-status")["data"]["term"]
    bao("operator", "rotate")
    root.write_data("sys/rotate", data={})
    status = root.read("sys/key-status")["data"]
    assert status["term"] == before + 2
    for number in range(12):
        root.sys.create_or_update_policy(f"after-term-{number}", 'path "y" { capabilities = ["read"] }')
        assert root.sys.read_policy("before-term")
        assert root.sys.read_policy(f"after-term-{number}")
    assert root.read("sys/key-status")["data"]["encryptions"] >= 12
    root.write_data("sys/rotate/config", data={"max_operations": 5, "interval": "1h"})
    settings = root.read("sys/rotate/config")["data"]
    assert (settings["max_operations"], settings["interval"]) == (1_000_000, 86_400)
