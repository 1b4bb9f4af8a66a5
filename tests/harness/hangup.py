"""Connections that tests leave open: closed at the end of the test that made their client.

A client that nobody closes is garbage in a cycle; whenever that is collected, its sockets say ResourceWarning, which
fails whichever test runs at that moment.
"""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any
from weakref import WeakSet

import httpx

_made: WeakSet[Any] = WeakSet()


def _noting(make: Callable[..., None]) -> Callable[..., None]:
    @wraps(make)
    def noted(self: object, *arguments: object, **named: object) -> None:
        make(self, *arguments, **named)
        _made.add(self)

    return noted


def install() -> None:
    """From now on clients are noted when they are made."""
    for kind in (httpx.Client, http.client.HTTPConnection):
        kind.__init__ = _noting(kind.__init__)  # type: ignore[method-assign]  # both have no other way to be told


@contextmanager
def hung_up() -> Iterator[None]:
    """Close the connections of the clients that are made inside. A client that lives on connects again when it is used."""
    _made.clear()  # those of wider scopes are not ours
    yield
    for client in list(_made):
        if isinstance(client, httpx.Client):
            client._transport.close()  # its pool: `close` would end the client itself
        else:
            client.close()
    _made.clear()
