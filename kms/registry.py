"""All operations by name: what may travel on the one road of `kms.pipeline`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from kms.operation import Caller, Capability, Effect, Evidence, Operation, Release


class Registry(Mapping[str, Operation]):
    """All operations by name. Refuses at start what would be wrong at run time.

    Raises:
        ValueError: a name twice, or a combination of declarations that the design forbids.
    """

    def __init__(self, tables: Iterable[Iterable[Operation]]) -> None:
        self._operations: dict[str, Operation] = {}
        for table in tables:
            for operation in table:
                _check(operation)
                if operation.name in self._operations:
                    raise ValueError(f"operation {operation.name} is registered twice")
                self._operations[operation.name] = operation

    def __getitem__(self, name: str) -> Operation:
        return self._operations[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._operations)

    def __len__(self) -> int:
        return len(self._operations)


def _check(operation: Operation) -> None:
    counted = operation.evidence is Evidence.COUNTED
    if counted and (operation.caller is not Caller.PUBLIC or operation.effect is not Effect.NONE):
        raise ValueError(f"{operation.name}: only public operations without effect may be counted")
    if operation.effect is Effect.EXTERNAL and operation.resolve is None:
        raise ValueError(f"{operation.name}: an external effect needs a way to resolve an unfinished intent")
    if operation.release is Release.STREAM and operation.effect is not Effect.NONE:
        raise ValueError(f"{operation.name}: only operations without effect may stream")
    if operation.exists is not None and operation.capability is not Capability.UPDATE:
        raise ValueError(f"{operation.name}: only 'update' splits into create and update")
    if operation.any_token and (operation.effect is not Effect.NONE or operation.sudo):
        raise ValueError(f"{operation.name}: what any token may call must not change or need anything")
