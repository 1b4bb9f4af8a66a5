"""The one road: what is refused, what is recorded, and in which order, over a real log and database."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kms.audit.event import Event
from kms.audit.recorder import Recorder
from kms.audit.store import INTENTS
from kms.clock import SystemClock
from kms.errors import ErrorKind, KmsError, invalid
from kms.ids import MountId, new_uuid
from kms.operation import (
    Call,
    Caller,
    Capability,
    Change,
    Effect,
    Evidence,
    External,
    Field,
    MountRef,
    Operation,
    Principal,
    Record,
    Release,
    Result,
)
from kms.pipeline import Pipeline, Registry
from kms.policy import Decision
from kms.resolving import resolve_intents
from kms.storage import SqliteStore
from kms.system.instance import INSTANCE, Instance
from kms.tables import Transaction
from tests.support import make_store

MOUNT = MountRef(MountId("m"), "t/", "test", "test_1")
ALICE = Principal(accessor="acc", token_id="tid", display_name="alice", policies=("p",))


class Road:
    """A pipeline whose identity, policy and gate are scripted, over a real recorder and store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store: SqliteStore = make_store(folder / "storage")
        self.clock = SystemClock()
        self.recorder = Recorder.open(folder / "audit", self.store, self.clock, origin="keystead/test")
        self.closed = self.refuse_change = False
        self.refuse_state: ErrorKind | None = None
        self.meter: list[tuple[str, str]] = []
        self.wrapped: list[Result] = []
        self.limited = False
        self.pipeline = Pipeline(
            store=self.store,
            gate=self,
            authenticate=self.authenticate,
            decide=self.decide,
            wrap=self.wrap,
            recorder=self.recorder,
            meter=self,
            clock=self.clock,
        )

    def count(self, _call: Call) -> None:
        if self.limited:
            raise KmsError(ErrorKind.RATE_LIMITED, "too many")

    def wrap(self, _tx: Transaction, _call: Call, result: Result) -> Result:
        self.wrapped.append(result)
        return Result(wrap={"token": "made"})

    def close_log(self) -> None:
        if not self.closed:
            self.closed = True
            self.recorder.close()

    def admit(self, _operation: Operation) -> None:
        if self.refuse_state is not None:
            raise KmsError(self.refuse_state, "not now")

    def enter(self, call: Call) -> None:
        del call

    def stay(self, tx: Transaction, call: Call) -> None:
        del tx, call

    def admit_change(self, _operation: Operation) -> None:
        if self.refuse_change:
            raise KmsError(ErrorKind.AUDIT_UNAVAILABLE, "the log is behind")

    def authenticate(self, token: str, _peer: str) -> Principal:
        if token != "good":
            raise KmsError(ErrorKind.UNAUTHENTICATED, "permission denied")
        return ALICE

    def decide(self, _principal: Principal, call: Call) -> Decision:
        allowed = "denied" not in call.path
        return Decision(allowed=allowed, rule="p:t/*" if allowed else "", why="scripted")

    def observe(self, operation: str, outcome: str, _seconds: float) -> None:
        self.meter.append((operation, outcome))

    def run(self, operation: Operation, path: str = "t/x", token: str = "good", **args: Any) -> Result:
        call = Call(operation, path, MOUNT, args, new_uuid(), "127.0.0.1", "test", token, frozenset(args))
        return self.pipeline.run(call)[0]

    def records(self) -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = []
        for path in sorted((self.folder / "audit" / "segments").iterdir()):
            written = path.read_text().splitlines()
            lines.extend(json.loads(line)["event"] for line in written if '"event"' in line)
        return lines

    def phases(self) -> list[tuple[str, str]]:
        return [(event["phase"], event.get("outcome", "ok")) for event in self.records()]


@pytest.fixture(name="road")
def _road(tmp_path: Path) -> Iterator[Road]:
    road = Road(tmp_path)
    yield road
    road.close_log()
    road.store.close()


def operation(act: Callable[[Call], Any], **declared: Any) -> Operation:
    return Operation("test.op", declared.pop("capability", Capability.UPDATE), act, **declared)


def never(_call: Call) -> Result:
    raise AssertionError("the handler must not run")


def _insert(tx: Transaction, name: str) -> None:
    tx.insert(INSTANCE, name, Instance(id=name, cluster_name="c", created=0))


_ILLEGAL = {
    "counted with a token": {"evidence": Evidence.COUNTED},
    "counted with an effect": {
        "evidence": Evidence.COUNTED,
        "caller": Caller.PUBLIC,
        "effect": Effect.STATE,
    },
    "external without resolve": {"effect": Effect.EXTERNAL},
    "streaming with an effect": {"release": Release.STREAM, "effect": Effect.STATE},
    "any token may change": {"any_token": True, "effect": Effect.STATE},
    "exists on a read": {"exists": lambda _call: True, "capability": Capability.READ},
}


@pytest.mark.parametrize("declared", _ILLEGAL.values(), ids=_ILLEGAL.keys())
def test_the_registry_refuses_what_the_design_forbids(declared: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"test\.op"):
        Registry([[operation(never, **declared)]])


def test_the_registry_refuses_a_name_twice() -> None:
    with pytest.raises(ValueError, match="twice"):
        Registry([[operation(never)], [operation(never)]])


def test_a_server_that_is_not_ready_does_not_even_look_at_the_token(road: Road) -> None:
    road.refuse_state = ErrorKind.SEALED
    with pytest.raises(KmsError) as error:
        road.run(operation(never), token="bad")
    assert error.value.kind is ErrorKind.SEALED


def test_a_call_too_many_costs_nothing_but_its_record(road: Road) -> None:
    road.limited = True
    with pytest.raises(KmsError) as refused:
        road.run(operation(never), token="bad")
    assert refused.value.kind is ErrorKind.RATE_LIMITED
    (event,) = road.records()
    assert (event["phase"], event["outcome"]) == ("refused", "rate_limited")


def test_an_unknown_caller_is_refused_on_record(road: Road) -> None:
    with pytest.raises(KmsError) as error:
        road.run(operation(never), token="bad")
    assert error.value.kind is ErrorKind.UNAUTHENTICATED
    assert road.phases() == [("refused", "unauthenticated")]
    assert road.meter == [("test.op", "unauthenticated")]


def test_a_denied_caller_is_on_record_and_nothing_ran(road: Road) -> None:
    with pytest.raises(KmsError) as error:
        road.run(operation(never), path="t/denied")
    assert error.value.kind is ErrorKind.DENIED
    (event,) = road.records()
    assert (event["phase"], event["principal"]["display_name"], event["resource"]) == (
        "denied",
        "alice",
        "t/denied",
    )


def _give(outcome: Any, _call: Call) -> Any:
    return outcome


def _nothing(_intent: object) -> None:
    return None


def _wrapping(road: Road, op: Operation) -> Result:
    call = Call(op, "t/x", MOUNT, {}, new_uuid(), "127.0.0.1", "test", "good", wrap_ttl=60)
    return road.pipeline.run(call)[0]


def test_an_answer_that_is_to_be_wrapped_is_put_away_in_the_commit_of_its_record(road: Road) -> None:
    state = Change(lambda _tx: Result({"x": 2}))
    leaf = External(
        {},
        None,
        lambda: 3,
        lambda _tx, _done: Result(),
        lambda _tx, _error: None,
        answer=lambda x: Result({"x": x}),
    )
    stored = External(
        {}, lambda _tx: None, lambda: 4, lambda _tx, x: Result({"x": x}), lambda _tx, _error: None
    )
    for number, (outcome, effect) in enumerate(
        (
            (Result({"x": 1}), Effect.NONE),
            (state, Effect.STATE),
            (leaf, Effect.EXTERNAL),
            (stored, Effect.EXTERNAL),
        ),
        1,
    ):
        resolve = _nothing if effect is Effect.EXTERNAL else None
        answer = _wrapping(road, operation(partial(_give, outcome), effect=effect, resolve=resolve))
        assert (answer.wrap, answer.data) == ({"token": "made"}, None)
        assert road.wrapped[-1].data == {"x": number}


def test_what_the_public_sees_is_not_wrapped_and_what_it_changes_is_refused(road: Road) -> None:
    shown = _wrapping(road, operation(lambda _call: Result({"x": 1}), caller=Caller.PUBLIC))
    assert shown.data == {"x": 1}
    with pytest.raises(KmsError) as error:
        _wrapping(road, operation(never, caller=Caller.PUBLIC, effect=Effect.STATE))
    assert error.value.kind is ErrorKind.INVALID


def test_the_record_is_in_the_file_when_the_answer_exists(road: Road) -> None:
    fields = (Field("secret"), Field("version", record=Record.CLEAR), Field("unsent", record=Record.CLEAR))
    result = road.run(
        operation(lambda _call: Result({"x": 1}, items=3, subject={"key": "k"}), fields=fields),
        secret="canary",
        version="7",
    )
    assert result.data == {"x": 1}
    (event,) = road.records()
    assert (event["phase"], event["items"], event["subject"]) == ("done", 3, {"key": "k"})
    assert event["fields"] == {"version": "7"}
    assert "canary" not in json.dumps(event)


def test_no_record_no_answer(road: Road) -> None:
    road.close_log()
    with pytest.raises(KmsError) as error:
        road.run(operation(lambda _call: Result({"x": 1})))
    assert error.value.kind is ErrorKind.AUDIT_UNAVAILABLE


def test_no_record_no_change(road: Road) -> None:
    road.close_log()
    with pytest.raises(KmsError) as error:
        road.run(operation(lambda _c: Change(lambda tx: _done(tx, "a")), effect=Effect.STATE))
    assert error.value.kind is ErrorKind.AUDIT_UNAVAILABLE
    assert road.store.reader().keys(INSTANCE) == []


def test_a_log_that_is_behind_stops_changes_and_not_reads(road: Road) -> None:
    road.refuse_change = True
    maker = operation(lambda _c: Change(lambda tx: _done(tx, "a")), effect=Effect.STATE)
    with pytest.raises(KmsError, match="behind"):
        road.run(maker)
    assert road.store.reader().keys(INSTANCE) == []
    road.run(operation(lambda _c: Result({"x": 1}), effect=Effect.STATE))


def _done(tx: Transaction, name: str) -> Result:
    _insert(tx, name)
    return Result({"made": name})


def test_a_change_and_its_record_share_a_commit(road: Road) -> None:
    after: list[str] = []
    change = Change(lambda tx: _done(tx, "a"), after=lambda: after.append("told"))
    road.run(operation(lambda _c: change, effect=Effect.STATE))
    assert road.store.reader().keys(INSTANCE) == ["a"]
    assert road.phases() == [("done", "ok")]
    assert after == ["told"]


def test_a_change_that_fails_leaves_nothing_but_its_record(road: Road) -> None:
    def write(tx: Transaction) -> Result:
        _insert(tx, "a")
        raise invalid("half way")

    with pytest.raises(KmsError, match="half way"):
        road.run(operation(lambda _c: Change(write), effect=Effect.STATE))
    assert road.store.reader().keys(INSTANCE) == []
    assert road.phases() == [("failed", "invalid")]


def test_a_try_that_fails_counts_and_is_refused(road: Road) -> None:
    def write(tx: Transaction) -> Result:
        _insert(tx, "tried")
        return Result(refusal=KmsError(ErrorKind.DENIED, "wrong code"))

    with pytest.raises(KmsError, match="wrong code") as refused:
        road.run(operation(lambda _c: Change(write), effect=Effect.STATE))
    assert refused.value.recorded
    assert road.store.reader().keys(INSTANCE) == ["tried"]
    assert road.phases() == [("failed", "denied")]


def test_an_operation_cannot_do_more_than_it_declared(road: Road) -> None:
    with pytest.raises(TypeError, match="declared"):
        road.run(operation(lambda _c: Change(lambda tx: _done(tx, "a"))))
    assert road.store.reader().keys(INSTANCE) == []


def test_create_and_update_are_different_rights(road: Road) -> None:
    seen: list[Capability] = []

    def act(call: Call) -> Result:
        seen.append(call.capability)
        return Result()

    road.run(operation(act, exists=lambda _call: False))
    road.run(operation(act, exists=lambda _call: True))
    assert seen == [Capability.CREATE, Capability.UPDATE]


def _external(road: Road, perform: Callable[[], str]) -> External[str]:
    def conclude(tx: Transaction, made: str) -> Result:
        row = tx.get(INSTANCE, "planned")
        assert row is not None
        tx.replace(INSTANCE, row, msgspec.structs.replace(row.value, cluster_name=made))
        return Result({"made": made}, subject={"made": made})

    def abandon(tx: Transaction, _error: KmsError) -> None:
        row = tx.get(INSTANCE, "planned")
        assert row is not None
        tx.delete(INSTANCE, row)

    def begin(tx: Transaction) -> None:
        if road.store.reader().get(INSTANCE, "planned") is None:
            _insert(tx, "planned")

    return External({"plan": "p"}, begin, perform, conclude, abandon)


def test_an_external_act_has_its_intent_on_record_before_it_happens(road: Road) -> None:
    def perform() -> str:
        assert road.phases() == [("intent", "ok")]
        assert road.store.reader().keys(INSTANCE) == ["planned"]
        return "done"

    external = _external(road, perform)
    road.run(operation(lambda _c: external, effect=Effect.EXTERNAL, resolve=lambda _i: None))
    assert road.phases() == [("intent", "ok"), ("outcome", "ok")]


def test_an_external_act_that_fails_is_abandoned_on_record_once(road: Road) -> None:
    def perform() -> str:
        raise KmsError(ErrorKind.HSM_UNAVAILABLE, "gone")

    external = _external(road, perform)
    with pytest.raises(KmsError, match="gone"):
        road.run(operation(lambda _c: external, effect=Effect.EXTERNAL, resolve=lambda _i: None))
    assert road.phases() == [("intent", "ok"), ("outcome", "hsm_unavailable")]
    assert road.store.reader().keys(INSTANCE) == []
    assert road.store.reader().keys(INTENTS) == []


def _unplanned(perform: Callable[[], str], answer: Callable[[str], Result] | None) -> Operation:
    def conclude(tx: Transaction, done: str) -> Result:
        _insert(tx, done)
        return Result({"made": done})

    def abandon(tx: Transaction, _error: KmsError) -> None:
        _insert(tx, "abandoned")

    external = External({"name": "x"}, None, perform, conclude, abandon, answer=answer)
    return operation(lambda _c: external, effect=Effect.EXTERNAL, resolve=lambda _i: None)


@pytest.mark.parametrize("stored", [True, False])
def test_an_act_that_plans_nothing_has_its_intent_in_the_log_alone(road: Road, stored: bool) -> None:
    def perform() -> str:
        assert road.phases() == [("intent", "ok")]
        assert road.store.reader().keys(INTENTS) == []
        return "done"

    answer = None if stored else lambda done: Result({"made": done})
    assert road.run(_unplanned(perform, answer)).data == {"made": "done"}
    assert road.phases() == [("intent", "ok"), ("outcome", "ok")]
    assert road.store.reader().keys(INSTANCE) == (["done"] if stored else [])
    road.close_log()
    assert road.store.reader().keys(INTENTS) == []


def test_an_act_that_planned_nothing_and_fails_is_abandoned_on_record(road: Road) -> None:
    def perform() -> str:
        raise KmsError(ErrorKind.INTEGRITY, "wrong")

    with pytest.raises(KmsError, match="wrong"):
        road.run(_unplanned(perform, lambda done: Result({"made": done})))
    assert road.phases() == [("intent", "ok"), ("outcome", "integrity")]
    assert road.store.reader().keys(INSTANCE) == ["abandoned"]


_RESOLUTIONS: dict[str, tuple[bool, str]] = {
    "it can be finished": (True, "ok"),
    "nobody knows": (False, "unknown"),
}


@pytest.mark.parametrize(("knows", "outcome"), _RESOLUTIONS.values(), ids=_RESOLUTIONS.keys())
def test_an_intent_that_a_crash_left_is_closed(road: Road, knows: bool, outcome: str) -> None:
    class CrashError(BaseException):
        pass

    def perform() -> str:
        raise CrashError

    declared = operation(
        lambda _c: _external(road, perform),
        effect=Effect.EXTERNAL,
        resolve=lambda _intent: _external(road, lambda: "found") if knows else None,
    )
    with pytest.raises(CrashError):
        road.run(declared)
    assert len(road.store.reader().keys(INTENTS)) == 1
    left = [
        msgspec.convert(msgspec.json.decode(row.value.event), type=Event)
        for row in road.store.reader().scan(INTENTS)
    ]
    closed = resolve_intents(Registry([[declared]]), left, store=road.store, recorder=road.recorder)
    assert [event.outcome for event in closed] == [outcome]
    assert road.phases() == [("intent", "ok"), ("outcome", outcome)]
    assert road.store.reader().keys(INTENTS) == []


def test_a_public_operation_may_be_counted(road: Road) -> None:
    road.run(
        operation(lambda _c: Result({"x": 1}), caller=Caller.PUBLIC, evidence=Evidence.COUNTED),
        token="",
    )
    assert road.records() == []
    road.close_log()
    (event,) = road.records()
    assert (event["phase"], event["fields"]["counts"]) == ("counted", {"test.op": 1})


def test_background_work_is_on_record_like_a_request(road: Road) -> None:
    declared = operation(never, effect=Effect.EXTERNAL, resolve=lambda _i: None)
    road.pipeline.chore(declared, "engine/m", _external(road, lambda: "done"))
    road.pipeline.chore(declared, "sys/rotate", Change(lambda tx: _done(tx, "b")))
    assert road.phases() == [("intent", "ok"), ("outcome", "ok"), ("done", "ok")]
    assert {event["door"] for event in road.records()} == {"jobs"}
