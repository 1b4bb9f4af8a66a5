"""When a public document became what it is, for If-Modified-Since (RFC 9110 13.1.3).

HTTP knows whole seconds, and a list that was replaced within the second in which somebody fetched the one before must not be
taken for unchanged. So the moment of a document is the second after it was made, and later than that of the one before.
"""

from __future__ import annotations


def moment(now: int, before: int = 0) -> int:
    """Of a document that is made at `now` (whole seconds, cut down) in place of one of `before`, 0 for none."""
    return max(now, before) + 1


def latest(*moments: int) -> int:
    """Of a document that hangs on several things; 0, which is never unchanged, when one of them is not known."""
    return max(moments) if all(moments) else 0
