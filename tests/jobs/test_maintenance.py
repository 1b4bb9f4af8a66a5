"""The jobs process sees what the workers did before it concludes anything from its caches.

Seen in a chaos run: a worker died in a rotation of the root, another request finished it, and the jobs
process, which still remembered the old root, failed to close the intent for as long as it remembered.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from kms.audit import Recovery
from kms.audit.event import Event
from kms.jobs.fence import Fence
from kms.jobs.maintenance import Maintenance
from kms.operation import Needs

_WORK = ("step", "destroy_abandoned", "destroy_discarded", "due", "begin", "take", "ended")  # of all parts


class Steps:
    """Notes the order of what is asked."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def refresh(self, *, thorough: bool = False) -> int:
        assert thorough, "what a dead process committed without a word of it must be seen too"
        self.seen.append("refresh")
        return 1

    def resolve(self, _subject: object) -> None:
        self.seen.append("resolve")
        raise StopAsyncIteration  # far enough

    def recover(self) -> Recovery:
        self.seen.append("recover")
        intent = Event(id="1", phase="intent", operation="x")
        return cast("Recovery", SimpleNamespace(intents=[intent]))


def test_mending_begins_with_what_the_workers_did() -> None:
    steps = Steps()
    operation = SimpleNamespace(needs=Needs.NOTHING, resolve=steps.resolve)
    parts: dict[str, Any] = dict.fromkeys(Maintenance.__dataclass_fields__)
    parts |= {"store": steps, "registry": {"x": operation}, "recover": steps.recover}
    with pytest.raises(StopAsyncIteration):
        Maintenance(**parts).mend()
    assert steps.seen == ["recover", "refresh", "resolve"]


def test_each_periodic_work_begins_with_what_the_workers_did() -> None:
    steps = Steps()

    class Open:
        def __enter__(self) -> None:
            steps.seen.append("fence")

        def __exit__(self, *_: object) -> None: ...

    store = SimpleNamespace(refresh=steps.refresh, transaction=Open)
    fence = cast("Fence", SimpleNamespace(guard=lambda _tx: None))
    hsm = SimpleNamespace(check=lambda: steps.seen.append("work"))
    parts: dict[str, Any] = {
        name: SimpleNamespace(**dict.fromkeys(_WORK)) for name in Maintenance.__dataclass_fields__
    }
    parts |= {"store": store, "state": SimpleNamespace(serving=True), "hsm": lambda: hsm, "errands": ()}
    tasks = {task.name: task for task in Maintenance(**parts).tasks(fence)}
    tasks["hsm.check"].run()
    assert steps.seen == ["fence", "refresh", "work"]
