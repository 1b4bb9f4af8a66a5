"""Subject and subjectAltName in cryptography's types."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from cryptography import x509
from cryptography.x509.oid import NameOID

from kms.errors import invalid
from pki import der
from pki.names import MAX_CN, BadName, Names, check_text

# In the order in which the peer writes them, with RFC 5280's upper bounds (appendix A.1).
ATTRIBUTES: tuple[tuple[str, x509.ObjectIdentifier, int], ...] = (
    ("country", NameOID.COUNTRY_NAME, 2),
    ("organization", NameOID.ORGANIZATION_NAME, 64),
    ("ou", NameOID.ORGANIZATIONAL_UNIT_NAME, 64),
    ("locality", NameOID.LOCALITY_NAME, 128),
    ("province", NameOID.STATE_OR_PROVINCE_NAME, 128),
    ("street_address", NameOID.STREET_ADDRESS, 128),
    ("postal_code", NameOID.POSTAL_CODE, 40),
)

MAX_OTHER = 1024  # octets of an other name: the longest userPrincipalName has that many
_PRINTABLE = re.compile(r"[A-Za-z0-9 '()+,./:=?-]+\Z")  # X.680 table 10


def fixed_attributes(values: Mapping[str, Sequence[str]]) -> tuple[x509.NameAttribute[str], ...]:
    """The attributes that a role or a CA request sets, by field name.

    Raises:
        KmsError(INVALID): a value outside its bounds.
    """
    found = []
    for field, oid, maximum in ATTRIBUTES:
        for value in values.get(field, ()):
            text = bounded(value, maximum, field)
            if field == "country" and not (len(text) == 2 and text.isascii() and text.isalpha()):
                raise invalid("country must be two letters (ISO 3166)")
            found.append(x509.NameAttribute(oid, text))
    return tuple(found)


def bounded(value: str, maximum: int, what: str) -> str:
    """`check_text` for callers of the API."""
    try:
        return check_text(value, maximum, what)
    except BadName as bad:
        raise invalid(str(bad)) from None


def subject(fixed: Sequence[x509.NameAttribute[str]], names: Names) -> x509.Name:
    """The distinguished name; empty when nothing is given."""
    check_subject(names)
    attributes = list(fixed)
    if names.common_name:
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, names.common_name))
    if names.serial_number:
        attributes.append(x509.NameAttribute(NameOID.SERIAL_NUMBER, names.serial_number))
    attributes += [x509.NameAttribute(NameOID.USER_ID, user_id) for user_id in names.user_ids]
    return x509.Name(attributes)


def check_subject(names: Names) -> None:
    """Raises KmsError(INVALID) for a text of the subject outside its bounds."""
    if names.common_name:
        bounded(names.common_name, MAX_CN, "the common name")
    if names.serial_number:
        bounded(names.serial_number, 64, "serial_number")
        if not _PRINTABLE.match(names.serial_number):
            raise invalid("serial_number must be a PrintableString (RFC 5280 appendix A.1)")
    for user_id in names.user_ids:
        bounded(user_id, 256, "user_ids")


def alternative_names(names: Names) -> x509.SubjectAlternativeName:
    """All names in a fixed order of kinds; the names are checked already."""
    general: list[x509.GeneralName] = [x509.DNSName(name) for name in names.dns]
    general += [x509.RFC822Name(address) for address in names.emails]
    general += [x509.IPAddress(address) for address in names.ips]
    general += [x509.UniformResourceIdentifier(uri) for uri in names.uris]
    general += [x509.OtherName(x509.ObjectIdentifier(oid), _utf8_string(text)) for oid, text in names.others]
    return x509.SubjectAlternativeName(general)


def kinds(names: Names) -> tuple[bool, bool, bool, bool, bool]:
    """Which kinds of alternative names there are: part of a draft's shape."""
    return bool(names.dns), bool(names.emails), bool(names.ips), bool(names.uris), bool(names.others)


def _utf8_string(text: str) -> bytes:
    """DER of the value of an other name."""
    content = text.encode()
    if len(content) > MAX_OTHER:
        raise invalid(f"an other_sans value has at most {MAX_OTHER} bytes")
    return der.tlv(der.UTF8_STRING, content)
