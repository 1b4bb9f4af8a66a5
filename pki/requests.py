"""Reading what is asked for: fields of the request, or a certificate signing request."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

from kms import strangers
from kms.errors import KmsError, invalid
from pki import der
from pki.model import Role
from pki.names import BadName, IpAddress, Names, canonical_ip, check_ip, is_hostname
from pki.profiles.usages import parse_oid
from pki.roles import parse_other_san

MAX_CSR = 64 * 1024  # characters; a post-quantum request with 100 names has about 20,000
MAX_NAMES = 100  # of all kinds together

_PEM_CSR = re.compile(
    r"-----BEGIN (?P<label>(?:NEW )?CERTIFICATE REQUEST)-----\s+(?P<body>[A-Za-z0-9+/=\s]+)-----END (?P=label)-----"
)


def parse_csr(text: str) -> x509.CertificateSigningRequest:
    """A PEM request whose self-signature holds.

    Raises:
        KmsError(INVALID): what is wrong with it.
    """
    if not text:
        raise invalid('"csr" is empty')
    if len(text) > MAX_CSR:
        raise invalid(f"the csr has more than {MAX_CSR} characters")
    match = _PEM_CSR.search(text)
    if match is None:
        raise invalid("csr contains no data")
    try:
        csr = strangers.request(base64.b64decode("".join(match["body"].split()), validate=True))
        valid = csr.is_signature_valid
    except (ValueError, binascii.Error, UnsupportedAlgorithm, InvalidSignature) as error:
        raise invalid(f"certificate request could not be parsed: {error}") from None
    if not valid:
        raise invalid("request signature is invalid: the requester does not hold the private key")
    return csr


def names_from_api(args: Mapping[str, Any], common_name: str | None = None) -> Names:
    """Names from `common_name`, `alt_names`, `ip_sans`, `uri_sans`, `other_sans`, `user_ids`.

    Raises:
        KmsError(INVALID): something that is no name at all, or too many.
    """
    cn = str(args.get("common_name") or "") if common_name is None else common_name
    alternatives = _list(args, "alt_names")
    return _complete(
        args,
        cn,
        dns=[name for name in alternatives if "@" not in name],
        emails=[name for name in alternatives if "@" in name],
        ips=[_ip(text) for text in _list(args, "ip_sans")],
        uris=_list(args, "uri_sans"),
        others=[_other(text) for text in _list(args, "other_sans")],
        user_ids=_list(args, "user_ids"),
        serial_number=str(args.get("serial_number") or ""),
    )


def names_from_csr(
    csr: x509.CertificateSigningRequest, args: Mapping[str, Any], role: Role
) -> tuple[Names, str]:
    """Names for `sign`, and where the alternative names came from ("CSR" or "the API").

    As in the peer: with use_csr_common_name the CSR's common name wins, with use_csr_sans its
    alternative names replace all of the API's; serial number and user ids of its subject count where the
    API has none. All other wishes of a CSR are ignored.
    """
    own = {
        "serial_number": args.get("serial_number") or _csr_attribute(csr, NameOID.SERIAL_NUMBER),
        "user_ids": _list(args, "user_ids") or _csr_values(csr, NameOID.USER_ID),
    }
    args = {**args, **own}
    cn = _csr_attribute(csr, NameOID.COMMON_NAME) if role.use_csr_common_name else ""
    cn = cn or str(args.get("common_name") or "")
    if not role.use_csr_sans:
        return names_from_api(args, cn), "the API"
    found = _csr_names(csr)
    names = _complete(
        args,
        cn,
        dns=list(found.dns),
        emails=list(found.emails),
        ips=found.ips,
        uris=found.uris,
        others=found.others,
        user_ids=args["user_ids"],
        serial_number=str(args["serial_number"]),
    )
    return names, "CSR"


def ignored(args: Mapping[str, Any], role: Role) -> tuple[str, ...]:
    """Warnings about fields of the API that lose against the CSR under this role."""
    checks = (
        ("common_name", role.use_csr_common_name, "use_csr_common_name"),
        ("alt_names", role.use_csr_sans, "use_csr_sans"),
    )
    return tuple(
        f'the {name} field was provided but the role is set with "{flag}" set to true'
        for name, loses, flag in checks
        if loses and args.get(name)
    )


def _complete(
    args: Mapping[str, Any],
    cn: str,
    *,
    dns: list[str],
    emails: list[str],
    ips: Iterable[IpAddress],
    uris: Iterable[str],
    others: Iterable[tuple[str, str]],
    user_ids: Iterable[str],
    serial_number: str,
) -> Names:
    """Put the common name among the alternative names, drop repeats, count."""
    if cn and not args.get("exclude_cn_from_sans"):
        if "@" in cn:
            emails.insert(0, cn)
        elif is_hostname(cn):
            dns.insert(0, cn)
    complete = Names(
        common_name=cn,
        dns=_unique(dns),
        emails=_unique(emails),
        ips=tuple(dict.fromkeys(ips)),
        uris=_unique(uris),
        others=tuple(dict.fromkeys(others)),
        user_ids=_unique(user_ids),
        serial_number=serial_number,
    )
    if complete.count > MAX_NAMES:
        raise invalid(f"a certificate has at most {MAX_NAMES} names")
    return complete


def _csr_names(csr: x509.CertificateSigningRequest) -> Names:
    try:
        alternatives = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return Names()
    return names_in(alternatives)


def names_in(alternatives: x509.SubjectAlternativeName) -> Names:
    """All names of an extension. Raises KmsError(INVALID) for a kind that no certificate of ours has."""
    known = (x509.DNSName, x509.RFC822Name, x509.IPAddress, x509.UniformResourceIdentifier, x509.OtherName)
    for name in alternatives:
        if not isinstance(name, known):
            raise invalid(f"the CSR asks for an unsupported kind of name: {type(name).__name__}")
    return Names(
        dns=tuple(alternatives.get_values_for_type(x509.DNSName)),
        emails=tuple(alternatives.get_values_for_type(x509.RFC822Name)),
        ips=tuple(_address(ip) for ip in alternatives.get_values_for_type(x509.IPAddress)),
        uris=tuple(alternatives.get_values_for_type(x509.UniformResourceIdentifier)),
        others=tuple(_csr_other(name) for name in alternatives if isinstance(name, x509.OtherName)),
    )


def common_name(csr: x509.CertificateSigningRequest) -> str:
    """The CSR's common name, "" for none. Raises KmsError(INVALID) for several."""
    return _csr_attribute(csr, NameOID.COMMON_NAME)


def _csr_attribute(csr: x509.CertificateSigningRequest, oid: x509.ObjectIdentifier) -> str:
    values = _csr_values(csr, oid)
    if len(values) > 1:
        raise invalid(f"the CSR's subject has more than one {oid._name}")  # noqa: SLF001  (its only readable name)
    return values[0] if values else ""


def _csr_values(csr: x509.CertificateSigningRequest, oid: x509.ObjectIdentifier) -> list[str]:
    values = [attribute.value for attribute in csr.subject.get_attributes_for_oid(oid)]
    if not all(isinstance(value, str) for value in values):
        raise invalid("the CSR's subject is not text")
    return [str(value) for value in values]


def _csr_other(name: x509.OtherName) -> tuple[str, str]:
    """What `oid;utf8:value` makes, and nothing else."""
    oid = name.type_id.dotted_string
    try:
        text = der.content(name.value).decode()
    except (KmsError, UnicodeDecodeError):  # a client's bytes, not ours: no INTEGRITY
        text = ""
    if not text or name.value != der.tlv(der.UTF8_STRING, text.encode()):
        raise invalid(f"the CSR's other name {oid} is not a UTF-8 string")
    return oid, text


def _address(ip: Any) -> Any:
    if not hasattr(ip, "packed"):
        raise invalid("the CSR asks for an IP network; certificates of ours name addresses")
    return canonical_ip(ip)


def _ip(text: str) -> Any:
    try:
        return check_ip(text)
    except BadName:
        raise invalid(f'the value "{text}" is not a valid IP address') from None


def _other(text: str) -> tuple[str, str]:
    try:
        oid, value = parse_other_san(text)
    except KmsError as error:
        raise invalid(f"could not parse requested other SAN: {error.detail}") from None
    if parse_oid(oid) is None:
        raise invalid(f'could not parse "{oid}" as an object identifier of an other SAN')
    return oid, value


def _list(args: Mapping[str, Any], name: str) -> list[str]:
    return [text.strip() for text in args.get(name) or () if text.strip()]


def _unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))
