"""A small client of the HTTP API: says exactly what was sent and what came back, raises nothing."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from tests.harness.gathered import GATHERED

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients of plain HTTP. It trusts nobody; and httpx would read all roots of the web for each client, 15 ms of CPU."""


@dataclass(frozen=True, repr=False)
class Answer:
    """Status, headers and body of one answer."""

    status: int
    headers: dict[str, str]
    content: bytes

    def __repr__(self) -> str:
        # A refusal's body belongs to the message of the assertion that did not expect it; others may hold secrets.
        said = f", {self.content[:500]!r}" if self.status >= 400 else ""
        return f"Answer({self.status}{said})"

    @property
    def json(self) -> dict[str, Any]:
        """The body; {} when there is none."""
        parsed: dict[str, Any] = json.loads(self.content) if self.content.strip() else {}
        return parsed

    @property
    def data(self) -> dict[str, Any]:
        """The `data` object of a success."""
        assert self.status in {200, 201, 202}, f"{self.status}: {self.content[:500]!r}"
        data: dict[str, Any] = self.json.get("data") or {}
        return data

    @property
    def errors(self) -> list[str]:
        """The `errors` of a refusal; fails when the answer has not Vault's form of one."""
        body = self.json
        assert self.headers["content-type"] == "application/json"
        assert set(body) <= {"errors", "data"}, body
        errors: list[str] = body["errors"]
        assert all(isinstance(text, str) for text in errors)
        return errors


class Api:
    """Calls below /v1 of one server with one token. Thread safe."""

    def __init__(
        self,
        address: str,
        token: str = "",
        timeout_seconds: float = 30,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        self.address = address
        self.token = token
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        self._client = httpx.Client(
            base_url=f"{address}/v1/",
            timeout=timeout_seconds,
            limits=limits,
            trust_env=False,
            verify=NO_TLS if verify is True and address.startswith("http:") else verify,
        )

    def call(
        self,
        verb: str,
        path: str,
        body: object = None,
        *,
        raw: bytes | None = None,
        headers: Mapping[str, str | bytes] | None = None,
    ) -> Answer:
        """One request. `raw` sends those bytes instead of JSON."""
        sent = dict(headers or {})
        if self.token:
            sent.setdefault("X-Vault-Token", self.token)
        pairs = [
            (name.encode(), value.encode() if isinstance(value, str) else value)
            for name, value in sent.items()
        ]
        content = raw if raw is not None else (None if body is None else json.dumps(body).encode())
        reply = self._client.request(verb, path, content=content, headers=pairs)
        if reply.status_code in {200, 201}:
            GATHERED.reply(reply.content, reply.headers.get("content-type", ""), time.time())
        return Answer(reply.status_code, {k.lower(): v for k, v in reply.headers.items()}, reply.content)

    def get(self, path: str) -> Answer:
        """Read."""
        return self.call("GET", path)

    def list(self, path: str) -> Answer:
        """List."""
        return self.call("LIST", path)

    def post(self, path: str, body: object = None) -> Answer:
        """Write."""
        return self.call("POST", path, {} if body is None else body)

    def delete(self, path: str) -> Answer:
        """Delete."""
        return self.call("DELETE", path)

    def ok(self, verb: str, path: str, body: object = None) -> dict[str, Any]:
        """A call that must succeed; its data."""
        answer = self.call(verb, path, body)
        assert answer.status in {200, 202, 204}, f"{verb} {path}: {answer.status} {answer.content[:500]!r}"
        return answer.json.get("data") or {} if answer.status != 204 else {}

    def as_token(self, token: str) -> Api:
        """The same server with another token."""
        return Api(self.address, token)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()
