"""The one road of every request, and the registry of what may travel on it.

    (0) admit          seal state, limits: before anything costs
    (1) authenticate   credential -> Principal
    (2) decide         does the thing exist? then policy: create and update are different rights
    (2b) obligations   wrapping and approvals; they bind root too
    (3) intent         on record before the act, where the effect is external
    (4) act            the operation
    (5) record         outcome in the log (for state: in the commit that changes it) before any answer
    (6) answer         the door renders what `run` returns

There is no other way to an operation's handler: doors hold names, and only `Registry` holds handlers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from msgspec import structs

from kms.audit.event import Phase
from kms.audit.receipt import Receipt
from kms.audit.recorder import Recorder
from kms.clock import Clock
from kms.devices import Witnesses
from kms.errors import ErrorKind, KmsError, invalid
from kms.gate import Gate, Meter, looked_at
from kms.ids import new_event_id
from kms.notes import Notes
from kms.operation import (
    ANONYMOUS,
    Call,
    Caller,
    Capability,
    Change,
    Effect,
    Evidence,
    External,
    MountRef,
    Operation,
    Outcome,
    Principal,
    Result,
)
from kms.policy import Decision
from kms.policy.listing import bound, shown
from kms.policy.release import Claim, Consents, Demand, NoConsents, Released, claimed
from kms.registry import Registry
from kms.tables import Store, Transaction

UNWRAP: Final = "sys.wrapping.unwrap"
"""The operation that a request which waited is carried out by."""
ASKED: Final = "sys.control_group.asked"
"""What the record of a request that is put away calls it."""
_NO_MOUNT = MountRef(id="", path="", type="", accessor="")
_OPEN = Decision(allowed=True, rule="", why="public")
_ANY_TOKEN = Decision(allowed=True, rule="any-token", why="granted")


class Pipeline:
    """Runs calls. One per process, safe to use from several threads.

    Args:
        authenticate: (token, address it came from) -> Principal; raises KmsError(UNAUTHENTICATED).
        decide: (principal, call) -> Decision; pure but for its caches.
        wrap: puts an answer away in the open transaction, and gives what goes out instead.
        consents: keeps requests that wait for the consent of others.
        alarm: told of each request of a root token, before it is decided on.
        witness: the audit devices that must know of a call, if there are any.
    """

    def __init__(  # noqa: PLR0913  (one for each step of the road)
        self,
        *,
        store: Store,
        gate: Gate,
        authenticate: Callable[[str, str], Principal],
        decide: Callable[[Principal, Call], Decision],
        wrap: Callable[[Transaction, Call, Result], Result],
        recorder: Recorder,
        meter: Meter,
        clock: Clock,
        consents: Consents | None = None,
        alarm: Callable[[Call], None] = lambda _call: None,
        witness: Callable[[Call], Witnesses | None] = lambda _call: None,
    ) -> None:
        self._store = store
        self._witness = witness
        self._gate = gate
        self._authenticate = authenticate
        self._decide = decide
        self._wrap = wrap
        self._recorder = recorder
        self._meter = meter
        self._clock = clock
        self._consents = consents or NoConsents()
        self._alarm = alarm
        self._notes = Notes(recorder)

    def run(self, call: Call) -> tuple[Result, Receipt | None]:
        """Take one call down the whole road.

        Returns:
            The result, and the receipt of the record that covers it (None for counted operations).

        Raises:
            KmsError: refused, denied or failed; that is on record too (or counted) when it leaves.
        """
        call.now = self._clock.now()
        began = self._clock.monotonic()
        outcome = "ok"
        try:
            return self._run(call)
        except KmsError as error:
            outcome = error.kind.value
            raise
        finally:
            self._meter.observe(call.operation.name, outcome, self._clock.monotonic() - began)

    def crashed(self, call: Call) -> None:
        """Leave the record of a call that ended in an unexpected exception; called by the door's last resort."""
        self._recorder.write(self._notes.event(call, "failed", ErrorKind.INTERNAL.value))

    def chore(self, operation: Operation, resource: str, work: Change | External[Any]) -> Result:
        """Run background work of this server with the records of a request.

        Raises:
            KmsError: it failed; that is on record.
        """
        call = Call(
            operation=operation,
            path=resource,
            mount=_NO_MOUNT,
            args={},
            request_id=new_event_id(self._clock.now()),
            peer="",
            door="jobs",
            principal=Principal(display_name="keystead"),
            now=self._clock.now(),
        )
        self._gate.admit(operation)
        call.generation = self._store.refresh()
        if isinstance(work, Change):
            return self._change(call, "jobs", work)[0]
        return self._external(call, "jobs", work)[0]

    def _run(self, call: Call) -> tuple[Result, Receipt | None]:
        self._gate.admit(call.operation)  # (0)
        call.generation = self._store.refresh()
        self._count(call)
        witnesses = self._witness(call)
        if witnesses is None:
            return self._go_on(call, self._judge(call))
        try:
            decision = self._judge(call)
        except KmsError as error:
            witnesses.refused(error)
            raise
        return self._before(witnesses, call, decision, lambda: self._go_on(call, decision))

    def _judge(self, call: Call) -> Decision:
        if call.operation.caller is not Caller.TOKEN:
            return _OPEN
        self._identify(call)  # (1)
        if call.principal.root:
            self._alarm(call)
        return self._authorise(call)  # (2)

    def _go_on(self, call: Call, decision: Decision) -> tuple[Result, Receipt | None]:
        if call.operation.caller is Caller.TOKEN:
            restrained = self._restrained(call, decision)  # (2b)
            if isinstance(restrained, Released):
                return self._release(call, restrained)
            if restrained is not None:
                return self._defer(call, decision.rule, restrained)
        return self._obey(call, decision)

    def _before(
        self,
        witnesses: Witnesses,
        call: Call,
        decision: Decision,
        act: Callable[[], tuple[Result, Receipt | None]],
    ) -> tuple[Result, Receipt | None]:
        """Act, with audit devices that must know of the request before it and of the answer after it."""
        try:
            witnesses.request(decision.rule)
        except KmsError as error:
            self._recorder.write(self._notes.event(call, "failed", error.kind.value, rule=decision.rule))
            raise
        try:
            answer = act()
        except KmsError as error:
            witnesses.answer(decision.rule, None, error.detail)
            raise
        witnesses.answer(decision.rule, answer[0])
        return answer

    def _restrained(self, call: Call, decision: Decision) -> Released | Demand | None:
        """What else stands between a request and its act: consent that it needs, or has and brings along."""
        try:
            released = self._consents.released(call) if call.operation.name == UNWRAP else None
            return released or self._consents.demanded(call, decision)
        except KmsError as error:
            self._failed(call, decision.rule, error)
            raise

    def _defer(self, call: Call, rule: str, demand: Demand) -> tuple[Result, Receipt | None]:
        """The request is put away until others have consented; the record says so and not that it was done."""
        self._gate.admit_change(call.operation)
        with self._store.transaction() as tx:
            result = self._consents.defer(tx, call, demand)
            event = self._notes.event(call, "done", "ok", rule=rule, result=result)
            event = structs.replace(
                event, operation=ASKED, subject={**event.subject, "operation": call.operation.name}
            )
            staged = self._recorder.stage(tx, event, urgent=call.operation.sudo)
        return result, self._recorder.publish(staged)

    def _release(self, unwrapping: Call, released: Released) -> tuple[Result, Receipt | None]:
        """A request that waited, decided anew and carried out once, with consent enough."""
        call = released.call
        call.request_id, call.now = unwrapping.request_id, unwrapping.now
        call.generation, call.peer, call.door = unwrapping.generation, unwrapping.peer, unwrapping.door
        call.facts = released.facts
        self._gate.admit(call.operation)  # (0)
        if call.principal.root:
            self._alarm(call)
        decision = self._authorise(call)  # (2)
        try:
            released.settle(self._consents.demanded(call, decision))  # (2b)
        except KmsError as error:
            self._failed(call, decision.rule, error)
            raise
        witnesses = self._witness(call)
        if witnesses is None:
            return self._obey(call, decision, released.claim)
        return self._before(witnesses, call, decision, lambda: self._obey(call, decision, released.claim))

    def _obey(
        self, call: Call, decision: Decision, claim: Claim | None = None
    ) -> tuple[Result, Receipt | None]:
        rule = decision.rule
        try:
            wraps = _wraps(call)
            bound(call, decision)
            outcome = call.operation.act(call)  # (4), up to the first commit
            if isinstance(outcome, Result) and (decision.limit or decision.filter_path):
                outcome = shown(call, decision, outcome, self._sees(call))
            if claim is not None:
                outcome = claimed(outcome, claim)
            if wraps:
                outcome = self._wrapped(call, outcome)  # (2b)
            if isinstance(outcome, Result):
                return self._plain(call, rule, outcome)
            if isinstance(outcome, Change):
                return self._change(call, rule, outcome)
            return self._external(call, rule, outcome)
        except KmsError as error:
            self._failed(call, rule, error)
            raise

    def _count(self, call: Call) -> None:
        try:
            if call.namespace.id:
                self._gate.enter(call)
            self._gate.count(call)
        except KmsError as error:
            # Whoever asks too often must not fill the log with that.
            self._recorder.refuse(self._notes.event(call, "refused", error.kind.value))
            raise

    def _identify(self, call: Call) -> None:
        try:
            call.principal = self._authenticate(call.credential, call.peer)
        except KmsError as error:
            if error.kind is ErrorKind.UNAUTHENTICATED:
                # Anonymous callers must not be able to fill the log: the recorder writes the first
                # few of a source in full and counts the rest.
                self._recorder.refuse(self._notes.event(call, "refused", error.kind.value))
                if call.operation.no_credential:
                    raise invalid(call.operation.no_credential) from None
            raise
        if call.principal.namespace is call.namespace and call.operation.belongs is None:
            return  # nearly always, and always on a server without namespaces
        looked = looked_at(call)
        if looked is not call and looked.namespace.id:
            self._gate.enter(looked)
        if not call.principal.namespace.covers(looked.namespace):
            # A policy cannot reach out of its namespace; this is for what every token may do.
            self._recorder.write(self._notes.event(call, "denied", ErrorKind.DENIED.value))
            raise KmsError(ErrorKind.DENIED, "permission denied")

    def _sees(self, call: Call) -> Callable[[str, Capability], bool]:
        """Whether the caller could read a path or list it, for listings that show nothing else."""

        def may_see(path: str, capability: Capability) -> bool:
            looked_at = replace(call, path=path, capability=capability, args={}, given=frozenset(), extra={})
            return self._decide(call.principal, looked_at).allowed

        return may_see

    def _authorise(self, call: Call) -> Decision:
        operation = call.operation
        call.capability = operation.capability
        if operation.exists is not None and not operation.exists(call):
            call.capability = Capability.CREATE
        if operation.any_token:
            return _ANY_TOKEN
        moves = operation.of_itself or operation.belongs is not None
        try:
            decision = self._decide(call.principal, looked_at(call) if moves else call)
        except KmsError as error:
            # A value of the caller's identity that cannot stand in a pattern.
            self._recorder.write(self._notes.event(call, "denied", error.kind.value))
            raise
        if not decision.allowed:
            self._recorder.write(
                self._notes.event(call, "denied", ErrorKind.DENIED.value, rule=decision.rule)
            )
            raise KmsError(ErrorKind.DENIED, "permission denied")
        return decision

    def _wrapped(self, call: Call, outcome: Outcome) -> Change | External[Any]:
        """The same act, whose answer is put away in the commit of its record."""
        if isinstance(outcome, Result):
            return Change(lambda tx: self._wrap(tx, call, outcome))
        if isinstance(outcome, Change):
            return replace(outcome, write=lambda tx: self._wrap(tx, call, outcome.write(tx)))
        answer = outcome.answer if outcome.begin is None else None

        def conclude(tx: Transaction, done: Any) -> Result:
            return self._wrap(tx, call, answer(done) if answer is not None else outcome.conclude(tx, done))

        return replace(outcome, conclude=conclude, answer=None)

    def _plain(self, call: Call, rule: str, result: Result) -> tuple[Result, Receipt | None]:
        if call.operation.evidence is Evidence.COUNTED:
            self._recorder.count(call.operation.name)
            return result, None
        event = self._notes.event(call, "done", "ok", rule=rule, result=result)
        if call.operation.caller is not Caller.TOKEN and call.principal is ANONYMOUS:
            # Whoever it is may ask without end; the first few of a source are written in full.
            return result, self._recorder.refuse(event)
        return result, self._recorder.write(event, urgent=call.operation.sudo)

    def _change(self, call: Call, rule: str, change: Change) -> tuple[Result, Receipt | None]:
        if not call.wrap_ttl and not call.facts:  # an answer put away, or a consent used up, is a change
            _demand(call, Effect.STATE, Effect.EXTERNAL)
        self._gate.admit_change(call.operation)
        with self._store.transaction() as tx:
            if call.namespace.id:
                self._gate.stay(tx, call)
            result = change.write(tx)
            refusal = result.refusal
            phase: Phase = "done" if refusal is None else "failed"
            outcome = "ok" if refusal is None else refusal.kind.value
            event = self._notes.event(call, phase, outcome, rule=rule, result=result)
            staged = self._recorder.stage(tx, event, urgent=call.operation.sudo)
        if change.after is not None:
            change.after()
        receipt = self._recorder.publish(staged)
        if refusal is not None:
            refusal.recorded = True
            raise refusal
        return result, receipt

    def _external(self, call: Call, rule: str, external: External[Any]) -> tuple[Result, Receipt | None]:
        _demand(call, Effect.EXTERNAL)
        self._gate.admit_change(call.operation)
        self._intend(call, rule, external)  # (3)
        try:
            done = external.perform()
            if external.begin is None and external.answer is not None:
                result = external.answer(done)
                return result, self._recorder.conclude(
                    self._notes.event(call, "outcome", "ok", rule=rule, result=result)
                )
            with self._store.transaction() as tx:
                result = external.conclude(tx, done)
                event = self._notes.event(call, "outcome", "ok", rule=rule, result=result)
                staged = self._recorder.stage(tx, event)
        except KmsError as error:
            with self._store.transaction() as tx:
                external.abandon(tx, error)
                event = self._notes.event(
                    call, "outcome", error.kind.value, rule=rule, subject=external.intent
                )
                staged = self._recorder.stage(tx, event)
            self._recorder.publish(staged)
            error.recorded = True
            raise
        if external.after is not None:
            external.after()
        return result, self._recorder.publish(staged)

    def _intend(self, call: Call, rule: str, external: External[Any]) -> None:
        event = self._notes.event(call, "intent", "ok", rule=rule, subject=external.intent)
        if external.begin is None:
            self._recorder.intend(event, urgent=call.operation.sudo)
            return
        with self._store.transaction() as tx:
            if call.namespace.id:
                self._gate.stay(tx, call)
            external.begin(tx)
            staged = self._recorder.stage(tx, event, urgent=call.operation.sudo)
        self._recorder.publish(staged)

    def _failed(self, call: Call, rule: str, error: KmsError) -> None:
        if error.recorded or call.operation.evidence is Evidence.COUNTED:
            return
        # When the log itself is the trouble there is nothing to write to; nothing was done either.
        if error.kind is ErrorKind.AUDIT_UNAVAILABLE:
            return
        event = self._notes.event(call, "failed", error.kind.value, rule=rule)
        # Nor must a proof that failed fill the log: until it holds, nobody knows who it is.
        if call.operation.caller is not Caller.TOKEN and not call.principal.accessor:
            self._recorder.refuse(event)
        else:
            self._recorder.write(event)


def _wraps(call: Call) -> bool:
    """Whether the answer is to be wrapped. What the public may see is not, as on the peer."""
    if not call.wrap_ttl:
        return False
    if call.operation.caller is not Caller.PUBLIC:
        return True
    if call.operation.effect is not Effect.NONE:
        # Answering in clear what was asked for wrapped would hand the secret to the wrong party.
        raise invalid("this answer cannot be wrapped; send the request without X-Vault-Wrap-TTL")
    return False


def _demand(call: Call, *effects: Effect) -> None:
    if call.operation.effect not in effects:
        raise TypeError(f"{call.operation.name} is declared '{call.operation.effect}' but returned more")


__all__ = ["Gate", "Meter", "Pipeline", "Registry"]
