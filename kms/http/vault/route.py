"""Routes as data: which verb on which path of an engine is which operation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kms.errors import KmsError
from kms.operation import Result, Stream


@dataclass(slots=True)
class Rendered:
    """A finished answer, one object per request (the door adds the receipt)."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    stream: Stream | None = None  # what comes instead of the body


@dataclass(frozen=True, slots=True)
class Route:
    """One line of an engine's table.

    Args:
        verb: GET, LIST, POST (PUT is the same), DELETE or PATCH.
        pattern: path below the mount; `{name}` is one segment, `{path...}` the rest (one or more
            segments; only literals may follow it). Parameters land in `Call.args`.
        operation: the registered operation's name.
        status: code of a success that carries data (no data is 204).
        raw: the answer is the bare data object without the envelope (sys/health and its kin).
        inject: repeat the data keys at the top level of the envelope, for old clients.
        partial_status: code for a batch of which some items failed.
        render: for answers in no common form (health's codes); overrides all of the above.
        refuse: the same for refusals and failures.
        accepts: the only content type that a body may have, "" for those of the dialect; others get 415.
        text: the field that receives the body as it is (latin-1), for bodies that are no JSON.
        free: path parameters that are not names and so skip `check_name` (serials, base64, `{path...}`
            is always free). They are still canonical: no dots-only segment, no control character,
            no backslash, no encoded slash, at most 512 characters a segment.
        opaque: the last parameter is the rest of the request target as it came, slashes, escapes and all; for
            GET of protocols that put documents there. Policy sees `-` in its place.
        envelope: an answer without data is an empty envelope, not 204.
        document: signed, for everybody, and so served on the plain listener too.
    """

    verb: str
    pattern: str
    operation: str
    status: int = 200
    raw: bool = False
    inject: bool = False
    partial_status: int = 400
    render: Callable[[Result], Rendered] | None = None
    free: frozenset[str] = frozenset()
    refuse: Callable[[KmsError], Rendered] | None = None
    accepts: str = ""
    text: str = ""
    opaque: bool = False
    document: bool = False
    envelope: bool = False
