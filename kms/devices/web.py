"""The http device: each line is the body of a POST. No redirect is followed, and no proxy is asked."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
from urllib.parse import urlsplit

from kms.devices.places import Endpoint, Places
from kms.errors import invalid

_MAX_ANSWER = 64 * 1024


class Post:
    """One connection, made anew when it broke.

    Args:
        headers: a JSON object of further header fields, "" for none.
    """

    waits = True

    def __init__(self, places: Places, uri: str, headers: str, timeout: float) -> None:
        parts = urlsplit(uri)
        self._places = places
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        port = parts.port or (443 if self._tls else 80)
        if not parts.hostname or parts.username:
            raise invalid("uri must name a host, and no user")
        self._endpoint = places.endpoint(f"{parts.hostname}:{port}")
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._headers = {"Content-Type": "application/json", **_headers(headers)}
        self._timeout = timeout
        self._connection: http.client.HTTPConnection | None = None
        self._lock = threading.Lock()

    def send(self, line: bytes) -> None:
        with self._lock:
            fresh = self._connection is None
            try:
                self._deliver(line)
            except (OSError, http.client.HTTPException) as error:
                self._drop()
                if fresh:
                    raise OSError(f"failed to perform request: {error}") from None
                try:
                    self._deliver(line)
                except (OSError, http.client.HTTPException) as again:
                    self._drop()
                    raise OSError(f"failed to perform request: {again}") from None

    def _deliver(self, line: bytes) -> None:
        if self._connection is None:
            self._connection = _Pinned(self._places, self._endpoint, self._tls, self._timeout)
        self._connection.request("POST", self._target, body=line, headers=self._headers)
        answer = self._connection.getresponse()
        answer.read(_MAX_ANSWER)
        if not 200 <= answer.status < 300:
            self._drop()
            raise OSError(f"the collector answered {answer.status}")

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        with self._lock:
            self._drop()


class _Pinned(http.client.HTTPConnection):
    """Connects to the address that was judged."""

    def __init__(
        self, places: Places, endpoint: Endpoint, tls: ssl.SSLContext | None, timeout: float
    ) -> None:
        super().__init__(endpoint.host, endpoint.port, timeout=timeout)
        self._places = places
        self._endpoint = endpoint
        self._tls = tls

    def connect(self) -> None:
        family, target = self._places.address(self._endpoint)
        made = socket.socket(family, socket.SOCK_STREAM)
        made.settimeout(self.timeout)
        try:
            made.connect(target)
            self.sock = (
                made
                if self._tls is None
                else self._tls.wrap_socket(made, server_hostname=self._endpoint.host)
            )
        except OSError:
            made.close()
            raise


def _headers(text: str) -> dict[str, str]:
    if not text:
        return {}
    try:
        parsed = json.loads(text)
    except ValueError:
        raise invalid("headers must be a JSON object of texts") from None
    if not isinstance(parsed, dict) or not all(
        isinstance(value, str) and value.isprintable() and name.isprintable()
        for name, value in parsed.items()
    ):
        raise invalid("headers must be a JSON object of texts")
    return parsed
