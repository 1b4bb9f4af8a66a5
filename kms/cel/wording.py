"""The evaluator's complaints in the words that the peer's users know."""

from __future__ import annotations

import re

_CODE = re.compile(r"\s*\[[A-Z_]+\]\s*\Z")
_KIND = re.compile(r"\A[A-Z_]+: ")
_WORDS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r'Key not found in map : "(.*)"\Z', re.DOTALL), r"no such key: \1"),
    (re.compile(r"divide by zero\Z"), "division by zero"),
    (re.compile(r"No matching overloads found .*", re.DOTALL), "no such overload"),
    (re.compile(r'No value with name "(.*)" found in Activation\Z'), r"no such attribute(s): \1"),
    (re.compile(r"[Ii]ndex error: index=(-?\d+) .*"), r"index out of bounds: \1"),
    (re.compile(r"(undefined field '[^']*') not found in struct '[^']*'"), r"\1"),
    (re.compile(r"Iteration budget exceeded"), "more than 10,000 iterations"),
)


def reworded(error: object) -> str:
    """The text of an error, at most 2,000 characters of it."""
    text = _KIND.sub("", _CODE.sub("", str(error)))
    for pattern, words in _WORDS:
        text = pattern.sub(words, text)
    return text[:2000]
