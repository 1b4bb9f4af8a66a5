"""Dual control in process: who is who, what counts as consent, what the operator may write."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from kms.app.alarms import RootAlarm
from kms.app.policing import KINDS
from kms.config.sections import AcmeSection, ApprovalsSection, check_sections
from kms.errors import KmsError
from kms.identity.consent.counting import lifetime, missing
from kms.identity.consent.demands import OperatorDemands
from kms.identity.consent.model import Approval, Waiting
from kms.identity.consent.operations import told
from kms.identity.consent.people import groups_of, known, persons
from kms.metrics import Meter
from kms.operation import (
    ROOT_NAMESPACE,
    Call,
    Capability,
    Field,
    MountRef,
    Operation,
    Principal,
    Record,
    Result,
)
from kms.oplog import OperatorLog
from kms.policy.model import ControlGroup, Factor
from tests.identity.wire import FakeClock, Server

NOW = 1_800_000_000.0
FACTOR = Factor(
    name="ops", capabilities=("read",), groups=("managers",), policies=("custodian",), approvals=2
)
GROUP = ControlGroup(factors=(FACTOR,), ttl=3_600)


def approval(person: str, *, at: float = NOW, policy: str = "custodian", entity: str = "") -> Approval:
    return Approval(
        persons=(person,),
        entity_id=entity,
        shown=person,
        accessor=person,
        groups=(),
        policies=(policy,),
        at=at,
    )


def waiting(*approvals: Approval) -> Waiting:
    return Waiting(
        accessor="w",
        operation="x.read",
        path="x/a",
        capability="read",
        mount_id="m",
        arguments=json.dumps({"args": {"name": "a", "secret": "s"}, "extra": {"odd": 1}}).encode(),
        given=("name", "secret", "bound"),
        bound=("bound",),
        wrap_ttl=0,
        idempotency_key="",
        token="t",
        token_accessor="ta",
        entity_id="e",
        shown="joe",
        persons=("login/m/joe",),
        groups=(GROUP,),
        created=NOW,
        expires_at=NOW + 60,
        approvals=approvals,
    )


ANN, BOB, JOE = approval("login/m/ann"), approval("login/m/bob"), approval("login/m/joe")
COUNTED: dict[str, tuple[tuple[Approval, ...], ControlGroup, bool]] = {
    "nobody": ((), GROUP, False),
    "one of two": ((ANN,), GROUP, False),
    "two": ((ANN, BOB), GROUP, True),
    "the one who asked": ((ANN, JOE), GROUP, False),
    "the one who asked, where that is allowed": ((ANN, JOE), replace(GROUP, self_allowed=True), True),
    "somebody else": ((ANN, approval("login/m/eve", policy="other")), GROUP, False),
    "too long ago": ((ANN, approval("login/m/bob", at=NOW - 3_600)), GROUP, False),
    "just in time": ((ANN, approval("login/m/bob", at=NOW - 3_599)), GROUP, True),
    "by a group": ((ANN, approval("entity/1", policy="", entity="1")), GROUP, True),
    "by another group": ((ANN, approval("entity/2", policy="", entity="2")), GROUP, False),
    "of an entity that is gone": ((ANN, approval("entity/3", entity="3")), GROUP, False),
    "of a factor for other requests": (
        (),
        ControlGroup(factors=(replace(FACTOR, capabilities=("list",)),)),
        True,
    ),
}


@pytest.mark.parametrize("name", COUNTED)
def test_consent_counts(name: str) -> None:
    approvals, group, enough = COUNTED[name]
    groups = {"": (), "1": ("managers",), "2": ("others",), "3": None}
    lacking = missing(waiting(*approvals), [group], "read", NOW, groups.__getitem__)
    assert (not lacking) is enough, lacking


def test_the_shortest_time_counts() -> None:
    assert lifetime([GROUP, replace(GROUP, ttl=60), replace(GROUP, ttl=0)], 7_200) == 60
    assert lifetime([replace(GROUP, ttl=0)], 7_200) == 7_200
    assert lifetime([], 0) == 86_400


def test_those_who_are_asked_see_what_the_log_keeps_in_clear() -> None:
    fields = (Field("name", record=Record.CLEAR), Field("secret"))
    data = told(
        waiting(ANN),
        Operation("x.read", Capability.READ, lambda _c: Result(), fields=fields),
        ROOT_NAMESPACE,
        approved=False,
    )
    assert data["request_data"] == {"name": "a", "secret": "(not shown)", "odd": "(not shown)"}
    assert data["factors"][0]["approvals"] == 2
    assert told(waiting(), None, ROOT_NAMESPACE, approved=False)["request_data"]["name"] == "(not shown)"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.close()


def test_children_are_the_same_person(server: Server) -> None:
    server.policy("maker", 'path "auth/token/*" { capabilities = ["update", "sudo"] }')
    parent = server.token(policies=["maker"])
    child, orphan = server.token(parent), server.token(parent, no_parent=True)
    tokens, reader = server.first.tokens, server.first.store.reader()

    def names(token: str) -> tuple[str, ...]:
        return persons(tokens, reader, tokens.key_of(token))

    assert names(parent) == names(child) == names(server.root) != names(orphan)
    assert not known(names(child))
    assert not known(persons(tokens, reader, "gone"))
    assert known(("login/m/x",))
    assert groups_of(tokens, "") == ()
    assert groups_of(tokens, "gone") is None


def test_what_the_operator_demands() -> None:
    section = ApprovalsSection(operations=("export",), paths=("a/+/b", "c/*"), policies=("Custodian",))
    demands = OperatorDemands(section, KINDS)
    assert demands.of("transit.export", "anything")
    assert [demands.of("x", path) != () for path in ("a/1/b", "a/1/c", "c/d", "b")] == [
        True,
        False,
        True,
        False,
    ]
    assert demands.of("transit.export", "")[0].factors[0].policies == ("custodian",)
    assert OperatorDemands(None, KINDS).of("transit.export", "a") == ()


REFUSED = {
    "nobody": ApprovalsSection(operations=("export",)),
    "nothing": ApprovalsSection(groups=("g",)),
    "no path": ApprovalsSection(groups=("g",), paths=("",)),
    "slash": ApprovalsSection(groups=("g",), paths=("/a",)),
    "wildcards": ApprovalsSection(groups=("g",), paths=("a/+*",)),
    "template": ApprovalsSection(groups=("g",), paths=("a/{{x}}",)),
    "no time": ApprovalsSection(groups=("g",), operations=("export",), max_ttl="0"),
    "nonsense": ApprovalsSection(groups=("g",), operations=("export",), max_ttl="soon"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_section_that_demands_nothing_refuses_to_start(name: str) -> None:
    with pytest.raises(KmsError, match="approvals"):
        check_sections(AcmeSection(), REFUSED[name], "file")


def test_networks_are_networks() -> None:
    check_sections(AcmeSection(), None, "file")
    with pytest.raises(KmsError, match="acme"):
        check_sections(AcmeSection(networks=("x",)), None, "file")


def test_every_use_of_root_alarms_and_a_flood_is_summed() -> None:
    clock = FakeClock()
    read, write = os.pipe()
    alarm = RootAlarm(clock, OperatorLog(clock, "worker", write), Meter(clock))
    operation = Operation("x.read", Capability.READ, lambda _call: Result())
    call = Call(
        operation,
        "x/a",
        MountRef("", "", "", ""),
        {},
        "id",
        "::1",
        "vault",
        principal=Principal(accessor="acc"),
    )
    for _ in range(5):
        alarm(call)
    clock.sleep(1)
    alarm(call)
    os.close(write)
    with os.fdopen(read) as file:
        lines = [json.loads(line) for line in file]
    assert [(line["event"], line["uses"], line["accessor"]) for line in lines] == [
        ("root_token_used", 1, "acc"),
        ("root_token_used", 5, "acc"),
    ]
