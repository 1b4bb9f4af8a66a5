"""ACME's dialect: bare JSON, problem documents, its headers; and which path is which operation."""

from __future__ import annotations

import msgspec

from kms.errors import KmsError
from kms.http.vault.route import Rendered, Route
from kms.operation import Result
from pki.acme.problems import NAMESPACE, as_problem

JOSE = "application/jose+json"
PROBLEM = "application/problem+json"
_encode = msgspec.json.Encoder(order="sorted").encode

_PREFIXES = (
    "acme/",
    "roles/{role}/acme/",
    "issuer/{issuer_ref}/acme/",
    "issuer/{issuer_ref}/roles/{role}/acme/",
)
_SIGNED = (
    ("new-account", "new-account"),
    ("account/{account}", "account"),
    ("account/{account}/orders", "account-orders"),
    ("key-change", "key-change"),
    ("new-authz", "new-authz"),
    ("new-order", "new-order"),
    ("order/{order}", "order"),
    ("order/{order}/finalize", "finalize"),
    ("order/{order}/cert", "certificate"),
    ("order/{order}/cert/{chain}", "certificate"),
    ("authorization/{authorization}", "authorization"),
    ("challenge/{authorization}/{type}", "challenge"),
    ("revoke-cert", "revoke-cert"),
)
_PUBLIC = (
    ("GET", "directory", "directory"),
    ("GET", "new-nonce", "new-nonce"),
    ("HEAD", "new-nonce", "new-nonce"),
    ("GET", "renewal-info/{certificate}", "renewal-info"),
)


def render(result: Result) -> Rendered:
    """An answer of an ACME resource."""
    if result.raw is not None:
        body, content_type = result.raw
        return Rendered(result.status or 200, body, content_type, result.headers)
    if result.data is None:
        return Rendered(result.status or 204, b"", headers=result.headers)
    return Rendered(result.status or 200, _encode(result.data) + b"\n", headers=result.headers)


def render_head(result: Result) -> Rendered:
    """RFC 8555 7.2: HEAD of a nonce is 200, GET 204."""
    return Rendered(200, b"", headers=result.headers)


def render_revoked(result: Result) -> Rendered:
    """RFC 8555 7.6: 200 and nothing."""
    return Rendered(200, b"", headers=result.headers)


def refuse(error: KmsError) -> Rendered:
    """A problem document (RFC 7807)."""
    problem = as_problem(error)
    body = {
        "type": NAMESPACE + problem.name,
        "detail": problem.detail,
        "status": problem.status,
        **problem.more,
    }
    return Rendered(problem.status or 500, _encode(body) + b"\n", PROBLEM, problem.headers)


def _routes() -> tuple[Route, ...]:
    found = [
        Route("GET", "config/acme", "pki.config-acme-read"),
        Route("POST", "config/acme", "pki.config-acme-write"),
        Route("LIST", "eab", "pki.eab-list"),
        Route("DELETE", "eab/{key_id}", "pki.eab-delete"),
    ]
    for prefix in _PREFIXES:
        found.append(Route("POST", f"{prefix}new-eab", "pki.acme-new-eab"))
        for path, name in _SIGNED:
            show = render_revoked if name == "revoke-cert" else render
            found.append(
                Route("POST", prefix + path, f"pki.acme-{name}", render=show, refuse=refuse, accepts=JOSE)
            )
        for verb, path, name in _PUBLIC:
            show = render_head if verb == "HEAD" else render
            free = frozenset({"certificate"})
            found.append(
                Route(verb, prefix + path, f"pki.acme-{name}", render=show, refuse=refuse, free=free)
            )
    return tuple(found)


ROUTES = _routes()
