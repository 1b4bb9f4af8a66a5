"""The one grammar of names that may enter a certificate, whether from a CSR, a field or a role.

Nothing is normalised behind the caller's back: a name is taken as it is or refused. Stricter than
RFC 5280 where relying parties disagree (trailing dots, partial wildcards, IP addresses as DNS names,
NUL and other control characters).
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

MAX_DNS = 253
MAX_CN = 64  # RFC 5280 ub-common-name
MAX_URI = 2048  # SPIFFE-ID section 2.3
MAX_EMAIL = 254
MAX_TRUST_DOMAIN = 255

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_LABEL = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\Z")
_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*\Z")
_URI_CHARACTERS = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+\Z")
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*\Z")
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]+\Z")
_SPIFFE_SEGMENT = re.compile(r"[A-Za-z0-9._-]+\Z")


class BadName(ValueError):  # noqa: N818  (a judgement on a name, not a failure)
    """A name that no certificate of ours will carry; the text says why."""


def check_dns(name: str) -> str:
    """A host name, or one whole leftmost `*` label before one (RFC 6125 6.4.3)."""
    fault = _dns_fault(name)
    if fault:
        raise BadName(fault)
    return name


def is_hostname(name: str) -> bool:
    """Whether `check_dns` takes it."""
    return not _dns_fault(name)


@lru_cache(maxsize=8192)
def _dns_fault(name: str) -> str:
    # Kept, because one request asks several times and a mesh asks for the same names for ever.
    try:
        _check_dns(name)
    except BadName as bad:
        return str(bad)
    return ""


def _check_dns(name: str) -> None:
    _check_ascii(name, MAX_DNS)
    if looks_like_ip(name):
        raise BadName("an IP address belongs into ip_sans")
    labels = name.split(".")
    if labels[0] == "*":
        labels = labels[1:]
        if not labels:
            raise BadName("a wildcard needs a domain after it")
    for label in labels:
        _check_label(label)
    if labels[-1].isdigit() or labels[-1].lower().startswith("0x"):
        # Such names are read as IPv4 addresses by URL parsers (WHATWG "ends in a number").
        raise BadName("the last label is a number")


def check_email(address: str) -> str:
    """An RFC 5280 rfc822Name with an ASCII host part."""
    _check_ascii(address, MAX_EMAIL)
    local, at, host = address.partition("@")
    if not at or len(local) > 64 or not _LOCAL_PART.match(local):
        raise BadName("not a plain local@host address")
    if "*" in host:
        raise BadName("an email address has no wildcard")
    check_dns(host)
    return address


def check_ip(text: str) -> IpAddress:
    """An address; IPv4 mapped into IPv6 counts as IPv4, zones are refused."""
    if "%" in text:
        raise BadName("an address with a zone means nothing elsewhere")
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise BadName("not an IP address") from None
    return canonical_ip(address)


def canonical_ip(address: IpAddress) -> IpAddress:
    """IPv4-mapped IPv6 as the IPv4 address it stands for, so that CIDR limits bite on both spellings."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped if mapped is not None else address


def check_uri(uri: str) -> str:
    """An absolute URI (RFC 5280 4.2.1.6); `spiffe:` ones follow SPIFFE-ID section 2."""
    _check_ascii(uri, MAX_URI)
    if not _URI_CHARACTERS.match(uri) or re.search(r"%(?![0-9A-Fa-f]{2})", uri):
        raise BadName("it has characters that a URI cannot have")
    scheme, colon, rest = uri.partition(":")
    if not colon or not rest or not _SCHEME.match(scheme):
        raise BadName("it is not absolute")
    if scheme.lower() == "spiffe":
        _check_spiffe(uri)
    elif rest.startswith("//"):
        try:
            host = urlsplit(uri).hostname
        except ValueError:
            host = None
        if not host or not (looks_like_ip(host) or is_hostname(host)):
            raise BadName("its authority is not a host")
    return uri


def _check_spiffe(uri: str) -> None:
    if not uri.startswith("spiffe://"):
        raise BadName("a SPIFFE ID begins with spiffe://")
    domain, slash, path = uri.removeprefix("spiffe://").partition("/")
    if len(domain) > MAX_TRUST_DOMAIN or not _TRUST_DOMAIN.match(domain):
        raise BadName("a trust domain has only a-z, 0-9, '.', '-' and '_'")
    segments = path.split("/") if slash else []
    if any(not _SPIFFE_SEGMENT.match(segment) or set(segment) == {"."} for segment in segments):
        raise BadName("path segments of a SPIFFE ID have only letters, digits, '.', '-' and '_'")


def looks_like_ip(text: str) -> bool:
    """Whether some relying party would read it as an address."""
    plain = text.strip("[]")
    if ":" not in plain and not plain[-1:].isdigit():
        return False
    try:
        ipaddress.ip_address(plain)
    except ValueError:
        return False
    return True


def check_text(value: str, maximum: int, what: str) -> str:
    """A directory string: not empty, bounded (in octets of UTF-8, as cryptography counts), without control characters.

    Raises:
        BadName: with `what` in the text.
    """
    if not value or len(value.encode("utf-8", "surrogatepass")) > maximum:
        raise BadName(f"{what} must have 1 to {maximum} characters (octets, in UTF-8)")
    # Of ASCII, only the 33 control characters are unprintable, and all of it is in form C.
    if value.isascii() and value.isprintable():
        return value
    if any(unicodedata.category(character)[0] == "C" for character in value):
        raise BadName(f"{what} has control characters")
    if unicodedata.normalize("NFC", value) != value:
        raise BadName(f"{what} is not in Unicode normal form C")
    return value


def _check_ascii(name: str, maximum: int) -> None:
    if not name or len(name) > maximum:
        raise BadName(f"it must have 1 to {maximum} characters")
    if not name.isascii():
        raise BadName("write international names in their ASCII form (xn--...)")
    if " " in name or not name.isprintable():
        raise BadName("it has blanks or control characters")


def _check_label(label: str) -> None:
    if not _LABEL.match(label):
        raise BadName(f"{label!r} is not a host name label")
    if label[2:4] != "--":
        return
    if not label.lower().startswith("xn--"):
        raise BadName("'--' in the third and fourth place is reserved (RFC 5891)")
    # An A-label must be what its U-label encodes to, or two spellings would name one host.
    try:
        decoded = label[4:].lower().encode("ascii").decode("punycode")
        again = decoded.encode("punycode").decode("ascii")
    except UnicodeError:
        raise BadName(f"{label!r} is not valid punycode") from None
    if decoded.isascii() or again != label[4:].lower() or unicodedata.normalize("NFC", decoded) != decoded:
        raise BadName(f"{label!r} is not valid punycode")


@dataclass(frozen=True, slots=True)
class Names:
    """What a certificate shall say about its holder, from wherever it was asked for."""

    common_name: str = ""
    dns: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    ips: tuple[IpAddress, ...] = ()
    uris: tuple[str, ...] = ()
    others: tuple[tuple[str, str], ...] = ()  # (OID, UTF-8 text)
    user_ids: tuple[str, ...] = ()
    serial_number: str = ""  # the subject attribute, not the certificate's

    @property
    def count(self) -> int:
        """All but the common name and the serial number."""
        return (
            len(self.dns)
            + len(self.emails)
            + len(self.ips)
            + len(self.uris)
            + len(self.others)
            + len(self.user_ids)
        )

    @property
    def has_sans(self) -> bool:
        """Whether there is a subjectAltName to make."""
        return bool(self.dns or self.emails or self.ips or self.uris or self.others)
