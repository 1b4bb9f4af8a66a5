"""What the real server has below sys/ and we have not is what the guide to operating says, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from tests.harness.dev import DevServer
from tests.sys.sides import Side, real_server

GUIDE = Path(__file__).parents[2] / "hsm-config" / "OPERATING.md"
HEADING = "## What is not below `sys/`"
# Not in the description that the peer gives of a server without raft, or never in it.
UNDESCRIBED = frozenset({"storage/raft/*", "replication/*", "managed-keys/*", "license/*"})
OWN = (
    "control-group/request",
    "evidence*",
    "hsm/*",
    "policies/explain*",
    "policies/grants",
    "policies/who",
    "rekey-recovery-key/*",
)
"""Ours alone: what the README tells of, and the spelling of Vault that OpenBao has dropped."""

Spot = tuple[str, str]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Side]:
    with real_server(tmp_path_factory.mktemp("bao")) as side:
        yield side


@pytest.fixture
def ours(server: DevServer) -> Iterator[Side]:
    side = Side(server.address, server.token)
    yield side
    side.close()


def described(side: Side) -> dict[Spot, str]:
    """(verb, path below sys/ with every parameter alike) -> the path as it is called."""
    status, document = side.ask("GET", "sys/internal/specs/openapi")
    assert status == 200
    found: dict[Spot, str] = {}
    for path, item in document["paths"].items():
        if path.startswith("/sys/"):
            name = path.removeprefix("/sys/").rstrip("/")
            for verb in verbs(item):
                found[verb, re.sub(r"\{\w+\}", "{}", name)] = name
    return found


def verbs(item: dict[str, Any]) -> set[str]:
    """Those of one path; a list is a GET with a parameter, and so is a scan."""
    named = {method.upper() for method in ("get", "post", "patch", "delete") if method in item}
    for parameter in item.get("get", {}).get("parameters", ()):
        if parameter["name"] in ("list", "scan"):
            named.add("LIST")
            if parameter.get("required"):
                named.discard("GET")
    return named


def table() -> list[tuple[str, frozenset[str]]]:
    """(pattern, verbs; none for all) of each row."""
    section = GUIDE.read_text().partition(HEADING)[2].partition("\n#")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if "|" in line
    ]
    return [
        (pattern, frozenset() if which == "all" else frozenset(which.split(", ")))
        for patterns, which, reason in rows[2:]
        for pattern in re.findall(r"`([^`]+)`", patterns)
        if reason
    ]


def test_what_is_missing_is_what_the_table_says(ours: Side, theirs: Side) -> None:
    here, there = described(ours), described(theirs)
    rows, needed, unsaid = table(), set[str](), []
    for verb, path in sorted(there.keys() - here.keys()):
        said = [row for row in rows if fnmatchcase(path, row[0]) and (not row[1] or verb in row[1])]
        needed |= {pattern for pattern, _ in said}
        if not said:
            unsaid.append(f"{verb} {there[verb, path]}")
    assert not unsaid
    assert needed == {pattern for pattern, _ in rows} - UNDESCRIBED
    assert len(there) > 150


def test_what_is_missing_is_refused(ours: Side, theirs: Side) -> None:
    """With a root token: no such path, or no such verb there; never an answer that looks like a success."""
    here, there = described(ours), described(theirs)
    asked = [(verb, there[verb, path]) for verb, path in sorted(there.keys() - here.keys())]
    asked += [(verb, pattern) for pattern in sorted(UNDESCRIBED) for verb in ("GET", "POST", "LIST")]
    wrong = []
    for verb, path in asked:
        body: dict[str, str] | None = {} if verb in ("POST", "PATCH") else None
        status, answer = ours.ask(verb, "sys/" + re.sub(r"\{\w+\}|\*", "x", path), body)
        # GET of a prefix that can be listed elsewhere may be a verb that is not there.
        if status not in (404, 405, 415) or "data" in (answer or {}):
            wrong.append((verb, path, status, answer))
    assert not wrong
    assert len(asked) > 50


def test_what_is_ours_alone_is_known(ours: Side, theirs: Side) -> None:
    here, there = described(ours), described(theirs)
    own = {path for _, path in here.keys() - there.keys()}
    assert {path for path in own if not any(fnmatchcase(path, one) for one in OWN)} <= {"namespaces"}
