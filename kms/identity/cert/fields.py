"""Fields of trusted certificates: what is taken, checked and shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from msgspec.structs import replace

from kms.errors import invalid
from kms.identity.cert.store import Trusted
from kms.identity.cert.trust import certificates, for_clients, is_authority
from kms.identity.methods import params
from kms.identity.outward import check_signed_url
from kms.operation import Field, Record, Type

_LISTS: Final = (
    "allowed_names",
    "allowed_common_names",
    "allowed_dns_sans",
    "allowed_email_sans",
    "allowed_uri_sans",
    "allowed_organizational_units",
    "required_extensions",
    "allowed_metadata_extensions",
    "ocsp_servers_override",
)
_FLAGS: Final = ("ocsp_enabled", "ocsp_fail_open", "ocsp_query_all_servers")
_TEXTS: Final = ("certificate", "display_name", "ocsp_ca_certificates")
_OID: Final = re.compile(r"[0-2](\.(0|[1-9][0-9]{0,9})){1,30}")

FIELDS: Final = (
    Field("certificate"),
    Field("ocsp_ca_certificates"),
    Field("display_name", record=Record.CLEAR),
    *(Field(name, Type.STRINGS, record=Record.CLEAR) for name in _LISTS),
    *(Field(name, Type.BOOL, record=Record.CLEAR) for name in _FLAGS),
    Field("lease", Type.INT, record=Record.CLEAR),
    *params.OLD_FIELDS,
    *params.PARAM_FIELDS,
)


def changed(before: Trusted | None, sent: Mapping[str, Any]) -> tuple[Trusted, tuple[str, ...]]:
    """The entry after a write. Raises KmsError(INVALID)."""
    old = before or Trusted()
    given = params.renamed(sent)
    if "lease" in given and "token_ttl" not in given:
        given["token_ttl"] = given["lease"]
    read = params.changes(given, old)
    read |= {name: tuple(given[name]) for name in _LISTS if name in given}
    read |= {name: given[name] for name in (*_FLAGS, *_TEXTS) if name in given}
    entry = replace(old, **read)
    _check(entry)
    return entry, ()


def _check(entry: Trusted) -> None:
    found = certificates(entry.certificate)
    if not found:
        raise invalid("failed to parse certificate")
    if not is_authority(found[0]) and not for_clients(found[0]):
        raise invalid("nonCA certificates should have TLS client authentication set as an extended key usage")
    certificates(entry.ocsp_ca_certificates)
    for demand in entry.required_extensions:
        oid, separator, _ = demand.partition(":")
        if not separator or not _OID.fullmatch(oid):
            raise invalid("required_extensions: each is written as 'oid:value'")
    for oid in entry.allowed_metadata_extensions:
        if not _OID.fullmatch(oid):
            raise invalid("allowed_metadata_extensions: each is an object identifier such as 1.2.3.4")
    for url in entry.ocsp_servers_override:
        check_signed_url(url)


def shown(entry: Trusted) -> dict[str, Any]:
    """The entry as the API shows it."""
    data = {name: getattr(entry, name) for name in (*_TEXTS, *_FLAGS)}
    data |= {name: list(getattr(entry, name)) or None for name in _LISTS}
    return {**params.shown(entry), **data}
