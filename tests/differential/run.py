"""Send requests to both sides and compare."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tests.differential.rules import Comparison
from tests.differential.shape import shape
from tests.differential.sides import Request, Side


def run(
    theirs: Side,
    ours: Side,
    requests: Iterable[Request],
    comparison: Comparison,
    *,
    loose: bool | Callable[[Request], bool] = False,
    form: Callable[[Any], Any] = shape,
) -> None:
    """All of them, in order: later requests may stand on what earlier ones made."""
    for request in requests:
        their_status, their_body = theirs.ask(request)
        our_status, our_body = ours.ask(request)
        answers = (their_status, form(their_body)), (our_status, form(our_body))
        comparison.add(request, *answers, loose=loose if isinstance(loose, bool) else loose(request))
