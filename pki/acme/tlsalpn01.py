"""tls-alpn-01 (RFC 8737): a self-made certificate with the digest of the key authorization, over port 443."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import ssl

from cryptography import x509

from kms import strangers
from pki.acme.http01 import SECONDS, addresses
from pki.acme.network import Fleeting, Reach, connected
from pki.acme.problems import AcmeProblem
from pki.acme.resolving import Resolver

PROTOCOL = "acme-tls/1"
ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
_OCTETS = b"\x04\x20"  # DER of an OCTET STRING of 32 bytes


def validate(host: str, key_authorization: str, resolver: Resolver, reach: Reach) -> None:
    """Raise AcmeProblem unless the host shows the certificate. `host` is a name or an address."""
    found = addresses(host, resolver, reach)
    protocol, der = "", None
    with connected(found, reach.tls_port, SECONDS) as opened:
        try:
            with _context().wrap_socket(opened, server_hostname=_server_name(host)) as stream:
                protocol, der = stream.selected_alpn_protocol() or "", stream.getpeercert(binary_form=True)
        except ssl.SSLError as error:
            raise AcmeProblem("tls", f"the TLS handshake with {host} failed: {error.reason}") from None
        except OSError as error:
            raise Fleeting("connection", f"{host} broke off: {type(error).__name__}") from None
    if protocol != PROTOCOL or der is None:
        raise AcmeProblem("incorrectResponse", f"{host} did not agree to the protocol {PROTOCOL}")
    _judge(der, host, key_authorization)


def _judge(der: bytes, host: str, key_authorization: str) -> None:
    try:
        certificate = strangers.certificate(der)
        extensions = certificate.extensions
        names = list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (ValueError, x509.ExtensionNotFound):
        raise AcmeProblem("incorrectResponse", f"the certificate of {host} has no readable names") from None
    if names != [_general_name(host)]:
        raise AcmeProblem(
            "incorrectResponse", f"the certificate must name {host} and nothing else (RFC 8737 3)"
        )
    if certificate.issuer != certificate.subject:
        raise AcmeProblem("incorrectResponse", f"the certificate of {host} is not self-signed (RFC 8737 3)")
    try:
        found = extensions.get_extension_for_oid(ACME_IDENTIFIER)
    except x509.ExtensionNotFound:
        raise AcmeProblem(
            "incorrectResponse", f"the certificate of {host} has no acmeIdentifier extension (RFC 8737 3)"
        ) from None
    wanted = _OCTETS + hashlib.sha256(key_authorization.encode()).digest()
    value = found.value.value if isinstance(found.value, x509.UnrecognizedExtension) else b""
    if not found.critical:
        raise AcmeProblem("incorrectResponse", "the acmeIdentifier extension is not critical (RFC 8737 3)")
    if not hmac.compare_digest(wanted, value):
        raise AcmeProblem("incorrectResponse", "acmeIdentifier is not the digest of the key authorization")


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _server_name(host: str) -> str:
    """SNI; for an address its name in the reverse tree (RFC 8738 6)."""
    try:
        return ipaddress.ip_address(host).reverse_pointer
    except ValueError:
        return host


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([PROTOCOL])
    return context
