"""A small HTTP client for the commands that ask a running server."""

from __future__ import annotations

import http.client
import os
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from kms.errors import ErrorKind, KmsError, invalid

SECONDS = 30.0


def address(given: str | None) -> str:
    """The server's address: the option, BAO_ADDR, VAULT_ADDR, or the default."""
    return given or os.environ.get("BAO_ADDR") or os.environ.get("VAULT_ADDR") or "http://127.0.0.1:8200"


def token(file: Path | None) -> str:
    """The token from a file, BAO_TOKEN or VAULT_TOKEN; never an argument, which `ps` would show.

    Raises:
        KmsError(INVALID): there is none.
    """
    if file is not None:
        lines = file.read_text("utf-8").splitlines()
        found = lines[0].strip() if lines else ""
    else:
        found = os.environ.get("BAO_TOKEN") or os.environ.get("VAULT_TOKEN") or ""
    if not found:
        raise invalid("no token: set BAO_TOKEN or VAULT_TOKEN, or give --token-file")
    return found


def namespace() -> str:
    """The namespace that is asked, as the server's other clients are told it: BAO_NAMESPACE or VAULT_NAMESPACE."""
    return (os.environ.get("BAO_NAMESPACE") or os.environ.get("VAULT_NAMESPACE") or "").strip("/")


def ask(
    url: str, method: str, path: str, credential: str = "", body: dict[str, Any] | None = None
) -> tuple[int, dict[str, Any]]:
    """(status, decoded body) of one request to /v1/`path` in `namespace()`, with `body` as JSON.

    Raises:
        KmsError(INVALID): the server cannot be reached, or does not answer JSON.
    """
    connection = _connect(url)
    headers = {"X-Vault-Token": credential} if credential else {}
    headers |= {"X-Vault-Namespace": namespace()} if namespace() else {}
    try:
        connection.request(
            method, f"/v1/{path}", msgspec.json.encode(body) if body is not None else None, headers
        )
        response = connection.getresponse()
        answer = response.read()
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise invalid(f"cannot reach {url}: {reason}; is the server running, and BAO_ADDR right?") from None
    finally:
        connection.close()
    try:
        return response.status, msgspec.json.decode(answer, type=dict[str, Any]) if answer else {}
    except msgspec.DecodeError:
        raise KmsError(ErrorKind.INVALID, f"{url} does not answer like a Keystead server") from None


def demand(
    url: str, method: str, path: str, credential: str = "", body: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The decoded body of a request that must succeed; KmsError(INVALID) with its errors otherwise."""
    status, answer = ask(url, method, path, credential, body)
    if status >= 300:
        texts = "; ".join(" ".join(str(text).split()) for text in answer.get("errors", []))
        raise invalid(f"{method} {path}: {texts or f'status {status}'}")
    return answer


def _connect(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise invalid(f"{url} is not an http:// or https:// address")
    if parts.scheme == "http":
        return http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=SECONDS)
    roots = os.environ.get("BAO_CACERT") or os.environ.get("VAULT_CACERT")
    context = ssl.create_default_context(cafile=roots)
    return http.client.HTTPSConnection(parts.hostname, parts.port or 443, timeout=SECONDS, context=context)
