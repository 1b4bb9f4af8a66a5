"""What two answers of an auth mount have in common: random parts are masked."""

from __future__ import annotations

import re
from typing import Any

_RANDOM = {"client_token", "accessor", "entity_id", "request_id"}
_MOUNT = re.compile(r"\b(kubernetes|cert|jwt|oidc|ldap)-[0-9a-f]{6}\b")


def form(document: Any) -> Any:
    """A document without what cannot be the same on two servers."""
    return _mask("", document)


def _mask(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _mask(key, each) for key, each in sorted(value.items()) if key not in _RANDOM}
    if isinstance(value, list):
        return [_mask(name, each) for each in value]
    return _MOUNT.sub(r"\1", value) if isinstance(value, str) else value
