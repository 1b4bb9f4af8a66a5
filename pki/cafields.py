"""What a request for a CA certificate says, read and checked before any key is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from cryptography import x509

from kms.errors import invalid
from pki.model import Role
from pki.names import BadName, Names, check_dns, check_email, check_uri
from pki.profiles.ca import CaRequest
from pki.profiles.leaf import SUBJECT_FIELDS
from pki.profiles.subject import fixed_attributes, subject
from pki.profiles.usages import ext_key_usages
from pki.requests import names_from_api

# CA requests know no role; their times follow the same rules under one that allows everything.
CA_ROLE = Role(require_cn=False, not_before_duration=30)


def ca_role(args: Mapping[str, Any]) -> Role:
    """`CA_ROLE` with the request's own backdating."""
    duration = args.get("not_before_duration")
    return (
        CA_ROLE if duration is None else msgspec.structs.replace(CA_ROLE, not_before_duration=int(duration))
    )


def ca_request(args: Mapping[str, Any], csr_subject: x509.Name | None = None) -> CaRequest:
    """Subject, names and constraints for a CA certificate; `csr_subject` replaces the API's subject.

    The common name of a CA is no host name, so it is not put among the alternative names.

    Raises:
        KmsError(INVALID): what is wrong.
    """
    names = names_from_api({**args, "exclude_cn_from_sans": True, "user_ids": ()})
    _check_names(names)
    fixed = fixed_attributes({field: _texts(args, field) for field in SUBJECT_FIELDS})
    own = subject(fixed, names)
    permitted = tuple(text.strip() for text in _texts(args, "permitted_dns_domains") if text.strip())
    for domain in permitted:
        try:
            check_dns(domain.removeprefix("."))
        except BadName as bad:
            raise invalid(f"permitted_dns_domains: {domain}: {bad}") from None
    usages = ext_key_usages(_texts(args, "ext_key_usage"), _texts(args, "ext_key_usage_oids"))
    return CaRequest(
        subject=csr_subject if csr_subject is not None else own,
        names=names,
        path_length=_path_length(args),
        permitted_dns=permitted,
        ext_key_usages=tuple(usages),
        skid=_skid(args),
        digital_signature=any(_signs(name) for name in _texts(args, "key_usage")),
    )


def csr_only(args: Mapping[str, Any]) -> tuple[x509.Name, Names]:
    """Subject and names of an intermediate's CSR."""
    request = ca_request({**args, "max_path_length": -1})
    if not list(request.subject):
        raise invalid("a CA needs a subject: give common_name")
    return request.subject, request.names


def _skid(args: Mapping[str, Any]) -> bytes:
    text = str(args.get("skid") or "").replace(":", "")
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise invalid(f"cannot parse requested SKID value as hex: {error}") from None


def _signs(name: str) -> bool:
    return name.strip().lower().removeprefix("keyusage") == "digitalsignature"


def _path_length(args: Mapping[str, Any]) -> int | None:
    length = int(args.get("max_path_length", -1))
    if length < -1:
        raise invalid("max_path_length must be -1 (no limit) or more")
    return None if length == -1 else length


def _check_names(names: Names) -> None:
    checks = ((names.dns, check_dns), (names.emails, check_email), (names.uris, check_uri))
    for values, check in checks:
        for value in values:
            try:
                check(value)
            except BadName as bad:
                raise invalid(f"{value} cannot stand in a certificate: {bad}") from None


def _texts(args: Mapping[str, Any], name: str) -> list[str]:
    value = args.get(name) or ()
    return [value] if isinstance(value, str) else list(value)
