"""From the message that a program made to the subject, names and extensions of a leaf.

A member is carried over or refused by name; none is dropped in silence. What no leaf of ours may have (a CA, a CA's
usages, "any" purpose, an answerer's or a time stamper's) is refused here as it is for ordinary roles.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from cryptography import x509
from cryptography.x509.oid import NameOID

from kms.errors import invalid
from pki.judging import judged
from pki.names import Names
from pki.profiles.draft import Extensions
from pki.profiles.subject import ATTRIBUTES, alternative_names, bounded, fixed_attributes
from pki.profiles.usages import exact_key_usage, refuse_usages
from pki.requests import MAX_NAMES

_MAX_EXTENSIONS = 16
_MAX_EXTENSION = 4096  # octets of one

# Members of the template and of the name in it -> what a role calls them.
_NAME_FIELDS = {
    "Country": "country",
    "Organization": "organization",
    "OrganizationUnit": "ou",
    "Locality": "locality",
    "Province": "province",
    "StreetAddress": "street_address",
    "PostalCode": "postal_code",
}
_ORDER = ("country", "province", "locality", "street_address", "postal_code", "organization", "ou")
_CARRIED = {
    "Version",
    "Subject",
    "NotBefore",
    "NotAfter",
    "KeyUsage",
    "ExtraExtensions",
    "ExtKeyUsage",
    "UnknownExtKeyUsage",
    "BasicConstraintsValid",
    "DNSNames",
    "EmailAddresses",
    "IPAddresses",
    "URIs",
    "Policies",
}
_WHY_NOT = {
    "IsCA": "use root/sign-intermediate for a CA",
    "SubjectKeyId": "it is computed from the key",
    "PolicyIdentifiers": "write Policies",
}
# By the numbers of the peer's ExtKeyUsage.
_USAGES = (
    "2.5.29.37.0",
    "1.3.6.1.5.5.7.3.1",
    "1.3.6.1.5.5.7.3.2",
    "1.3.6.1.5.5.7.3.3",
    "1.3.6.1.5.5.7.3.4",
    "1.3.6.1.5.5.7.3.5",
    "1.3.6.1.5.5.7.3.6",
    "1.3.6.1.5.5.7.3.7",
    "1.3.6.1.5.5.7.3.8",
    "1.3.6.1.5.5.7.3.9",
    "1.3.6.1.4.1.311.10.3.3",
    "2.16.840.1.113730.4.1",
    "1.3.6.1.4.1.311.2.1.22",
    "1.3.6.1.4.1.311.61.1.1",
)
_OURS = ("2.5.29.", "1.3.6.1.5.5.7.1.")  # arcs whose extensions say what the CA says, never a program's bytes


def refuse_rest(template: Mapping[str, Any]) -> None:
    """Raises KmsError(INVALID) for a member that a leaf of ours does not have."""
    for member in template:
        if member not in _CARRIED:
            raise invalid(
                f"CertTemplate.{member} is not carried over: {_WHY_NOT.get(member, 'it is for CAs')}"
            )
    if template.get("Version", 3) != 3:
        raise invalid("CertTemplate.Version is 3, or left out")


def holder(template: Mapping[str, Any]) -> tuple[x509.Name, Names]:
    """The subject, and every name by the one grammar. Raises KmsError(INVALID)."""
    found = template.get("Subject", {})
    fields = {_NAME_FIELDS[member]: found[member] for member in _NAME_FIELDS if member in found}
    fixed = fixed_attributes(fields)
    oids = {field: oid for field, oid, _ in ATTRIBUTES}
    parts = [[each for each in fixed if each.oid == oids[field]] for field in _ORDER]
    for member, oid in (("CommonName", NameOID.COMMON_NAME), ("SerialNumber", NameOID.SERIAL_NUMBER)):
        if found.get(member):
            parts.append([x509.NameAttribute(oid, bounded(found[member], 64, member))])
    try:
        subject = x509.Name([x509.RelativeDistinguishedName(part) for part in parts if part])
    except ValueError as error:
        raise invalid(f"the subject cannot stand in a certificate: {error}") from None
    names = Names(
        dns=tuple(template.get("DNSNames", ())),
        emails=tuple(template.get("EmailAddresses", ())),
        ips=tuple(_address(each.get("IP", b"")) for each in template.get("IPAddresses", ())),
        uris=tuple(_uri(each) for each in template.get("URIs", ())),
    )
    if names.count > MAX_NAMES:
        raise invalid(f"a certificate has at most {MAX_NAMES} names")
    return subject, judged(subject, names)


def extensions(template: Mapping[str, Any], subject: x509.Name, names: Names, key_type: str) -> Extensions:
    """All that the template asks for; those of the issuer and of the key come from elsewhere."""
    made: list[tuple[x509.ExtensionType, bool]] = []
    if template.get("KeyUsage"):
        made.append((exact_key_usage(int(template["KeyUsage"]), key_type), True))
    usages = _ext_key_usages(template)
    if usages:
        made.append((x509.ExtendedKeyUsage(usages), False))
    if template.get("BasicConstraintsValid"):
        made.append((x509.BasicConstraints(ca=False, path_length=None), True))
    if names.has_sans:
        made.append((alternative_names(names), not list(subject)))
    if template.get("Policies"):
        policies = [x509.PolicyInformation(_oid(each), None) for each in template["Policies"]]
        made.append((x509.CertificatePolicies(policies), False))
    return (*made, *_extra(template.get("ExtraExtensions", ())))


def _ext_key_usages(template: Mapping[str, Any]) -> list[x509.ObjectIdentifier]:
    found: dict[x509.ObjectIdentifier, None] = {}
    for number in template.get("ExtKeyUsage", ()):
        if not 0 <= number < len(_USAGES):
            raise invalid("unable to create certificate: x509: unknown extended key usage")
        found[x509.ObjectIdentifier(_USAGES[number])] = None
    for each in template.get("UnknownExtKeyUsage", ()):
        found[_oid(each)] = None
    refuse_usages(found)
    return list(found)


def _extra(asked: Any) -> list[tuple[x509.ExtensionType, bool]]:
    if len(asked) > _MAX_EXTENSIONS:
        raise invalid(f"a certificate has at most {_MAX_EXTENSIONS} ExtraExtensions")
    made: dict[str, tuple[x509.ExtensionType, bool]] = {}
    for each in asked:
        oid, value = _oid({"arc": each.get("Id", [])}), each.get("Value", b"")
        text = oid.dotted_string
        if text.startswith(_OURS):
            raise invalid(f"ExtraExtensions cannot hold {text}: use the member of CertTemplate for it")
        if text in made or not 0 < len(value) <= _MAX_EXTENSION:
            raise invalid(f"ExtraExtensions holds {text} twice, empty, or with over {_MAX_EXTENSION} bytes")
        made[text] = (x509.UnrecognizedExtension(oid, value), bool(each.get("Critical")))
    return list(made.values())


def _oid(message: Mapping[str, Any]) -> x509.ObjectIdentifier:
    text = ".".join(str(number) for number in message.get("arc", ()))
    try:
        return x509.ObjectIdentifier(text)
    except ValueError:
        raise invalid(f"{text[:100]!r} is not an object identifier") from None


def _address(octets: bytes) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(octets)
    except ValueError:
        raise invalid(f"bad IP address: invalid IP bytes: {octets[:32].hex()}") from None


def _uri(url: Mapping[str, Any]) -> str:
    """As Go's url.URL prints itself."""
    for member in ("RawPath", "OmitHost", "ForceQuery", "RawFragment"):
        if url.get(member):
            raise invalid(f"url.URL.{member} is not carried over: leave it out")
    scheme = f"{url['Scheme']}:" if url.get("Scheme") else ""
    if url.get("Opaque"):
        rest = str(url["Opaque"])
    else:
        rest = f"//{_user(url.get('User'))}{url['Host']}" if url.get("Host") or url.get("User") else ""
        path = quote(url.get("Path", ""), safe="/$&+,:;=@-._~!'()*")
        rest += f"/{path}" if rest and path and not path.startswith("/") else path
    if url.get("RawQuery"):
        rest += f"?{url['RawQuery']}"
    if url.get("Fragment"):
        rest += "#" + quote(url["Fragment"], safe="/?$&+,:;=@-._~!'()*")
    return scheme + rest


def _user(user: Mapping[str, Any] | None) -> str:
    if user is None:
        return ""
    if user.get("password_set"):
        raise invalid("a name in a certificate holds no password")
    return f"{quote(user.get('username', ''), safe='$&+,;=-._~')}@"
