"""URLs that go into certificates: where the issuer, its CRL and its responder are found."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from kms.errors import invalid

URL_FIELDS = ("issuing_certificates", "crl_distribution_points", "ocsp_servers")


def checked_urls(name: str, values: Iterable[str]) -> tuple[str, ...]:
    """Absolute http, https or ldap URLs. Raises KmsError(INVALID)."""
    checked = []
    for value in values:
        parts = urlsplit(value) if value.isascii() and value.isprintable() else None
        if (
            parts is None
            or parts.scheme not in {"http", "https", "ldap"}
            or not parts.hostname
            or " " in value
        ):
            raise invalid(
                f"invalid URL found in Authority Information Access (AIA) parameter {name}: {value}"
            )
        checked.append(value)
    return tuple(checked)
