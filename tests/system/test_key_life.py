"""The life of a key on a real server with real clients: states, dates, history, and who is told what."""

from __future__ import annotations

import secrets
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path

import hvac
import pytest
from hvac.exceptions import InvalidRequest

from tests.conftest import ServerFactory, TokenFactory
from tests.harness import log
from tests.harness.api import Api
from tests.harness.bao import Bao
from tests.harness.dev import DevServer
from tests.harness.processes import wait_for
from tests.harness.shift import ShiftedServer

P = b64encode(b"card 4711").decode()


@pytest.fixture
def mount(api: Api) -> str:
    path = f"life-{secrets.token_hex(4)}"
    api.ok("POST", f"sys/mounts/{path}", {"type": "transit"})
    return path


@pytest.mark.parametrize("protection", ["software", "hsm"])
def test_hvac_meets_every_state(api: Api, root: hvac.Client, mount: str, protection: str) -> None:
    transit = root.secrets.transit
    api.ok("POST", f"{mount}/keys/k", {"protection": protection, "owner": "payments"})
    sealed = transit.encrypt_data("k", plaintext=P, mount_point=mount)["data"]["ciphertext"]
    api.ok("POST", f"{mount}/keys/k/suspend", {"reason": "laptop lost"})
    with pytest.raises(InvalidRequest, match=r"key k is in state suspended.*resume it with keys/k/resume"):
        transit.encrypt_data("k", plaintext=P, mount_point=mount)
    with pytest.raises(InvalidRequest, match=r"accept the risk with keys/k/suspend accept_risk=true"):
        transit.decrypt_data("k", ciphertext=sealed, mount_point=mount)
    api.ok("POST", f"{mount}/keys/k/resume", {"reason": "found again"})
    transit.encrypt_data("k", plaintext=P, mount_point=mount)
    shown = api.ok("POST", f"{mount}/keys/k/deactivate")
    assert (shown["state"], shown["owner"]) == ("deactivated", "payments")
    with pytest.raises(InvalidRequest, match="use another key"):
        transit.encrypt_data("k", plaintext=P, mount_point=mount)
    with pytest.raises(InvalidRequest, match="deactivated"):
        transit.rotate_key("k", mount_point=mount)
    opened = transit.decrypt_data("k", ciphertext=sealed, mount_point=mount)
    assert opened["data"]["plaintext"] == P
    api.ok("POST", f"{mount}/keys/k/compromise", {"reason": "seen in a paste"})
    with pytest.raises(InvalidRequest, match="compromised"):
        transit.decrypt_data("k", ciphertext=sealed, mount_point=mount)
    assert transit.read_key("k", mount_point=mount)["data"]["state"] == "compromised"
    lines = api.ok("GET", f"{mount}/keys/k/history")["transitions"]
    assert [line["state"] for line in lines] == [
        "active",
        "suspended",
        "active",
        "deactivated",
        "compromised",
    ]
    assert {line["by"] for line in lines} == {"root"}


def test_all_workers_obey_a_command_when_its_answer_is_there(server: DevServer, api: Api, mount: str) -> None:
    api.ok("POST", f"{mount}/keys/k")
    for round_ in range(5):
        for command, status in (("suspend", 400), ("resume", 200)):
            api.ok("POST", f"{mount}/keys/k/{command}", {"reason": f"round {round_}"})
            for _ in range(8):  # connections of their own, so that every worker is asked
                with server.api() as fresh:
                    assert fresh.post(f"{mount}/encrypt/k", {"plaintext": P}).status == status


def test_bao_makes_a_key_for_later(bao: Bao, api: Api, mount: str) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    bao(
        "write",
        f"{mount}/keys/k",
        f"activation_date={tomorrow}",
        "contact=keys@example.test",
        "tags=env=prod",
    )
    refused = bao.run("write", f"{mount}/encrypt/k", f"plaintext={P}")
    assert "in state pre-activation" in refused.stderr
    assert f"{mount}/keys" not in refused.stdout
    bao("write", "-f", f"{mount}/keys/k/activate")
    bao("write", f"{mount}/encrypt/k", f"plaintext={P}")
    shown = api.ok("GET", f"{mount}/keys/k")
    assert (shown["contact"], shown["tags"]) == ("keys@example.test", {"env": "prod"})


def test_a_token_that_may_encrypt_may_not_change_the_state(
    server: DevServer, api: Api, mount: str, token_with: TokenFactory
) -> None:
    api.ok("POST", f"{mount}/keys/k")
    token = token_with(f'path "{mount}/encrypt/k" {{ capabilities = ["update"] }}')
    with server.api(token) as app:
        assert app.post(f"{mount}/keys/k/suspend", {"reason": "mischief"}).status == 403
        assert app.post(f"{mount}/encrypt/k", {"plaintext": P}).status == 200


@pytest.mark.timeout(240)
def test_dates_change_the_state_of_a_key(fresh_server: ServerFactory, tmp_path: Path) -> None:
    shifted = ShiftedServer(fresh_server, tmp_path)
    server = shifted.server
    now = datetime.now(UTC)
    dates = {
        "activation_date": (now + timedelta(days=1)).isoformat(),
        "deactivation_date": (now + timedelta(days=3)).isoformat(),
    }
    with server.api() as api:
        api.ok("POST", "sys/mounts/transit", {"type": "transit"})
        api.ok("POST", "transit/keys/dated", dates)
        api.ok("POST", "transit/keys/short", {"cryptoperiod": "36h"})
        assert "pre-activation" in api.post("transit/encrypt/dated", {"plaintext": P}).errors[0]
        api.ok("POST", "transit/encrypt/short", {"plaintext": P})
    shifted.at(2)
    with server.api() as api:
        sealed = api.ok("POST", "transit/encrypt/dated", {"plaintext": P})["ciphertext"]
        assert "cryptoperiod" in api.post("transit/encrypt/short", {"plaintext": P}).errors[0]
        api.ok("POST", "transit/keys/short/rotate")
        api.ok("POST", "transit/encrypt/short", {"plaintext": P})
    shifted.at(4)
    with server.api() as api:
        assert "deactivated" in api.post("transit/encrypt/dated", {"plaintext": P}).errors[0]
        assert api.ok("POST", "transit/decrypt/dated", {"ciphertext": sealed})["plaintext"] == P

        def written() -> bool:
            return any(
                entry.operation == "transit.keys.turn" and entry.subject.get("state") == "deactivated"
                for entry in log.entries(server.audit)
            )

        wait_for(written, 60, "the jobs process writes down what the date has brought")
        lines = api.ok("GET", "transit/keys/dated/history")["transitions"]
    assert [line["state"] for line in lines] == ["pre-activation", "active", "deactivated"]
    times = [datetime.fromisoformat(line["time"]) for line in lines]
    assert [(time - now).days for time in times[1:]] == [1, 3]
