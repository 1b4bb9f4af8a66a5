r"""`list_scan_response_keys_filter_path`: the template of a path, filled in for each key of a listing.

    list_scan_response_keys_filter_path = "{{ .path | replace \"metadata/\" \"data/\" }}{{ .key }}"

The peer uses Go's text/template with helpers; here are literals, `.path`, `.key` and those helpers that make a
path of a path. Whatever else is refused when the policy is written.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

MAX_TEMPLATE: Final = 1_024
_ACTION = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)
_WORD = re.compile(r'\s*(?:(\|)|("(?:[^"\\]|\\["\\])*")|([.A-Za-z_0-9]+))')
_VARIABLES: Final = frozenset({".path", ".key"})

# name -> (how many arguments stand before the value, what it does)
_HELPERS: dict[str, tuple[int, Callable[..., str]]] = {
    "replace": (2, lambda old, new, text: text.replace(old, new)),
    "truncate": (1, lambda length, text: text[: int(length)]),
    "lowercase": (0, lambda text: text.lower()),
    "uppercase": (0, lambda text: text.upper()),
    "base64": (0, lambda text: base64.b64encode(text.encode()).decode()),
    "sha256": (0, lambda text: hashlib.sha256(text.encode()).hexdigest()),
}

Template = tuple[str | tuple[tuple[str, ...], ...], ...]


@lru_cache(1024)
def compiled(text: str) -> Template:
    """A template, read. Raises ValueError: something in it that we do not know, or both keys give one path."""
    if len(text) > MAX_TEMPLATE:
        raise ValueError(f"the template is longer than {MAX_TEMPLATE} characters")
    pieces: list[str | tuple[tuple[str, ...], ...]] = []
    at = 0
    for action in _ACTION.finditer(text):
        pieces += [text[at : action.start()], _pipeline(action[1])]
        at = action.end()
    if "{{" in text[at:]:
        raise ValueError("a {{ is not closed")
    template = (*pieces, text[at:])
    if _filled(template, "a/", "key-one") == _filled(template, "a/", "key-two"):
        raise ValueError("it resulted in same path for two different keys")
    return template


def fill(text: str, path: str, key: str) -> str:
    """The path that a key of the listing of `path` stands for."""
    return _filled(compiled(text), path, key)


def _filled(template: Template, path: str, key: str) -> str:
    values = {".path": path, ".key": key}
    return "".join(piece if isinstance(piece, str) else _run(piece, values) for piece in template)


def _run(pipeline: tuple[tuple[str, ...], ...], values: dict[str, str]) -> str:
    last: list[str] = []
    for name, *arguments in pipeline:
        given = [_value(word, values) for word in arguments] + last
        last = [_HELPERS[name][1](*given) if name in _HELPERS else _value(name, values)]
    return last[0]


def _value(word: str, values: dict[str, str]) -> str:
    return word[1:] if word.startswith("=") else values[word]


def _pipeline(text: str) -> tuple[tuple[str, ...], ...]:
    commands: list[list[str]] = [[]]
    at = 0
    while at < len(text):
        match = _WORD.match(text, at)
        if match is None:
            raise ValueError(f"unexpected {text[at:].strip()[:20]!r} in the template")
        at = match.end()
        if match[1]:
            commands.append([])
        else:
            commands[-1].append(_literal(match[2]) if match[2] else _name(match[3], commands))
    for place, command in enumerate(commands):
        _check(command, piped=place > 0)
    return tuple(tuple(command) for command in commands)


def _literal(quoted: str) -> str:
    return "=" + re.sub(r"\\(.)", r"\1", quoted[1:-1])  # so that no literal is taken for a variable


def _name(word: str, commands: list[list[str]]) -> str:
    if word.isdecimal() and commands[-1]:
        return "=" + word
    if word not in _VARIABLES and word not in _HELPERS:
        raise ValueError(f"the template knows .path, .key and {', '.join(sorted(_HELPERS))}, not {word!r}")
    return word


def _check(command: list[str], *, piped: bool) -> None:
    if not command:
        raise ValueError("an empty command in the template")
    if any(word in _HELPERS for word in command[1:]):
        raise ValueError("a function of the template takes values only")
    if command[0] in _HELPERS:
        wanted = _HELPERS[command[0]][0] + (0 if piped else 1)
        if len(command) - 1 != wanted or (command[0] == "truncate" and not command[1][1:].isdecimal()):
            raise ValueError(f"wrong arguments for {command[0]} in the template")
    elif piped or len(command) != 1:
        raise ValueError(f"{command[0]!r} is no function of the template")
