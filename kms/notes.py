"""What a call leaves in the log: who asked for what, under which rule, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kms.audit.event import Actor, Event, Phase
from kms.audit.recorder import Recorder
from kms.operation import Call, Record, Result


class Notes:
    """Makes events of calls. One per pipeline.

    Args:
        recorder: whose key the fields are hashed with that are not kept in clear.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._kinds: dict[str, dict[str, Record]] = {}  # operation -> field -> how it is recorded

    def event(
        self,
        call: Call,
        phase: Phase,
        outcome: str,
        *,
        rule: str = "",
        result: Result | None = None,
        subject: Mapping[str, str | int] | None = None,
    ) -> Event:
        """What happened to a call.

        Args:
            call: whose.
            phase: of the record.
            outcome: "ok", or the kind of the refusal.
            rule: that decided.
            result: of an act that is done.
            subject: facts, where they are not the result's.
        """
        principal = call.principal
        facts = subject if subject is not None else (result.subject if result is not None else {})
        return Event(
            id=call.request_id,
            phase=phase,
            door=call.door,
            operation=call.operation.name,
            resource=call.path,
            principal=Actor(
                accessor=principal.accessor,
                display_name=principal.display_name,
                entity_id=principal.entity_id,
                policies=principal.policies,
            ),
            rule=rule,
            outcome=outcome,
            items=result.items if result is not None else 0,
            subject=dict(facts),
            fields=self._fields(call),
            peer=call.peer,
            generation=call.generation,
            namespace=call.namespace.id,
        )

    def _fields(self, call: Call) -> dict[str, Any]:
        if call.noted is None:  # intent and outcome say the same
            call.noted = self._note(call)
        return {**call.noted, "control_group": dict(call.facts)} if call.facts else call.noted

    def _note(self, call: Call) -> dict[str, Any]:
        kinds = self._kinds.get(call.operation.name)
        if kinds is None:
            # Few fields of many are given: look those up, and not all of them for each record.
            kinds = {field.name: field.record for field in call.operation.fields}
            self._kinds[call.operation.name] = kinds
        kept: dict[str, Any] = {}
        for name in sorted(call.given):
            kind = kinds.get(name, Record.OMIT)
            if kind is Record.OMIT:
                continue
            value = call.args.get(name)
            kept[name] = value if kind is Record.CLEAR else self._recorder.hmac(str(value).encode())
        return kept
