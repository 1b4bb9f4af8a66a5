"""Calling operations of an `App` in this machine's own process, through the same door as everybody."""

from __future__ import annotations

from typing import Any

import msgspec

from kms.errors import ErrorKind, KmsError
from kms.http.vault.door import Door
from kms.oplog import OperatorLog
from kms.server import ServerApp

PEER = "local"


class Local:
    """A client of one App without a network; its calls are policy-checked and recorded like others."""

    def __init__(self, app: ServerApp) -> None:
        self._door = Door(app, OperatorLog(role="cli"), name="cli")

    def call(
        self, method: str, path: str, body: dict[str, Any] | None = None, token: str = ""
    ) -> tuple[int, dict[str, Any]]:
        """(status, decoded body) of one request to /v1/`path`."""
        headers = [(b"x-vault-token", token.encode("latin-1"))] if token else []
        answer = self._door.handle(
            method, f"/v1/{path}".encode(), b"", headers, msgspec.json.encode(body or {}), PEER
        )
        return answer.status, msgspec.json.decode(answer.body, type=dict[str, Any]) if answer.body else {}

    def demand(
        self, method: str, path: str, body: dict[str, Any] | None = None, token: str = ""
    ) -> dict[str, Any]:
        """The decoded body of a request that must succeed.

        Raises:
            KmsError(INVALID): with the errors of the answer.
        """
        status, answer = self.call(method, path, body, token)
        if status >= 300:
            texts = "; ".join(str(text).strip() for text in answer.get("errors", [])) or f"status {status}"
            raise KmsError(ErrorKind.INVALID, f"{method} {path}: {texts}")
        return answer
