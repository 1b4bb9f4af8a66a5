"""Threads for calls that wait: everything is answered once, on the event loop, also at a stop."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

from kms.http.crew import Crew
from kms.http.vault.route import Rendered

CALLS = 2_000


def test_each_call_is_answered_once_and_on_the_event_loop() -> None:
    answered: list[int] = []
    home = threading.get_ident()
    elsewhere: set[int] = set()

    def work(number: int) -> Rendered:
        elsewhere.add(threading.get_ident())
        return Rendered(200 + number, b"", "text/plain", ())

    async def main() -> None:
        crew = Crew(4, asyncio.get_running_loop())
        everything = asyncio.Event()

        def done(answer: Rendered) -> None:
            assert threading.get_ident() == home
            answered.append(answer.status - 200)
            if len(answered) == CALLS:
                everything.set()

        for number in range(CALLS):
            crew.submit(partial(work, number), done)
            if number % 50 == 0:
                await asyncio.sleep(0)
        await asyncio.wait_for(everything.wait(), 20)
        crew.close()

    asyncio.run(main())
    assert sorted(answered) == list(range(CALLS))
    assert home not in elsewhere


def test_a_call_that_waits_does_not_hold_up_the_others() -> None:
    gate = threading.Event()

    def slow() -> Rendered:
        gate.wait(20)
        return Rendered(503, b"", "text/plain", ())

    async def main() -> list[int]:
        crew = Crew(2, asyncio.get_running_loop())
        order: list[int] = []
        both = asyncio.Event()

        def done(answer: Rendered) -> None:
            order.append(answer.status)
            if answer.status == 200:
                gate.set()
            if len(order) == 2:
                both.set()

        crew.submit(slow, done)
        crew.submit(lambda: Rendered(200, b"", "text/plain", ()), done)
        await asyncio.wait_for(both.wait(), 20)
        crew.close()
        return order

    assert asyncio.run(main()) == [200, 503]


def test_a_stop_waits_for_what_was_accepted() -> None:
    ran: list[int] = []

    def work(number: int) -> Rendered:
        ran.append(number)
        return Rendered(200, b"", "text/plain", ())

    async def main() -> None:
        crew = Crew(1, asyncio.get_running_loop())
        for number in range(5):
            crew.submit(partial(work, number), lambda _answer: None)
        crew.close()

    asyncio.run(main())
    assert ran == [0, 1, 2, 3, 4]
