"""CAA (RFC 8659, 8657): whether the owner of a name lets this CA certify it. Asked for each name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pki.acme.problems import AcmeProblem
from pki.acme.resolving import Resolver

_KNOWN = frozenset({"issue", "issuewild", "iodef", "issuemail", "issuevmc", "contactemail", "contactphone"})
_CRITICAL = 128


@dataclass(frozen=True, slots=True)
class Asking:
    """Who wants to issue what.

    Args:
        identities: names of this CA.
        account: URL of the account (accounturi).
        method: challenge type that validated the name (validationmethods).
    """

    identities: tuple[str, ...]
    account: str
    method: str
    wildcard: bool


def check(host: str, asking: Asking, resolver: Resolver) -> None:
    """Raise AcmeProblem(caa) where the records of the name, or of the closest name above it, refuse."""
    labels = host.split(".")
    for at in range(len(labels)):
        name = ".".join(labels[at:])
        records = resolver.authorities(name)
        if records:
            _judge(name, records, asking)
            return


def _judge(name: str, records: Sequence[Any], asking: Asking) -> None:
    tagged = [
        (record.flags, record.tag.decode("ascii", "replace").lower(), record.value) for record in records
    ]
    if any(flags & _CRITICAL and tag not in _KNOWN for flags, tag, _ in tagged):
        raise AcmeProblem("caa", f"CAA of {name} has a critical property that is not known here")
    relevant = [value for _, tag, value in tagged if tag == "issue"]
    if asking.wildcard:
        relevant = [value for _, tag, value in tagged if tag == "issuewild"] or relevant
    if relevant and not any(_permits(value, asking) for value in relevant):
        raise AcmeProblem("caa", f"CAA of {name} does not let this CA issue")


def _permits(value: bytes, asking: Asking) -> bool:
    issuer, *parameters = value.decode("utf-8", "replace").split(";")
    if issuer.strip().lower() not in asking.identities:
        return False
    for text in parameters:
        tag, _, wanted = (part.strip() for part in text.partition("="))
        if tag.lower() == "accounturi" and wanted != asking.account:
            return False
        if tag.lower() == "validationmethods" and asking.method not in [
            one.strip() for one in wanted.split(",")
        ]:
            return False
    return True
