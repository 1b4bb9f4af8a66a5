"""How resources look in answers: their JSON, Location and Link headers."""

from __future__ import annotations

from typing import Any

from kms.operation import Result
from pki.acme.directories import Directory
from pki.acme.model import Account, Authorization, Challenge, Identifier, Order, Status
from pki.acme.problems import document
from pki.validity import iso

Headers = tuple[tuple[str, str], ...]


def answer(
    body: dict[str, Any],
    *,
    status: int = 200,
    headers: Headers = (),
    subject: dict[str, str | int] | None = None,
) -> Result:
    """A JSON answer of an ACME resource."""
    return Result(data=body, status=status, headers=headers, subject=subject or {})


def account(directory: Directory, shown: Account) -> dict[str, Any]:
    """RFC 8555 7.1.2."""
    return {
        "status": shown.status,
        "contact": list(shown.contact),
        "termsOfServiceAgreed": shown.terms_agreed,
        "orders": directory.url(f"account/{shown.id}/orders"),
    }


def identifier(shown: Identifier) -> dict[str, str]:
    """{"type", "value"}."""
    return {"type": shown.type, "value": shown.value}


def order(directory: Directory, shown: Order) -> dict[str, Any]:
    """RFC 8555 7.1.3, with `profile` and RFC 9773's `replaces`."""
    own = directory.url(f"order/{shown.id}")
    body: dict[str, Any] = {
        "status": shown.status,
        "expires": iso(shown.expires_at),
        "identifiers": [identifier(one) for one in shown.identifiers],
        "authorizations": [directory.url(f"authorization/{one}") for one in shown.authorizations],
        "finalize": f"{own}/finalize",
    }
    if shown.not_before:
        body["notBefore"] = iso(shown.not_before)
    if shown.not_after:
        body["notAfter"] = iso(shown.not_after)
    if shown.profile:
        body["profile"] = shown.profile
    if shown.replaces:
        body["replaces"] = shown.replaces
    if shown.error is not None:
        body["error"] = document(shown.error)
    if shown.status == Status.VALID:
        body["certificate"] = f"{own}/cert"
    return body


def authorization(directory: Directory, shown: Authorization) -> dict[str, Any]:
    """RFC 8555 7.1.4."""
    body: dict[str, Any] = {
        "status": shown.status,
        "expires": iso(shown.expires_at),
        "identifier": identifier(shown.identifier),
        "challenges": [challenge(directory, shown, one) for one in shown.challenges],
    }
    if shown.wildcard:
        body["wildcard"] = True
    return body


def challenge(directory: Directory, owner: Authorization, shown: Challenge) -> dict[str, Any]:
    """RFC 8555 8."""
    body: dict[str, Any] = {
        "type": shown.type,
        "url": directory.url(f"challenge/{owner.id}/{shown.type}"),
        "status": shown.status,
        "token": shown.token,
    }
    if shown.validated_at:
        body["validated"] = iso(shown.validated_at)
    if shown.error is not None:
        body["error"] = document(shown.error)
    return body
