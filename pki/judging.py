"""Names that somebody else put together (a CSR taken as it is, a program's template), each by the one grammar."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cryptography import x509
from cryptography.x509.oid import NameOID

from kms.errors import invalid
from pki.names import Names, check_dns, check_email, check_uri, is_hostname
from pki.profiles.subject import bounded
from pki.requests import names_in

_MAX_SUBJECT = 256  # characters of one attribute; the named ones have tighter bounds below
_BOUNDS = {NameOID.COMMON_NAME: 64, NameOID.COUNTRY_NAME: 2, NameOID.SERIAL_NUMBER: 64}


def judged_subject(subject: x509.Name) -> x509.Name:
    """The same, of which every text is one that a certificate of ours carries. Raises KmsError(INVALID)."""
    for attribute in subject:
        if not isinstance(attribute.value, str):
            raise invalid("the subject is not text")
        maximum = _BOUNDS.get(attribute.oid, _MAX_SUBJECT)
        bounded(attribute.value, maximum, f"the subject's {attribute.rfc4514_attribute_name}")
    return subject


def copied(alternatives: x509.SubjectAlternativeName) -> Names:
    """The names of an extension that is carried over byte for byte, as constraints must see them.

    Raises:
        KmsError(INVALID): an IPv4 address written as IPv6, which relying parties read as the one or the other, or
            not at all (Go); a kind of name that no certificate of ours has.
    """
    names = names_in(alternatives)
    for ip in alternatives.get_values_for_type(x509.IPAddress):
        if ip not in names.ips:
            raise invalid(f"{ip} is an IPv4 address written as IPv6: it must be written as itself")
    return names


def judged(subject: x509.Name, names: Names) -> Names:
    """The names as the issuer's constraints must see them: a common name that is a host name counts as one.

    Raises:
        KmsError(INVALID): one that no certificate of ours carries, or none at all.
    """
    checks: tuple[tuple[tuple[str, ...], Callable[[str], str]], ...] = (
        (names.dns, check_dns),
        (names.emails, check_email),
        (names.uris, check_uri),
    )
    for values, check in checks:
        for value in values:
            try:
                check(value)
            except ValueError as bad:
                raise invalid(f"{value} cannot stand in a certificate: {bad}") from None
    if not list(subject) and not names.has_sans:
        raise invalid("a certificate needs a common name or a subject alternative name")
    return names


def with_common_names(subject: x509.Name, names: Names) -> Names:
    """The same, with each common name that is a host name among the names."""
    common = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    hosts = [str(each.value) for each in common if is_hostname(str(each.value))]
    return replace(names, common_name=hosts[0] if hosts else "", dns=(*names.dns, *hosts[1:]))
