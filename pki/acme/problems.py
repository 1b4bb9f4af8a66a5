"""Refusals in ACME's words (RFC 8555 6.7), and what other refusals are called there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kms.errors import ErrorKind, KmsError
from pki.acme.model import Problem

NAMESPACE = "urn:ietf:params:acme:error:"

_KINDS: dict[str, tuple[ErrorKind, int]] = {
    "accountDoesNotExist": (ErrorKind.INVALID, 400),
    "alreadyReplaced": (ErrorKind.CONFLICT, 409),
    "alreadyRevoked": (ErrorKind.INVALID, 400),
    "badCSR": (ErrorKind.INVALID, 400),
    "badNonce": (ErrorKind.INVALID, 400),
    "badPublicKey": (ErrorKind.INVALID, 400),
    "badRevocationReason": (ErrorKind.INVALID, 400),
    "badSignatureAlgorithm": (ErrorKind.INVALID, 400),
    "caa": (ErrorKind.DENIED, 403),
    "compound": (ErrorKind.INVALID, 400),
    "connection": (ErrorKind.INVALID, 400),
    "dns": (ErrorKind.INVALID, 400),
    "externalAccountRequired": (ErrorKind.DENIED, 403),
    "incorrectResponse": (ErrorKind.DENIED, 403),
    "invalidContact": (ErrorKind.INVALID, 400),
    "invalidProfile": (ErrorKind.INVALID, 400),
    "malformed": (ErrorKind.INVALID, 400),
    "orderNotReady": (ErrorKind.DENIED, 403),
    "rateLimited": (ErrorKind.RATE_LIMITED, 429),
    "rejectedIdentifier": (ErrorKind.DENIED, 403),
    "serverInternal": (ErrorKind.INTERNAL, 500),
    "tls": (ErrorKind.INVALID, 400),
    "unauthorized": (ErrorKind.DENIED, 403),
    "unsupportedContact": (ErrorKind.INVALID, 400),
    "unsupportedIdentifier": (ErrorKind.INVALID, 400),
    "userActionRequired": (ErrorKind.DENIED, 403),
}


class AcmeProblem(KmsError):  # noqa: N818  (RFC 7807 calls it a problem)
    """A refusal with an ACME problem type.

    Args:
        name: the last part of the type.
        more: further members of the problem document (`algorithms`, `subproblems`).
        headers: of the answer (Retry-After, Location).
    """

    def __init__(
        self,
        name: str,
        detail: str,
        *,
        status: int | None = None,
        more: dict[str, Any] | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        kind, usual = _KINDS[name]
        super().__init__(kind, detail, status=status or usual)
        self.name = name
        self.more = more or {}
        self.headers = headers


def malformed(detail: str, status: int = 400) -> AcmeProblem:
    """The request is not what RFC 8555 says."""
    return AcmeProblem("malformed", detail, status=status)


def not_found() -> AcmeProblem:
    """No such thing, or not of this account: the answer is the same."""
    return malformed("there is no such resource, or it belongs to another account", 404)


def rate_limited(detail: str, seconds: int) -> AcmeProblem:
    """Too often; try again later."""
    return AcmeProblem("rateLimited", detail, headers=(("Retry-After", str(max(1, seconds))),))


def document(problem: Problem) -> dict[str, Any]:
    """A stored problem as orders and challenges show it."""
    shown: dict[str, Any] = {
        "type": NAMESPACE + problem.type,
        "detail": problem.detail,
        "status": problem.status,
    }
    if problem.identifier is not None:
        kind, value = problem.identifier
        shown["identifier"] = {"type": kind, "value": value}
    return shown


def kept(error: AcmeProblem, identifier: tuple[str, str] | None = None) -> Problem:
    """A refusal as a challenge or an order keeps it."""
    return Problem(
        type=error.name, detail=error.detail[:500], status=error.status or 400, identifier=identifier
    )


def compound(found: Sequence[Problem]) -> AcmeProblem:
    """One refusal for several identifiers (RFC 8555 6.7.1); for one, its own."""
    first = found[0]
    subproblems = [document(problem) for problem in found]
    if len(found) == 1:
        return AcmeProblem(first.type, first.detail, status=first.status, more={"subproblems": subproblems})
    name = first.type if len({problem.type for problem in found}) == 1 else "compound"
    return AcmeProblem(
        name,
        f"{len(found)} identifiers are refused; see subproblems",
        status=first.status,
        more={"subproblems": subproblems},
    )


def as_problem(error: KmsError) -> AcmeProblem:
    """What a refusal from below the door is called in ACME."""
    if isinstance(error, AcmeProblem):
        return error
    if error.kind in _REFUSED:
        return malformed(error.detail or "there is no such resource", error.status or _REFUSED[error.kind])
    if error.kind is ErrorKind.RATE_LIMITED:
        return rate_limited(error.detail, 1)
    if error.kind in _LATER:
        # What is wrong below is the operator's to know; the client only learns to come again.
        return AcmeProblem(
            "serverInternal",
            "the server cannot do this now; try again shortly",
            status=503,
            headers=(("Retry-After", "5"),),
        )
    return AcmeProblem("serverInternal", "the server failed; its operator log says how")


_REFUSED = {
    ErrorKind.INVALID: 400,
    ErrorKind.CONFLICT: 400,
    ErrorKind.DENIED: 403,
    ErrorKind.NOT_FOUND: 404,
    ErrorKind.NO_ROUTE: 404,
    ErrorKind.UNSUPPORTED: 405,
    ErrorKind.TOO_LARGE: 413,
}
_LATER = frozenset(
    {
        ErrorKind.SEALED,
        ErrorKind.UNINITIALIZED,
        ErrorKind.HSM_UNAVAILABLE,
        ErrorKind.STORAGE_UNAVAILABLE,
        ErrorKind.AUDIT_UNAVAILABLE,
    }
)
