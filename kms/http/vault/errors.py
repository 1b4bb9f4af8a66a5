"""One table: kind of failure -> the Vault dialect's status and body."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kms.errors import ErrorKind, KmsError
from kms.http.vault.render import encode
from kms.http.vault.route import Rendered


@dataclass(frozen=True, slots=True)
class _Form:
    status: int
    texts: Callable[[str], list[str]]


_SOON = (("Retry-After", "1"),)


def _plain(detail: str) -> list[str]:
    return [detail]


def _optional(detail: str) -> list[str]:
    return [detail] if detail else []


def multi(detail: str) -> str:
    """One error in the form of Go's multierror, which clients match on."""
    return f"1 error occurred:\n\t* {detail}\n\n"


def _multi(detail: str) -> list[str]:
    return [detail if detail.endswith("\n\n") else multi(detail)]


def _fixed(text: str) -> Callable[[str], list[str]]:
    return lambda _detail: [text]


TABLE: dict[ErrorKind, _Form] = {
    ErrorKind.INVALID: _Form(400, _plain),
    ErrorKind.UNAUTHENTICATED: _Form(403, _fixed("permission denied")),
    ErrorKind.DENIED: _Form(403, _fixed(multi("permission denied"))),
    ErrorKind.NOT_FOUND: _Form(404, _optional),
    ErrorKind.NO_ROUTE: _Form(404, _plain),
    ErrorKind.UNSUPPORTED: _Form(405, _multi),
    ErrorKind.CONFLICT: _Form(400, _plain),
    ErrorKind.TOO_LARGE: _Form(413, _plain),
    ErrorKind.RATE_LIMITED: _Form(429, _plain),
    ErrorKind.SEALED: _Form(503, _fixed("Vault is sealed")),
    ErrorKind.UNINITIALIZED: _Form(503, _fixed("Vault is sealed")),
    # What is wrong with the parts below is for the operator log: it names paths and modules.
    ErrorKind.HSM_UNAVAILABLE: _Form(503, _fixed("the HSM is not available; try again shortly")),
    ErrorKind.STORAGE_UNAVAILABLE: _Form(503, _fixed("the storage is not available; try again shortly")),
    ErrorKind.AUDIT_UNAVAILABLE: _Form(503, _fixed("the audit log cannot take a record; try again shortly")),
    ErrorKind.INTEGRITY: _Form(500, _fixed("stored data does not verify; the operator log says what")),
    ErrorKind.INTERNAL: _Form(500, _plain),
}


OPERATIONAL = frozenset(
    {
        ErrorKind.HSM_UNAVAILABLE,
        ErrorKind.STORAGE_UNAVAILABLE,
        ErrorKind.AUDIT_UNAVAILABLE,
        ErrorKind.INTEGRITY,
        ErrorKind.INTERNAL,
    }
)
"""Kinds that are the operator's to mend; their details go to the operator log."""


def render_error(error: KmsError) -> Rendered:
    """`{"errors": [...]}`, with `data` beside it where the operation has partial results."""
    form = TABLE[error.kind]
    body: dict[str, object] = {"errors": [error.detail] if error.for_caller else form.texts(error.detail)}
    if error.data is not None:
        body["data"] = error.data
    status = error.status or form.status
    # Too many at once, which is over in a moment; a quota's own Retry-After comes with its call's headers.
    headers = _SOON if (error.kind, status) == (ErrorKind.RATE_LIMITED, 503) else ()
    return Rendered(status, encode(body) + b"\n", headers=headers)


def nothing(status: int) -> Rendered:
    """An error without a text."""
    return Rendered(status, b'{"errors":[]}\n')
