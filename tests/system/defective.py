"""Requests for certificates that must not exist, one per rule that each breaks and no other.

`setup` makes the mounts and roles that they are sent to: pki below is a root with the role `web` (names below
example.com), `int` an intermediate that may name example.com only.
"""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import math
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.harness.api import Api

PKI, INT = "pki-defective", "int-defective"
WEB = {
    "allowed_domains": ["example.com"],
    "allow_subdomains": True,
    "key_type": "any",
    "allowed_ip_sans_cidr": ["10.0.0.0/8"],
    "allowed_uri_sans": ["spiffe://td.example/*", "/*"],
    "allowed_other_sans": ["1.3.6.1.4.1.311.20.2.3;utf8:*"],
    "allowed_serial_numbers": ["*"],
    "max_ttl": "48h",
}
ROLES: dict[str, dict[str, Any]] = {
    "web": WEB,
    "any": {**WEB, "allow_any_name": True, "enforce_hostnames": False, "require_cn": False},
    "svid": {**WEB, "profile": "spiffe"},
    "ca": {**WEB, "profile": "ca", "allow_any_name": True, "enforce_hostnames": False},
    "short": {**WEB, "no_rev_avail": True, "max_ttl": "1h", "not_after_bound": "2040-01-01T00:00:00Z"},
}

gmpy2: Any = import_module("gmpy2")  # it has no stubs
Key = Any  # one of cryptography's private keys


@dataclass(frozen=True)
class Defect:
    """`why` must stand in the refusal."""

    rule: str
    why: str
    path: str = f"{PKI}/sign/web"
    body: dict[str, Any] = field(default_factory=dict)


def setup(api: Api) -> None:
    """Mounts, authorities and roles."""
    for path in (PKI, INT):
        api.ok("POST", f"sys/mounts/{path}", {"type": "pki"})
    root = {"common_name": "Root", "key_type": "ec", "ttl": "700h"}
    api.ok("POST", f"{PKI}/root/generate/internal", root)
    csr = own_request(api)
    below = {"csr": csr, "permitted_dns_domains": ["example.com"], "max_path_length": 0, "ttl": "24h"}
    signed = api.post(f"{PKI}/root/sign-intermediate", below).json["data"]["certificate"]
    api.ok("POST", f"{INT}/intermediate/set-signed", {"certificate": signed})
    for name, role in ROLES.items():
        api.ok("POST", f"{PKI}/roles/{name}", role)
        if name in {"web", "any"}:
            api.ok("POST", f"{INT}/roles/{name}", role)


def own_request(api: Api) -> str:
    """The request of a CA key of this server."""
    wanted = {"common_name": "Below", "key_type": "ec"}
    csr: str = api.post(f"{INT}/intermediate/generate/internal", wanted).json["data"]["csr"]
    return csr


def request(
    key: Key | None = None,
    *names: x509.GeneralName,
    common_name: str = "a.example.com",
    extra: Sequence[x509.ExtensionType] = (),
) -> str:
    """A CSR in PEM; the key is a good one unless given."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
    builder = x509.CertificateSigningRequestBuilder(x509.Name(attributes))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for extension in extra:
        builder = builder.add_extension(extension, critical=False)
    edwards = isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    return builder.sign(key, None if edwards else hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def rsa_key(p: int, q: int) -> rsa.RSAPrivateKey:
    """A key of these primes."""
    e, n = 65537, p * q
    d = int(gmpy2.invert(e, (p - 1) * (q - 1)))
    crt = (rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q))
    numbers = rsa.RSAPrivateNumbers(p, q, d, *crt, rsa.RSAPublicNumbers(e, n))
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)


def close_primes() -> rsa.RSAPrivateKey:
    """What CVE-2022-26320 made: the next prime after the first."""
    p = int(gmpy2.next_prime(secrets.randbits(1024) | 3 << 1022))
    return rsa_key(p, int(gmpy2.next_prime(p + 1000)))


def infineon_prime() -> int:
    """k*M + 65537^a mod M (CVE-2017-15361), for the M of 1024-bit primes."""
    m = math.prod(p for p in range(2, 702) if all(p % d for d in range(2, math.isqrt(p) + 1)))
    while True:
        k = secrets.randbits(1024 - m.bit_length())
        p = k * m + pow(65537, secrets.randbits(128), m)
        if p >> 1022 == 3 and p % 65537 != 1 and gmpy2.is_prime(p):
            return p


def off_curve() -> str:
    """A CSR whose P-256 point lies beside the curve."""
    key = ec.generate_private_key(ec.SECP256R1())
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    der = x509.load_pem_x509_csr(request(key).encode()).public_bytes(Encoding.DER)
    moved = der.replace(point, point[:-1] + bytes([point[-1] ^ 1]))
    return pem(moved)


def pem(der: bytes) -> str:
    """A CSR's PEM, whatever it holds."""
    text = base64.encodebytes(der).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n"


def tampered() -> str:
    """A CSR whose signature is another's."""
    der = bytearray(
        x509.load_pem_x509_csr(request(ed25519.Ed25519PrivateKey.generate()).encode()).public_bytes(
            Encoding.DER
        )
    )
    der[-1] ^= 1
    return pem(bytes(der))


def keys(api: Api, blocked: Key) -> Iterator[Defect]:
    """What is wrong is the key (T-55b)."""
    made: dict[str, tuple[Callable[[], Key], str]] = {
        "RSA of 1024 bits": (lambda: rsa.generate_private_key(65537, 1024), "2048 bits are unsafe"),  # noqa: S505  (that is the point)
        "RSA of 2050 bits": (lambda: rsa.generate_private_key(65537, 2050), "multiple of 8"),
        "RSA with e=3": (lambda: rsa.generate_private_key(3, 2048), "public exponent"),
        "RSA with close primes": (close_primes, "close prime factors"),
        "RSA of Infineon's library": (lambda: rsa_key(infineon_prime(), infineon_prime()), "ROCA"),
        "P-224": (lambda: ec.generate_private_key(ec.SECP224R1()), "unsupported curve"),
        "secp256k1": (lambda: ec.generate_private_key(ec.SECP256K1()), "unsupported curve"),
        "DSA": (lambda: dsa.generate_private_key(2048), "unsupported key type"),
        "Ed448": (ed448.Ed448PrivateKey.generate, "unsupported key type"),
        "a blocked key": (lambda: blocked, "blocklist"),
    }
    for rule, (make, why) in made.items():
        yield Defect(rule, why, body={"csr": request(make())})
    body = {"csr": own_request(api), "common_name": "a.example.com"}
    yield Defect("a key of a CA here", "belongs to a CA", body=body)
    yield Defect("a point off the curve", "could not be parsed", body={"csr": off_curve()})
    yield Defect("a CSR signed by somebody else", "signature is invalid", body={"csr": tampered()})
    yield Defect("text that is no CSR", "no data", body={"csr": "-----BEGIN CERTIFICATE-----"})


def names() -> Iterator[Defect]:
    """What is wrong is a name, in the API's fields or in the CSR (T-54)."""
    in_fields: list[tuple[str, str, str, object]] = [
        ("an underscore", "not allowed", "alt_names", "a_b.example.com"),
        ("a partial wildcard", "not allowed", "alt_names", "a*.example.com"),
        ("a trailing dot", "not allowed", "alt_names", "a.example.com."),
        ("NUL", "not allowed", "alt_names", ["a.example.com\0.example.com"]),
        ("another domain", "not allowed", "alt_names", "a.example.org"),
        ("a domain that only ends alike", "not allowed", "alt_names", "a.badexample.com"),
        ("not ASCII", "not allowed", "alt_names", "ä.example.com"),
        ("an A-label that is none", "not allowed", "alt_names", "xn--99999999.example.com"),
        ("an address as a host name", "not allowed", "alt_names", "10.0.0.1"),
        ("an address in the common name", "not allowed", "common_name", "10.0.0.1"),
        ("an address outside the role's networks", "not allowed", "ip_sans", "192.168.0.1"),
        ("the same in IPv6 clothes", "not allowed", "ip_sans", "::ffff:192.168.0.1"),
        ("an address that is none", "not a valid IP", "ip_sans", "10.0.0.256"),
        ("a relative URI", "cannot stand", "uri_sans", "/a/b"),
        ("a SPIFFE ID with dot segments", "cannot stand", "uri_sans", "spiffe://td.example/a/../b"),
        ("a URI of another trust domain", "not valid for this role", "uri_sans", "spiffe://td.evil/a"),
        ("an other name of another OID", "not allowed", "other_sans", "1.2.3.4;utf8:me"),
        ("a serial number that is no PrintableString", "PrintableString", "serial_number", "a_b"),
        ("more than 100 names", "at most 100", "alt_names", [f"n{n}.example.com" for n in range(101)]),
    ]
    for rule, why, name, value in in_fields:
        body = {"common_name": "a.example.com", "key_type": "ec", name: value}
        yield Defect(f"{rule} (API)", why, f"{PKI}/issue/web", body)
    in_csr: list[tuple[str, str, x509.GeneralName]] = [
        ("an underscore", "not allowed", x509.DNSName("a_b.example.com")),
        ("another domain", "not allowed", x509.DNSName("a.example.org")),
        ("a trailing dot", "not allowed", x509.DNSName("a.example.com.")),
        ("an address as a host name", "not allowed", x509.DNSName("10.0.0.1")),
        (
            "an address outside the role's networks",
            "not allowed",
            x509.IPAddress(ipaddress.ip_address("192.168.0.1")),
        ),
        ("a network", "IP network", x509.IPAddress(ipaddress.ip_network("10.0.0.0/8"))),
        ("a URI of another trust domain", "not valid", x509.UniformResourceIdentifier("spiffe://td.evil/a")),
        (
            "a kind of name that is not ours",
            "unsupported kind",
            x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
        ),
        (
            "an other name that is no text",
            "not a UTF-8 string",
            x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x02\x01\x05"),
        ),
    ]
    for rule, why, general in in_csr:
        yield Defect(f"{rule} (CSR)", why, body={"csr": request(None, general)})
    yield Defect(
        "a common name of 65 characters",
        "1 to 64",
        f"{PKI}/issue/any",
        {"common_name": "a" * 65, "key_type": "ec"},
    )
    yield Defect("no name at all", "common name or a subject", f"{PKI}/issue/any", {"key_type": "ec"})
    outside = {"common_name": "a.example.org", "key_type": "ec"}
    yield Defect("outside the issuer's constraints", "name constraints", f"{INT}/issue/any", outside)


def rules() -> Iterator[Defect]:
    """What is wrong is the time, the profile or the kind of certificate (T-55)."""
    host = {"common_name": "a.example.com", "key_type": "ec"}
    tomorrow, later = _in(24), _in(72)
    times: list[tuple[str, str, str, dict[str, Any]]] = [
        ("an end beyond the issuer's", "beyond", f"{INT}/issue/web", {"ttl": "47h"}),
        ("an end beyond the role's maximum", "beyond the TTL", f"{PKI}/issue/web", {"not_after": later}),
        ("a begin after the end", "later than", f"{PKI}/issue/web", {"not_before": later, "ttl": "1h"}),
        ("a begin before the issuer's", "before", f"{PKI}/issue/web", {"not_before": "2020-01-01T00:00:00Z"}),
        ("a time that is none", "cannot parse", f"{PKI}/issue/web", {"not_after": "tomorrow"}),
        ("two ends", "Both should not", f"{PKI}/issue/web", {"not_after": tomorrow, "ttl": "1h"}),
        ("a short life that is long", "at most 7 days", f"{PKI}/issue/short", {"not_after": _in(200)}),
    ]
    for rule, why, path, body in times:
        yield Defect(rule, why, path, {**host, **body})
    one, two = "spiffe://td.example/a", "spiffe://td.example/b"
    yield Defect(
        "an SVID with two IDs",
        "exactly one URI",
        f"{PKI}/issue/svid",
        {"uri_sans": [one, two], "key_type": "ec"},
    )
    yield Defect(
        "an SVID with a common name", "no common name", f"{PKI}/issue/svid", {**host, "uri_sans": [one]}
    )
    yield Defect("a CA's key made for somebody", "use sign", f"{PKI}/issue/ca", host)
    ca = {"csr": request(), "common_name": "Sub"}
    yield Defect("a CA below one of path length 0", "path length of 0", f"{INT}/root/sign-intermediate", ca)
    beyond = {"csr": request(), "common_name": "Sub", "ttl": "800h"}
    yield Defect("a CA that outlives its issuer", "beyond", f"{PKI}/root/sign-intermediate", beyond)
    extensions: list[tuple[str, str, x509.ExtensionType]] = [
        ("a CA by a CSR's own wish", "CA", x509.BasicConstraints(ca=True, path_length=None)),
        (
            "any extended key usage",
            "not for certificates of this kind",
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]),
        ),
        (
            "a responder by a CSR's wish",
            "not for certificates of this kind",
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]),
        ),
        (
            "an extension nobody knows",
            "not carried over",
            x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"),
        ),
    ]
    for rule, why, extension in extensions:
        csr = request(extra=[extension])
        yield Defect(rule, why, f"{PKI}/sign-verbatim", {"csr": csr})


def _in(hours: int) -> str:
    return (dt.datetime.now(dt.UTC) + dt.timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")
