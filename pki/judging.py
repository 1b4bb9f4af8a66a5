"""Names that somebody else put together (a CSR taken as it is, a program's template), each by the one grammar."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cryptography import x509
from cryptography.x509.oid import NameOID

from kms.errors import invalid
from pki.names import Names, check_dns, check_email, check_uri, is_hostname


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
