"""Explanations: over the API, on the command line, offline, and what was not used."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from kms.app.holders import KnownHolders
from kms.cli import keystead
from kms.errors import KmsError
from kms.http.vault import policies as policy_routes
from kms.http.vault.door import Door
from kms.operation import ROOT_NAMESPACE, Capability, Principal
from kms.oplog import OperatorLog
from kms.policy import compile_acl, parse
from kms.policy.explain import REASONS, Asked, explain, grants
from kms.policy.explaining import Explainer
from tests.identity.wire import Process, Server

TEXT = """
path "kv/*" { capabilities = ["read", "list"] }
path "kv/team/+" { capabilities = ["read", "update"]
  allowed_parameters = { ttl = ["1h"] }
  control_group { ttl = "1h"
    factor "peers" { controlled_capabilities = ["update"]
      identity { policy_names = ["lead"] approvals = 1 } } } }
path "kv/team/secret" { capabilities = ["deny"] }
path "kv/night" { capabilities = ["read"]
  conditions { mfa = true } }
"""


def explained(path: str, capability: str, **asked: Any) -> dict[str, Any]:
    acl = compile_acl({"p": parse(TEXT)})
    return explain(acl, Asked(path=path, capability=Capability(capability), **asked))


def test_why() -> None:
    found = explained("kv/team/a", "update")
    assert (found["allowed"], found["why"], found["rule"]) == (True, "granted", "p:kv/team/+")
    assert found["overruled"] == ["kv/*"]
    assert found["consent"][0]["approvals"] == 1
    assert found["rules"][0]["allowed_parameters"] == ["ttl"]
    assert explained("kv/team/secret", "read")["why"] == "deny"
    assert explained("kv/team/secret", "read")["overruled"] == ["kv/*", "kv/team/+"]
    assert explained("x", "read")["why"] == "no_rule"
    assert explained("kv/a", "read", sudo=True)["why"] == "sudo"
    night = explained("kv/night", "read")
    assert (night["why"], night["rules"][0]["unmet"], night["rules"][0]["applies"]) == (
        "condition",
        "mfa",
        False,
    )
    root = explain(compile_acl({}, root=True), Asked(path="x", capability=Capability.READ))
    assert (root["allowed"], root["why"], root["pattern"]) == (True, "root", "")
    assert all(REASONS.values())


def test_grants() -> None:
    rows = grants(compile_acl({"p": parse(TEXT)}), Asked(path="", capability=Capability.READ).context)
    assert [(row["path"], row["capabilities"], row["conditional"]) for row in rows] == [
        ("kv/*", ["list", "read"], False),
        ("kv/night", [], True),
        ("kv/team/+", ["read", "update"], False),
        ("kv/team/secret", ["deny"], False),
    ]
    assert (
        grants(compile_acl({}, root=True), Asked(path="", capability=Capability.READ).context)[0]["path"]
        == "*"
    )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    process: Process = made.first
    table = Explainer(process.policies, KnownHolders(process.store, process.tokens)).table()
    process.registry = {**process.registry, **{one.name: one for one in table}}
    routes = [route for route in policy_routes.EXPLAIN if route.operation in process.registry]
    process.routes = {**process.routes, "system": (*process.routes["system"], *routes)}
    process._door = Door(process, OperatorLog(process.clock))
    yield made
    made.close()


def ask(server: Server, path: str, body: dict[str, Any], token: str | None = None) -> Any:
    status, answer = server.call("POST", f"sys/policies/{path}", body, token)
    return answer["data"] if status == 200 else status


def test_over_the_api(server: Server) -> None:
    server.policy("p", TEXT)
    server.policy("asker", 'path "sys/policies/explain-self" { capabilities = ["update"] }')
    token = server.token(policies=["p", "asker"])
    body = {"path": "/kv/team/a", "capability": "update", "parameters": {"ttl": "2h"}}
    assert ask(server, "explain-self", body, token)["why"] == "parameters"
    assert ask(server, "explain", body, token) == 403
    assert ask(server, "explain", body) == 400
    assert ask(server, "explain", body | {"policies": ["p"], "accessor": "x"}) == 400
    assert ask(server, "explain", body | {"accessor": "x"}) == 400
    assert ask(server, "explain", body | {"entity_id": "x"}) == 400
    assert ask(server, "explain", body | {"capability": "sudo", "policies": ["p"]}) == 400
    told = ask(server, "explain", body | {"policies": ["P"]})
    assert (told["why"], told["subject"]) == ("parameters", {"policies": ["p"]})
    night = {"path": "kv/night", "capability": "read", "policies": ["p"]}
    assert ask(server, "explain", night)["why"] == "condition"
    assert ask(server, "explain", night | {"mfa": True, "time": "2027-01-01T00:00:00Z"})["allowed"]
    assert ask(server, "explain", night | {"time": "soon"}) == 400
    accessor = server.call("GET", "auth/token/lookup-self", None, token)[1]["data"]["accessor"]
    assert ask(server, "explain", body | {"accessor": accessor})["rule"] == "p:kv/team/+"
    assert ask(server, "explain", body | {"policies": ["root"]})["why"] == "root"


def test_who_and_what(server: Server) -> None:
    server.policy("p", TEXT)
    server.token(policies=["p"])
    found = ask(server, "who", {"path": "kv/team/a", "capability": "read"})
    assert found["policies"] == ["p", "root"]
    assert sorted(holder["name"] for holder in found["holders"]) == ["root", "token"]
    assert not found["more"]
    held = ask(server, "grants", {"policies": ["p", "auditor"]})["grants"]
    assert [row["path"] for row in held][:2] == ["(all evidence)", "kv/*"]


def test_a_stranger_is_nobody(server: Server) -> None:
    holders = KnownHolders(server.first.store, server.first.tokens)
    with pytest.raises(KmsError, match="no such entity"):
        holders.principal_of_entity("x", ROOT_NAMESPACE)
    with pytest.raises(KmsError, match="invalid accessor"):
        holders.principal_of_accessor("x", ROOT_NAMESPACE)
    assert [holder.principal.root for holder in holders.everybody(ROOT_NAMESPACE)] == [True]
    assert Principal().mfa is False


EXPECTATIONS = """
policies = ["texts"]
[[expect]]
policies = ["p"]
path = "kv/team/a"
capability = "read"
allowed = true
rule = "p:kv/team/+"
[[expect]]
name = "nights only with a second factor"
policies = ["p"]
path = "kv/night"
capability = "read"
time = 2027-01-01T00:00:00Z
allowed = false
why = "condition"
[[expect]]
policies = ["default"]
path = "cubbyhole/x"
capability = "create"
wrap_ttl = "5m"
allowed = true
"""


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(keystead, ["policy", *arguments])
    return done.exit_code, done.output + (f"{done.exception}" if isinstance(done.exception, KmsError) else "")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "p.hcl").write_text(TEXT)
    (tmp_path / "expect.toml").write_text(EXPECTATIONS)
    return tmp_path


def test_expectations_of_a_file(folder: Path) -> None:
    assert run("test", str(folder / "expect.toml")) == (0, "3 of 3 expectations hold\n")
    (folder / "expect.toml").write_text(EXPECTATIONS.replace("allowed = false", "allowed = true"))
    code, text = run("test", str(folder / "expect.toml"))
    assert code == 1
    assert "FAILED nights only with a second factor: allowed is False, not True" in text
    code, text = run("test", str(folder / "expect.toml"), "--format", "json")
    assert [len(row["failures"]) for row in json.loads(text)] == [0, 1, 0]


BROKEN = {
    "no TOML": "x",
    "unknown key": 'other = 1\n[[expect]]\npath = "a"\ncapability = "read"\nallowed = true',
    "no list": "expect = 1",
    "expects nothing": '[[expect]]\npath = "a"\ncapability = "read"',
    "unknown in it": '[[expect]]\npath = "a"\ncapability = "read"\nallowed = true\nwho = "x"',
    "no such text": 'policies = ["gone"]\n[[expect]]\npath = "a"\ncapability = "read"\nallowed = true',
    "no such policy": '[[expect]]\npolicies = ["gone"]\npath = "a"\ncapability = "read"\nallowed = true',
    "no capability": '[[expect]]\npath = "a"\ncapability = "fly"\nallowed = true',
    "no time": '[[expect]]\npath = "a"\ncapability = "read"\nallowed = true\ntime = "soon"',
}


@pytest.mark.parametrize("name", BROKEN)
def test_files_that_expect_nothing_fail(folder: Path, name: str) -> None:
    (folder / "broken.toml").write_text(BROKEN[name])
    code, text = run("test", str(folder / "broken.toml"))
    assert code == 1
    assert len(text) > 5


def test_texts_that_cannot_be_read(folder: Path) -> None:
    (folder / "texts" / "P.json").write_text("{}")
    assert "two files have the policy p" in run("test", str(folder / "expect.toml"))[1]
    (folder / "texts" / "P.json").unlink()
    (folder / "texts" / "bad.hcl").write_text("path")
    assert "bad.hcl" in run("test", str(folder / "expect.toml"))[1]
    (folder / "texts" / "bad.hcl").write_bytes(b"\xff")
    assert "cannot read" in run("test", str(folder / "expect.toml"))[1]


def test_explain_offline(folder: Path) -> None:
    texts = str(folder / "texts")
    code, text = run(
        "explain", "kv/team/a", "update", "--policy", "p", "--policies", texts, "--parameter", "ttl=1h"
    )
    assert code == 0
    assert text.splitlines()[:3] == ["allowed: a rule grants it", "rule: p:kv/team/+", "  p: read, update"]
    assert "needs the consent of 1 of lead (peers)" in text
    assert "less specific, so without effect: kv/*" in text
    code, text = run("explain", "kv/night", "read", "--policy", "p", "--policies", texts)
    assert (code, "does not apply: mfa" in text) == (1, True)
    code, text = run(
        "explain", "kv/night", "read", "--policy", "p", "--policies", texts, "--mfa", "--format", "json"
    )
    assert (code, json.loads(text)["allowed"]) == (0, True)
    assert "name the policies" in run("explain", "a", "read", "--policies", texts)[1]
    assert "NAME=VALUE" in run("explain", "a", "read", "--policies", texts, "--parameter", "x")[1]


def test_what_nobody_used(folder: Path) -> None:
    segments = folder / "audit" / "segments"
    segments.mkdir(parents=True)
    lines = [
        {"wall": 9e9, "event": {"rule": "p+q:kv/*"}},
        {"wall": 1.0, "event": {"rule": "p:kv/night"}},
        {"wall": 9e9, "event": {"rule": ""}},
        {"segment": "s"},
        {"wall": 9e9, "event": {"rule": "root:*"}},
        {"wall": 9e9, "event": {"rule": "default:identity/entity/id/abc"}},
    ]
    (segments / "a.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"rule"')
    arguments = ("unused", str(folder / "audit"), "--policies", str(folder / "texts"))
    code, text = run(*arguments, "--format", "json")
    rows = {(row["policy"], row["path"]): row["last"] for row in json.loads(text)}
    assert code == 1
    assert rows["p", "kv/night"] == 1.0
    assert rows["p", "kv/team/+"] == 0
    assert not {
        ("p", "kv/*"),
        ("p", "kv/team/secret"),
        ("default", "identity/entity/id/{{identity.entity.id}}"),
    } & set(rows)
    code, text = run(*arguments)
    assert "p: kv/night: last used 1970" in text
    assert "p: kv/team/+: not used as far as the log goes" in text
    assert "no audit folder" in run("unused", str(folder), "--policies", str(folder / "texts"))[1]
