"""OCSP's dialect (RFC 6960 appendix A): DER in and out, and one way to refuse."""

from __future__ import annotations

from kms.errors import KmsError
from kms.http.vault.route import Rendered, Route
from kms.operation import Result
from pki.ocsp import RESPONSE, refusal, refusal_of


def render(result: Result) -> Rendered:
    """An answer, of whatever status: it stands in the body."""
    body, _ = result.raw or (b"", RESPONSE)
    return Rendered(200, body, RESPONSE, result.headers)


def refuse(error: KmsError) -> Rendered:
    """A failure in the words of the protocol."""
    return render(refusal(refusal_of(error)))


_REQUEST = frozenset({"request"})

ROUTES: tuple[Route, ...] = (
    Route("POST", "ocsp", "pki.ocsp-post", render=render, refuse=refuse, text="request", document=True),
    Route(
        "GET",
        "ocsp/{request}",
        "pki.ocsp-get",
        render=render,
        refuse=refuse,
        free=_REQUEST,
        opaque=True,
        document=True,
    ),
    Route("POST", "issuer/{issuer_ref}/ocsp/rotate", "pki.ocsp-rotate"),
)
