"""What every batch has in common: the shape of its items, and when the whole of it is refused.

Two kinds of failure are told apart, as the Vault API does. A batch that cannot be read (no list, an
item that is no object, a field of the wrong type) is refused as a whole, and nothing is done. An item
that can be read but not done gets an `error` of its own beside the results of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from kms.errors import ErrorKind, KmsError, invalid

MAX_ITEMS: Final = 10_000
_BODILESS: Final = frozenset({204, 205, 304})  # RFC 9110: such an answer has no content

Item = dict[str, Any]


def items_of(args: Mapping[str, Any]) -> list[Item] | None:
    """The batch of a call, or None for a single request.

    Raises:
        KmsError(INVALID): it is empty, or holds something else than objects; or the status that the caller wants for a
            partial failure is none that can carry the results.
    """
    items = args.get("batch_input")
    if items is None:
        return None
    if not items:
        raise invalid("missing batch input to process")
    if len(items) > MAX_ITEMS:
        raise invalid(f"a batch holds at most {MAX_ITEMS} items")
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise invalid(f"failed to parse batch input: [{index}] expected a map")
    _demand_status(args.get("partial_failure_response_code") or 0)
    return list(items)


def _demand_status(code: int) -> None:
    """The caller's own status goes into the status line: "HTTP/1.1 -1" would be the end of the connection."""
    if code and (not 200 <= code <= 599 or code in _BODILESS):
        raise invalid(
            "partial_failure_response_code must be a status with content: 200 to 599, not 204, 205 or 304"
        )


def text(item: Item, index: int, name: str) -> str:
    """A string field of an item; "" when it is absent or null.

    Raises:
        KmsError(INVALID): it is something else; the whole batch is refused.
    """
    value = item.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise invalid(f"failed to parse batch input: '[{index}].{name}' expected type 'string'")
    return value


def number(item: Item, index: int, name: str) -> int:
    """An integer field of an item; 0 when it is absent or null. Same errors as `text`."""
    value = item.get(name)
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool):
        raise invalid(f"failed to parse batch input: '[{index}].{name}' expected type 'int'")
    return value


def refusal(error: KmsError) -> str:
    """The text for an item's `error`. What is not the item's own fault fails the whole request.

    Raises:
        KmsError: the error itself, when the server, the HSM or the database is the trouble.
    """
    if error.kind is not ErrorKind.INVALID:
        raise error
    return error.detail


def each(items: list[Item], work: Callable[[Item, int], Item], failed: Item) -> tuple[list[Item], int]:
    """Do the items one by one, in order.

    Args:
        items: as `items_of` returned them.
        work: one item's result fields; raises KmsError(INVALID) when it cannot be done.
        failed: the fields that a failed item has beside its error.

    Returns:
        The results, each with its `reference`, and how many failed.
    """
    results: list[Item] = []
    failures = 0
    for index, item in enumerate(items):
        reference = text(item, index, "reference")
        try:
            result = work(item, index)
        except KmsError as error:
            failures += 1
            result = {**failed, "error": refusal(error)}
        result["reference"] = reference
        results.append(result)
    return results, failures
