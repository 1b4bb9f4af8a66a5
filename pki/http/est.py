"""EST's dialect: documents, refusals in plain text, 401 where a credential would help; and which path is which."""

from __future__ import annotations

from kms.errors import ErrorKind, KmsError
from kms.http.vault.errors import OPERATIONAL, render_error
from kms.http.vault.route import Rendered, Route
from kms.operation import Result
from pki.est.enrollment import BODY

PKCS10 = "application/pkcs10"
_TEXT = "text/plain; charset=utf-8"
_CHALLENGE = (("WWW-Authenticate", 'Basic realm="est"'),)  # RFC 7030 3.2.3
_PREFIXES = ("est/", "est/{label}/", "roles/{role}/est/")


def render(result: Result) -> Rendered:
    """A document in base64, or nothing at all (204)."""
    if result.raw is None:
        return Rendered(result.status or 204, b"")
    body, kind = result.raw
    return Rendered(200, body, kind, result.headers)


def refuse(error: KmsError) -> Rendered:
    """A sentence for people (RFC 7030 4.2.3)."""
    if error.kind is ErrorKind.UNAUTHENTICATED:
        return Rendered(401, f"{error.detail}\n".encode(), _TEXT, _CHALLENGE)
    usual = render_error(error)
    # What is wrong with the parts below is for the operator log alone.
    detail = "the server cannot answer now; try again shortly" if error.kind in OPERATIONAL else error.detail
    return Rendered(usual.status, f"{detail}\n".encode(), _TEXT)


def _routes() -> tuple[Route, ...]:
    found = [
        Route("GET", "config/est", "pki.config-est-read"),
        Route("POST", "config/est", "pki.config-est-write"),
        Route("LIST", "est-users", "pki.est-users-list"),
        Route("POST", "est-users/{username}", "pki.est-user-write"),
        Route("GET", "est-users/{username}", "pki.est-user-read"),
        Route("DELETE", "est-users/{username}", "pki.est-user-delete"),
    ]
    for prefix in _PREFIXES:
        found += [
            Route("GET", f"{prefix}{name}", f"pki.est-{name}", render=render, refuse=refuse)
            for name in ("cacerts", "csrattrs")
        ]
        found += [
            _enrolling(f"{prefix}{name}", f"pki.est-{name}")
            for name in ("simpleenroll", "simplereenroll", "serverkeygen")
        ]
    return tuple(found)


def _enrolling(path: str, operation: str) -> Route:
    return Route("POST", path, operation, render=render, refuse=refuse, accepts=PKCS10, text=BODY)


ROUTES = _routes()
