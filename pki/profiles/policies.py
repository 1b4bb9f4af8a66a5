"""Certificate policies as roles write them: an object identifier, or JSON of one with its qualifiers (RFC 5280 4.2.1.4)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from cryptography import x509

from kms.errors import KmsError, invalid
from pki.names import BadName, check_uri
from pki.profiles.subject import bounded
from pki.profiles.usages import parse_oid

_MEMBERS = {"oid", "cps", "notice"}
_NOTICE = 200  # characters of an explicitText


def certificate_policies(identifiers: Iterable[str]) -> x509.CertificatePolicies:
    """The extension. Raises KmsError(INVALID) for what is no policy."""
    return x509.CertificatePolicies([_policy(text) for text in identifiers])


def _policy(text: str) -> x509.PolicyInformation:
    entry = _entry(text) if text.startswith("{") else {"oid": text}
    oid = parse_oid(entry.get("oid", ""))
    if oid is None:
        raise invalid(f'policy identifier "{text}" is not a valid OID')
    qualifiers: list[str | x509.UserNotice] = []
    if entry.get("cps"):
        qualifiers.append(_cps(entry["cps"]))
    if entry.get("notice"):
        notice = bounded(entry["notice"], _NOTICE, "the notice of a policy identifier")
        qualifiers.append(x509.UserNotice(None, notice))
    return x509.PolicyInformation(oid, qualifiers or None)


def _cps(uri: str) -> str:
    try:
        return check_uri(uri)
    except BadName as bad:
        raise invalid(
            f"the cps of a policy identifier, {uri}, cannot stand in a certificate: {bad}"
        ) from None


def _entry(text: str) -> dict[str, str]:
    try:
        entry: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise _malformed(text) from None
    if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
        raise _malformed(text)
    if not entry.keys() <= _MEMBERS:
        raise _malformed(text)
    return entry


def _malformed(text: str) -> KmsError:
    return invalid(
        f'policy identifier "{text}" is neither a valid OID nor JSON of an object with oid, cps and notice, all text'
    )
