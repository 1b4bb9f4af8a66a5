"""Refusals in OAuth's words (RFC 6749 4.1.2.1 and 5.2, RFC 6750 3)."""

from __future__ import annotations

from typing import Any, Final

from kms.identity.oidc.tokens import JSON, encode
from kms.operation import Result

_STATUS: Final = {"invalid_client": 401, "invalid_token": 401, "server_error": 500}
_NO_STORE: Final = (("Cache-Control", "no-store"), ("Pragma", "no-cache"))


class OAuthError(Exception):
    """A request that ends with an error of OAuth.

    Args:
        code: RFC 6749's, or OpenID Connect's.
        description: for the developer of the client.
    """

    def __init__(self, code: str, description: str) -> None:
        super().__init__(description)
        self.code = code
        self.description = description


def authorization(data: dict[str, Any]) -> Result:
    """What the authorization endpoint answers."""
    return Result(raw=(encode(data), JSON), status=200)


def authorization_error(error: OAuthError, state: str) -> Result:
    """A refusal of the authorization endpoint; nothing is redirected, as the caller is no browser."""
    return _refusal(error, {"state": state})


def token(data: dict[str, Any]) -> Result:
    """What the token endpoint answers."""
    return Result(raw=(encode(data), JSON), status=200, headers=_NO_STORE)


def token_error(error: OAuthError) -> Result:
    """A refusal of the token endpoint."""
    ask = (("WWW-Authenticate", "Basic"),) if error.code == "invalid_client" else ()
    return _refusal(error, {}, (*_NO_STORE, *ask))


def userinfo_error(error: OAuthError) -> Result:
    """A refusal of the userinfo endpoint."""
    ask: tuple[tuple[str, str], ...] = ()
    if error.code in {"invalid_request", "invalid_token"}:
        said = f'Bearer error="{error.code}",error_description="{error.description}"'
        ask = (("WWW-Authenticate", said),)
    status = 403 if error.code == "access_denied" else None
    return _refusal(error, {}, ask, status)


def _refusal(
    error: OAuthError,
    more: dict[str, Any],
    headers: tuple[tuple[str, str], ...] = (),
    status: int | None = None,
) -> Result:
    body = {"error": error.code, "error_description": error.description, **more}
    return Result(
        raw=(encode(body), JSON),
        status=status or _STATUS.get(error.code, 400),
        headers=headers,
        subject={"error": error.code},
    )
