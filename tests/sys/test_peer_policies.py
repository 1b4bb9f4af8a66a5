"""Folders of policies, copies of shares, how mounts are found, sealed namespaces: as on the real server."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from tests.harness.dev import DevServer
from tests.sys.sides import Side, real_server
from tests.sys.test_peer import OWN_TEXT, STRICTER, Case, delete, differences, get, post

POLICY = {"policy": 'path "a" { capabilities = ["read"] }'}
FOLDERS = [
    post("sys/policies/acl/{m}/a", POLICY),
    post("sys/policies/acl/{m}/b/c", POLICY),
    post("sys/policies/acl/{m}", POLICY),
    post("sys/policies/acl/{m}/Upper", POLICY),
    Case("LIST", "sys/policies/acl/{m}"),
    Case("LIST", "sys/policies/acl/{m}/"),
    get("sys/policies/acl/{m}?list=true"),
    Case("LIST", "sys/policies/acl/{m}/b"),
    Case("LIST", "sys/policies/acl/{m}/b/c"),
    Case("LIST", "sys/policies/acl/m"),
    Case("LIST", "sys/policies/acl/default"),
    Case("LIST", "sys/policies/detailed/acl/{m}/b", loose=True),
    Case("LIST", "sys/policies/detailed/acl/{m}-none", loose=True),
    Case("LIST", "sys/policy/{m}"),
    Case("LIST", "sys/policy/{m}-none"),
    get("sys/policies/acl/{m}/a", loose=True),
    get("sys/policies/acl/{m}/upper", loose=True),
    get("sys/policy/{m}/b/c", loose=True),
    post("sys/policies/acl/{m}/a", POLICY),
    delete("sys/policies/acl/{m}/a"),
    get("sys/policies/acl/{m}/a"),
    delete("sys/policy/{m}/b/c"),
    Case("LIST", "sys/policies/acl/{m}"),
    post("sys/policies/acl/{m}/a/", POLICY),
    post("sys/policies/acl/{m}/a%20b", POLICY, allowed=STRICTER),
    post("sys/policies/password/{m}/p", {"policy": 'length = 20 rule "charset" { charset = "abcde" }'}),
    get("sys/policies/password/{m}/p"),
    get("sys/policies/password/{m}/p/generate", loose=True),
    get("sys/policies/password/{m}/q/generate", allowed=OWN_TEXT),
    delete("sys/policies/password/{m}/p"),
    get("sys/policies/password/{m}/p", allowed=OWN_TEXT),
]
SHARES = [
    one(path)
    for path in (
        "sys/rekey/backup",
        "sys/rekey/recovery-key-backup",
        "sys/rotate/root/backup",
        "sys/rotate/recovery/backup",
    )
    for one in (get, delete, post)
]
INSPECTED = [
    get("sys/internal/inspect/router/nope"),
    get("sys/internal/inspect/router"),
    post("sys/internal/inspect/router/root"),
    get("sys/plugins/catalog/transit"),
    get("sys/plugins/catalog/nope"),
    delete("sys/namespaces/{m}/delete-sealed"),
    post("sys/namespaces/{m}", loose=True),
    delete("sys/namespaces/{m}/delete-sealed"),
    get("{m}/sys/internal/inspect/router/root", allowed=OWN_TEXT),
]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Side]:
    with real_server(tmp_path_factory.mktemp("bao")) as side:
        yield side


@pytest.fixture
def ours(server: DevServer) -> Iterator[Side]:
    side = Side(server.address, server.token)
    yield side
    side.close()


@pytest.mark.parametrize(
    "cases",
    [
        pytest.param(FOLDERS, id="folders"),
        pytest.param(SHARES, id="shares"),
        pytest.param(INSPECTED, id="inspected"),
    ],
)
def test_the_same_answers(ours: Side, theirs: Side, cases: list[Case]) -> None:
    found = differences(ours, theirs, cases)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("tag", ["root", "uuid", "accessor", "storage"])
def test_how_mounts_are_found(ours: Side, theirs: Side, tag: str) -> None:
    """The same members of each, mounts of namespaces among them, in the order of what the tag names."""
    name = f"inspected-{secrets.token_hex(3)}"
    members = []
    for side in (ours, theirs):
        side.data("POST", f"sys/namespaces/{name}", {})
        side.data("POST", f"{name}/sys/mounts/keys", {"type": "transit"})
        shown = side.data("GET", f"sys/internal/inspect/router/{tag}")[tag]
        below = {one["mount_path"]: one for one in shown if one["mount_namespace"] == f"{name}/"}
        assert below["keys/"]["accessor"] == side.data("GET", f"{name}/sys/mounts/keys")["accessor"]
        members.append((set(below), {frozenset(one) for one in shown}, below["sys/"]["mount_type"]))
    assert members[0] == members[1]
    listed = list(ours.data("GET", f"sys/internal/inspect/router/{tag}")[tag])
    if tag in ("uuid", "accessor"):
        assert [one[tag] for one in listed] == sorted(one[tag] for one in listed)
    powerless = ours.token('path "sys/internal/inspect/*" { capabilities = ["read"] }', "inspecting")
    assert ours.ask("GET", f"sys/internal/inspect/router/{tag}", token=powerless)[0] == 403  # it wants sudo
