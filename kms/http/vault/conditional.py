"""If-Modified-Since and Last-Modified (RFC 9110 13.1.3, 8.8.2), for mounts that pass the one and allow the other."""

from __future__ import annotations

from collections.abc import Iterable
from email.utils import formatdate, parsedate_to_datetime
from typing import Final

from kms.http.vault.route import Rendered
from kms.operation import MountRef

SINCE: Final = "if-modified-since"
MODIFIED: Final = "last-modified"
_NOT_MODIFIED: Final = 304


def since(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """The moment that a client names, in seconds; 0 for none, several, or what is no date (RFC 9110 13.1.3)."""
    found = [value for name, value in headers if name == SINCE.encode()]
    if len(found) != 1:
        return 0
    try:
        return int(parsedate_to_datetime(found[0].decode("ascii")).timestamp())
    except (ValueError, OverflowError):
        return 0


def conditional(answer: Rendered, modified: int, known: int, mount: MountRef) -> Rendered:
    """The answer, or that the client has it already."""
    if answer.status != 200:
        return answer
    headers = answer.headers
    if MODIFIED in mount.answers:
        headers = (*headers, ("Last-Modified", formatdate(modified, usegmt=True)))
    if SINCE in mount.passes and known >= modified:
        return Rendered(_NOT_MODIFIED, b"", answer.content_type, headers)
    return Rendered(answer.status, answer.body, answer.content_type, headers)
