"""The built-in auditor: all evidence, no secret, and nobody takes it away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kms.app.policing import KINDS
from kms.app.process import App
from kms.clock import SystemClock
from kms.config import load
from kms.errors import KmsError
from kms.hsm import softhsm_token
from kms.operation import Call, Capability, Effect, MountRef, Operation, Principal, Result
from kms.policy import compile_acl, decide, parse
from kms.policy.auditor import AUDITOR, AUDITOR_TEXT, EVIDENCE
from kms.shared import Shared
from kms.system.evidence import MAX_BYTES, Evidence
from tests.identity.wire import Server

# What reads and is no evidence: secrets, or what the caller's own token keeps.
SECRET = {
    "approle.role-id.read",
    "cubbyhole.list",
    "cubbyhole.read",
    "identity.oidc.token",
    "policy.password.generate",
    "transit.backup",
    "transit.byok-export",
    "transit.export",
}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("auditor")
    token = softhsm_token(folder / "token")
    lines = [
        'recovery = "none"',
        "[data]",
        f'storage = "{folder / "storage"}"',
        f'audit = "{folder / "audit"}"',
        "[hsm]",
        f'module = "{token.module}"',
        f'token_label = "{token.token_label}"',
        f'pin_file = "{token.pin_file}"',
        f'softhsm2_conf = "{token.softhsm2_conf}"',
    ]
    (folder / "site.toml").write_text("\n".join(lines))
    made = App(load(folder / "site.toml"), Shared(), SystemClock(), "start")
    yield made
    made.close()


def test_evidence_is_what_the_server_has_and_changes_nothing(app: App) -> None:
    assert set(app.registry) >= EVIDENCE
    assert {name for name in EVIDENCE if app.registry[name].effect is not Effect.NONE} == set()
    assert not EVIDENCE & SECRET
    assert set(app.registry) >= SECRET
    assert all(name in AUDITOR_TEXT for name in EVIDENCE)


def test_what_the_operator_can_demand_consent_for_is_there(app: App) -> None:
    assert {name for names in KINDS.values() for name in names} <= set(app.registry)


def test_the_log_cannot_be_switched_off_over_the_api(app: App) -> None:
    """No route ends the log itself; devices that repeat it are another thing."""
    changing = [
        route.operation
        for route in app.routes["system"]
        if app.registry[route.operation].effect is not Effect.NONE and route.pattern.startswith("evidence")
    ]
    assert changing == []


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.close()


def call_of(name: str, path: str) -> Call:
    operation = Operation(name, Capability.READ, lambda _call: Result(), sudo=True)
    return Call(operation, path, MountRef("", "", "", ""), {}, "", "", "")


def test_nobody_takes_it_away(server: Server) -> None:
    server.policy("denier", 'path "*" { capabilities = ["deny"] }')
    policies = server.first.policies
    holder = Principal(policies=("auditor", "denier"))
    assert policies.decide(holder, call_of("transit.keys.read", "any/keys/a")).why == "auditor"
    assert policies.decide(holder, call_of("transit.export", "any/export/a")).why == "deny"
    assert not policies.decide(holder, call_of("transit.keys.read", "any/../a")).allowed
    assert not policies.decide(Principal(policies=("denier",)), call_of("transit.keys.read", "a")).allowed
    for method, body in (
        ("PUT", {"policy": 'path "a" { }'}),
        ("PATCH", {"policy": 'path "a" { }'}),
        ("DELETE", None),
    ):
        for name in (AUDITOR, "Auditor"):
            assert server.call(method, f"sys/policies/acl/{name}", body)[0] == 400
    shown = server.call("GET", "sys/policies/acl/auditor")[1]["data"]
    assert (shown["policy"], shown["version"]) == (AUDITOR_TEXT, 0)
    assert AUDITOR in server.call("LIST", "sys/policies/acl")[1]["data"]["keys"]
    assert parse(AUDITOR_TEXT).rules == ()
    token = server.token(policies=["auditor", "denier"])
    status, answer = server.call("LIST", "sys/policies/acl", None, token)
    assert (status, AUDITOR in answer["data"]["keys"]) == (200, True)
    assert server.call("PUT", "sys/policies/acl/mine", {"policy": 'path "a" { }'}, token)[0] == 403


def test_a_part_of_another_request_cannot_wait_for_consent(server: Server) -> None:
    text = """path "a" { capabilities = ["read"]
      control_group { ttl = "1h"
        factor "ops" { controlled_capabilities = ["read"]
          identity { policy_names = ["lead"] approvals = 1 } } } }
    path "b" { capabilities = ["read"] }"""
    server.policy("p", text)
    holder, policies = Principal(policies=("p",)), server.first.policies
    plain = Operation("x", Capability.READ, lambda _call: Result())
    here, there = (Call(plain, path, MountRef("", "", "", ""), {}, "", "", "") for path in "ab")
    assert policies.decide(holder, here).allowed
    assert (policies.decide_within(holder, here).allowed, policies.decide_within(holder, here).why) == (
        False,
        "consent",
    )
    assert policies.decide_within(holder, there).allowed


def test_without_the_policy_evidence_is_a_path_like_others() -> None:
    acl = compile_acl({"p": parse('path "sys/evidence/*" { capabilities = ["read"] }')})
    assert decide(acl, "sys/evidence/x", Capability.READ, evidence=True).why == "granted"
    assert decide(acl, "sys/other", Capability.READ, evidence=True).why == "no_rule"


def test_files_of_the_audit_folder_and_no_others(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    (folder / "segments").mkdir(parents=True)
    (folder / "segments" / "a.jsonl").write_bytes(b"0123456789")
    (tmp_path / "secret").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    evidence = Evidence(folder)

    def read(path: str, offset: int = 0, length: int = 0) -> bytes:
        call = call_of("sys.evidence.read", "sys/evidence/" + path)
        call.args = {"path": path, "offset": offset, "length": length}
        raw = evidence.read(call).raw
        assert raw is not None
        return raw[0]

    listed = evidence.names(call_of("sys.evidence.list", "sys/evidence/")).data
    assert listed == {"keys": ["segments/a.jsonl"], "key_info": {"segments/a.jsonl": {"size": 10}}}
    assert read("segments/a.jsonl") == b"0123456789"
    assert read("segments/a.jsonl", 3, 4) == b"3456"
    assert read("segments/a.jsonl", 100) == b""
    for path in ("../secret", "link", "segments", "", "segments/../../secret"):
        with pytest.raises(KmsError):
            read(path)
    for part in ((-1, 0), (0, MAX_BYTES + 1), (0, -1)):
        with pytest.raises(KmsError, match="offset"):
            read("segments/a.jsonl", *part)
