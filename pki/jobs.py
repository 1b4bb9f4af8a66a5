"""The CA's background work, recorded like requests: intent, act, outcome.

Signing a CRL is an act of the CA's key, so it stands in the audit log whoever asked for it.
"""

from __future__ import annotations

from typing import Any

from kms.audit import Recorder
from kms.audit.event import Actor, Event, Phase
from kms.clock import Clock
from kms.errors import KmsError
from kms.ids import new_uuid
from kms.tables import Store
from pki.service import Chore, PkiService


class Chores:
    """Runs what has come due. One, in the jobs process.

    Args:
        service: of this process.
        store: its database.
        recorder: its segment.
    """

    def __init__(self, service: PkiService, store: Store, recorder: Recorder, clock: Clock) -> None:
        self._service = service
        self._store = store
        self._recorder = recorder
        self._clock = clock

    def run(self) -> int:
        """Do all that is due; returns how much that was.

        Raises:
            KmsError: the first failure, after its record; the rest is tried the next time.
        """
        self._store.refresh()
        done = 0
        for chore in list(self._service.chores(self._clock.now())):
            self._one(chore)
            done += 1
        return done

    def _one(self, chore: Chore) -> None:
        event_id, external = new_uuid(), chore.external
        with self._store.transaction() as tx:
            external.begin(tx)
            staged = self._recorder.stage(tx, self._event(event_id, chore, "intent", "ok", external.intent))
        self._recorder.publish(staged)
        try:
            made = external.perform()
            with self._store.transaction() as tx:
                result = external.conclude(tx, made)
                event = self._event(event_id, chore, "outcome", "ok", result.subject)
                staged = self._recorder.stage(tx, event)
        except KmsError as error:
            with self._store.transaction() as tx:
                external.abandon(tx, error)
                event = self._event(event_id, chore, "outcome", error.kind.value, external.intent)
                staged = self._recorder.stage(tx, event)
            self._recorder.publish(staged)
            raise
        self._recorder.publish(staged)

    def _event(self, event_id: str, chore: Chore, phase: Phase, outcome: str, subject: Any) -> Event:
        return Event(
            id=event_id,
            phase=phase,
            door="jobs",
            operation=chore.operation,
            resource=f"pki/{chore.mount_id}",
            principal=Actor(display_name="jobs"),
            rule="jobs",
            outcome=outcome,
            subject=dict(subject),
        )
