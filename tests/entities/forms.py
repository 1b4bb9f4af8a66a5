"""What two answers about identity have in common: random ids, times and accessors are masked, all else is compared."""

from __future__ import annotations

import re
from typing import Any

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")
_ACCESSOR = re.compile(r"(?:auth_)?(?:userpass|jwt|approle|token)_[0-9a-f]{8}")
_MADE = re.compile(r"(entity|group)_[0-9a-f]{8}\.root")


def form(document: Any) -> Any:
    """A document without what cannot be the same on two servers."""
    if not isinstance(document, dict):
        return document
    return _mask("", {name: value for name, value in document.items() if name != "request_id"})


def _mask(name: str, value: Any) -> Any:
    if not value and (name in {"policies", "custom_metadata"} or _ids(name)):
        return None  # empty or none: the peer forgets the difference when it reads its storage
    if isinstance(value, dict):
        if any(_UUID.fullmatch(key) for key in value):
            return sorted(str(_mask("", each)) for each in value.values())
        return {key: _mask(key, each) for key, each in value.items()}
    if isinstance(value, list):
        found = [_mask("", each) for each in value]
        # The peer lists what it finds, in the order of random ids.
        return sorted(found, key=str) if name in {"keys", "aliases", "policies"} or _ids(name) else found
    if name == "modify_index":
        return "number"  # the peer counts changes of members as well
    return _text(value) if isinstance(value, str) else value


def _ids(name: str) -> bool:
    return name.endswith("_ids")


def _text(value: str) -> str:
    for pattern, shown in (
        (_UUID, "<uuid>"),
        (_TIME, "<time>"),
        (_ACCESSOR, "<accessor>"),
        (_MADE, "<made>"),
    ):
        value = pattern.sub(shown, value)
    return value
