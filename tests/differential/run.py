"""Send requests to both sides and compare."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import httpx

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
    mend: Callable[[Request], list[Request]] = lambda _: [],
) -> None:
    """All of them, in order: later requests may stand on what earlier ones made.

    `mend`: what both are asked, without being compared, after one did a request that the other refused: from then on
    their states differ, and so would all that is asked about them.
    """
    for request in requests:
        our_status, our_body = ours.ask(request)
        try:
            their_status, their_body = theirs.ask(request)
        except httpx.RemoteProtocolError:
            # A request that it fails on ends its connection without an answer; one of ours would be a defect.
            comparison.dropped.append(request.shown())
            assert our_status < 500, (request.shown(), our_status)
            continue
        answers = (their_status, form(their_body)), (our_status, form(our_body))
        comparison.add(request, *answers, loose=loose if isinstance(loose, bool) else loose(request))
        if (their_status < 400) is not (our_status < 400):
            for more in mend(request):
                theirs.ask(more)
                ours.ask(more)
