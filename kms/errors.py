"""The one error vocabulary of the service.

Everything below the doors raises `KmsError` with a kind; no HTTP status lives here. Each door has one
table from kind to its own dialect. The detail is a sentence for the caller: it never holds a secret,
a token, or a byte of key material, because it is both sent to the client and written to the log.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class ErrorKind(StrEnum):
    """Why a request could not be served. Closed: doors map every member."""

    INVALID = "invalid"  # the request itself is wrong; resending it unchanged cannot work
    UNAUTHENTICATED = "unauthenticated"  # no credential, or one that we do not know
    DENIED = "denied"  # a known caller without the right
    NOT_FOUND = "not_found"  # the named thing does not exist
    NO_ROUTE = "no_route"  # no mount, or no such path in the mount
    UNSUPPORTED = "unsupported"  # the path exists, the verb does not
    CONFLICT = "conflict"  # lost a compare-and-swap, or the name is taken
    TOO_LARGE = "too_large"
    RATE_LIMITED = "rate_limited"
    SEALED = "sealed"
    UNINITIALIZED = "uninitialized"
    HSM_UNAVAILABLE = "hsm_unavailable"
    STORAGE_UNAVAILABLE = "storage_unavailable"
    AUDIT_UNAVAILABLE = "audit_unavailable"
    INTEGRITY = "integrity"  # stored bytes do not verify: never served, always alarmed
    INTERNAL = "internal"  # a defect; details go to the operator log only


class KmsError(Exception):
    """A refusal or failure that a door can render.

    Args:
        kind: what class of failure this is.
        detail: one sentence for the caller, with a hint where one helps; no secrets.
        data: optional structured part of the answer (a batch's partial results).
        status: a code for doors whose dialect wants another than the kind's usual one. Only for
            compatibility with a documented wire behaviour; kinds are the rule.

    Attributes:
        for_caller: the detail is for callers too, where those of its kind are for the operator alone.
    """

    def __init__(
        self,
        kind: ErrorKind,
        detail: str,
        *,
        data: dict[str, Any] | list[Any] | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.data = data
        self.status = status
        self.for_caller = False
        self.recorded = False  # set by the pipeline once a record of this failure exists


def invalid(detail: str) -> KmsError:
    """The request is wrong; say what to do instead."""
    return KmsError(ErrorKind.INVALID, detail)


def not_found(detail: str = "") -> KmsError:
    """The named thing does not exist."""
    return KmsError(ErrorKind.NOT_FOUND, detail)


def integrity(detail: str) -> KmsError:
    """Stored bytes failed verification."""
    return KmsError(ErrorKind.INTEGRITY, detail)
