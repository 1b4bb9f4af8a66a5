"""Which web pages may read answers (CORS), as one process knows it. Doors ask; operators set it under sys/config/cors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kms.system.settings import CORS, CORS_KEY, CorsSettings
from kms.tables import Store

HEADERS: Final = (
    "Content-Type",
    "Authorization",
    "X-Vault-Token",
    "X-Vault-MFA",
    "X-Vault-No-Request-Forwarding",
    "X-Vault-Wrap-Format",
    "X-Vault-Wrap-TTL",
    "X-Requested-With",
    "X-Vault-AWS-IAM-Server-ID",
    "X-Vault-Policy-Override",
)
"""What pages may always send, once any page may."""
METHODS: Final = ("DELETE", "GET", "OPTIONS", "POST", "PUT", "LIST", "SCAN")
MAX_AGE_SECONDS: Final = 300


class CrossOrigin:
    """The setting, kept current through announcements. One per process, safe to use from several threads.

    Args:
        readable: whether sealed rows can be read; until then no page may.
    """

    def __init__(self, store: Store, readable: Callable[[], bool]) -> None:
        self._store = store
        self._readable = readable
        self._settings: CorsSettings | None = None
        self._known = False
        self._epoch = 0
        store.watch(CORS, self)

    def drop(self, _key: str) -> None:
        """The setting changed (kms.tables.CacheListener)."""
        self.clear()

    def clear(self) -> None:
        """Forget it (kms.tables.CacheListener)."""
        self._epoch += 1
        self._known = False

    def settings(self) -> CorsSettings | None:
        """What is in force, or None when no page may read anything."""
        if self._known:
            return self._settings
        if not self._readable():
            return None
        # A change that arrives while we read must win over what we read.
        before = self._epoch
        row = self._store.reader().get(CORS, CORS_KEY)
        found = row.value if row is not None else None
        if self._epoch == before:
            self._settings, self._known = found, True
        return found

    def allows(self, origin: str) -> bool | None:
        """Whether a page of `origin` may read answers; None when CORS is off and headers say nothing."""
        self._store.refresh()
        settings = self.settings()
        if settings is None:
            return None
        return settings.origins == ("*",) or origin in settings.origins

    def headers(self) -> tuple[str, ...]:
        """What pages may send."""
        settings = self.settings()
        return (*HEADERS, *(settings.headers if settings is not None else ()))
