"""Programs for roles of a certificate authority, and requests under them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

TIMES = "NotBefore: now - duration('5s'), NotAfter: now + duration('1h')"


def program(expression: str, **variables: str) -> dict[str, Any]:
    """A role's body."""
    made: dict[str, Any] = {"expression": expression}
    if variables:
        made["variables"] = [{"name": name, "expression": text} for name, text in variables.items()]
    return {"cel_program": made}


def template(members: str, more: str = "") -> str:
    """An expression that comes to a certificate with these members and an hour."""
    return f"ValidationOutput{{template: CertTemplate{{{members}, {TIMES}}}{more}}}"


WRITTEN: list[dict[str, Any]] = [
    program("true"),
    {},
    {"cel_program": {}},
    {"cel_program": {"expression": ""}},
    {"cel_program": "text"},
    {"cel_program": {"expression": 3}},
    {"cel_program": {"expression": "true", "unknown": 1}},
    {"cel_program": {"expression": "true", "variables": {"a": "b"}}},
    program("((("),
    program("nosuch"),
    program("1"),
    program("true", a="((("),
    program("a", a="nosuch"),
    program("a ? 1 : 'x'", a="true"),
    program("1 ? 2 : 3"),
    program("1 + 'a'"),
    program("true", request="1"),
    program("CertTemplate{Bogus: 1}"),
    program("CertTemplate{DNSNames: 3}"),
    program("ValidationOutput{warnings: 'no list'}"),
    program("parsed_csr.Subject.CommonName"),
    program("entity_id + claims.sub"),
    program(template("DNSNames: ['a.example.com']")),
]

NAME = "Subject: PKIX.Name{CommonName: request.common_name}"
ASKED = {
    "common_name": "a.example.com",
    "alt_names": "b.example.com,c.example.com",
    "list": ["d.example.com"],
}
_ISSUED: list[str] = [
    "true",
    "false",
    "'no way'",
    "1",
    "1u",
    "1.5",
    "null",
    "[1]",
    "{'a': 1}",
    "b'x'",
    "now",
    "duration('1h')",
    "CertTemplate{}",
    "ValidationOutput{}",
    "request.nosuch",
    "1 / 0",
    "request.list[7]",
    "string(request.ttl)",
    "encode_json(request)",
    "encode_json([1])",
    "decode_json('{\"a\": [1, \"x\"]}').a[1]",
    "decode_json('x')",
    "request.common_name.endsWith('.example.com') ? 'inside' : 'outside'",
    "request.alt_names.split(',').all(n, n.endsWith('.example.com')) ? 'y' : 'n'",
    "request.list.map(n, n.upperAscii()).join('+')",
    "['x', 'y'].exists_one(n, n == 'x') ? 'y' : 'n'",
    "{'a': 1, 'b': 2}.filter(k, k == 'a').size() == 1 ? 'y' : 'n'",
    "has(request.nosuch) ? 'y' : 'n'",
    "request.?nosuch.orValue('none')",
    "'nosuch' in request ? 'y' : 'n'",
    "type(request.number) == int && request.number + 1 == 8 ? 'y' : 'n'",
    "type(request.fraction) == double ? 'y' : 'n'",
    "request.number == 7.0 ? 'y' : 'n'",
    "string(duration('90m'))",
    "timestamp('2030-01-01T00:00:00Z').getFullYear() == 2030 ? 'y' : 'n'",
    "now > timestamp('2020-01-01T00:00:00Z') ? 'y' : 'n'",
    "string(timestamp('2030-01-01T00:00:00Z') + duration('36h'))",
    "type(now) == google.protobuf.Timestamp ? 'y' : 'n'",
    "[3, 1, 2].sort()[0] == 1 ? 'y' : 'n'",
    "sets.contains(['a', 'b'], ['a']) ? 'y' : 'n'",
    "regex.replace('abc', 'b', 'x')",
    "'a-b'.matches('^[a-z]-[a-z]$') ? 'y' : 'n'",
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!'.matches('^(a+)+$') ? 'y' : 'n'",
    "base64.encode(b'ab')",
    "math.greatest(1, 5) == 5 ? 'y' : 'n'",
    "'%s:%d'.format(['a', 3])",
    "check_valid_email('a@example.com') ? 'y' : 'n'",
    "check_valid_email('A B <a@example.com>') ? 'y' : 'n'",
    "check_valid_email('nobody') ? 'y' : 'n'",
    "check_valid_email('a@b, c@d') ? 'y' : 'n'",
    "(request.nosuch || true) ? 'y' : 'n'",
    "request.number ? 'y' : 'n'",
    template(NAME),
    template(f"{NAME}, DNSNames: request.alt_names.split(',')"),
    template("DNSNames: request.list"),
    template("Subject: PKIX.Name{CommonName: 'x y', Country: ['DE'], Organization: ['O'], Locality: ['L'],"
             " OrganizationUnit: ['U'], Province: ['P'], StreetAddress: ['S'], PostalCode: ['1'], SerialNumber: '77'}"),
    template("DNSNames: ['a.example.com'], KeyUsage: KeyUsage.KeyUsageDigitalSignature"),
    template("DNSNames: ['a.example.com'], KeyUsage: 5, ExtKeyUsage: [1, 2]"),
    template("DNSNames: ['a.example.com'], KeyUsage: KeyUsage.KeyUsageKeyEncipherment"),
    template("DNSNames: ['a.example.com'], KeyUsage: 32"),
    template("DNSNames: ['a.example.com'], ExtKeyUsage: [ExtKeyUsage.ExtKeyUsageServerAuth], BasicConstraintsValid: true"),
    template("DNSNames: ['a.example.com'], ExtKeyUsage: [99]"),
    template("DNSNames: ['a.example.com'], ExtKeyUsage: [0]"),
    template("DNSNames: ['a.example.com'], ExtKeyUsage: [9]"),
    template("DNSNames: ['a.example.com'], UnknownExtKeyUsage: [ObjectIdentifier{arc: [1u, 3u, 6u, 1u]}]"),
    template("DNSNames: ['a.example.com'], Policies: [OID{arc: [1u, 3u, 6u, 1u, 4u, 1u, 99999u, 1u]}]"),
    template("DNSNames: ['a.example.com'], PolicyIdentifiers: [ObjectIdentifier{arc: [1u, 2u, 4u]}]"),
    template("DNSNames: ['a.example.com'], ExtraExtensions: [PKIX.Extension{Id: [1, 3, 6, 1, 4, 1, 99999, 2], Value: b'\\x05\\x00'}]"),
    template("DNSNames: ['a.example.com'], ExtraExtensions: [PKIX.Extension{Id: [2, 5, 29, 19], Value: b'\\x30\\x03\\x01\\x01\\xff'}]"),
    template("DNSNames: ['a.example.com'], IsCA: true, BasicConstraintsValid: true"),
    template("DNSNames: ['a.example.com'], PermittedDNSDomains: ['example.com']"),
    template("DNSNames: ['a.example.com'], SubjectKeyId: b'abc'"),
    template("DNSNames: ['a b']"),
    template("DNSNames: ['']"),
    template("DNSNames: []"),
    template("IPAddresses: [net.IP{IP: b'\\x0a\\x00\\x00\\x01'}]"),
    template("IPAddresses: [net.IP{IP: b'abc'}]"),
    template("EmailAddresses: ['a@example.com']"),
    template("EmailAddresses: ['nobody']"),
    template("URIs: [url.URL{Scheme: 'spiffe', Host: 'td.example', Path: '/x'}]"),
    template("URIs: [url.URL{Scheme: 'https', Host: 'h.example', Path: '/p q', RawQuery: 'a=b', Fragment: 'f'}]"),
    template("URIs: [url.URL{Scheme: 'urn', Opaque: 'a:b'}]"),
    template("Subject: PKIX.Name{CommonName: 'a', Country: ['DEX']}"),
    template("DNSNames: ['a.example.com']", ", key_type: 'ec', key_bits: 384u"),
    template("DNSNames: ['a.example.com']", ", key_type: 'ec'"),
    template("DNSNames: ['a.example.com']", ", key_type: 'ed25519', no_store: true"),
    template("DNSNames: ['a.example.com']", ", key_type: 'bogus'"),
    template("DNSNames: ['a.example.com']", ", key_type: 'rsa', key_bits: 1024u"),
    template("DNSNames: ['a.example.com']", ", key_type: 'any'"),
    template("DNSNames: ['a.example.com']", ", key_type: 'ec', warnings: ['careful', 'twice']"),
    template("DNSNames: ['a.example.com']", ", key_type: 'ec', issuer_ref: 'nosuch'"),
    template("DNSNames: ['a.example.com']", ", key_type: 'ec', issuer_ref: 'default', use_pss: true"),
    template("DNSNames: ['a.example.com']", ", key_type: 'ec', generate_lease: true"),
    "ValidationOutput{template: CertTemplate{DNSNames: ['a.example.com']}, key_type: 'ec'}",
    "ValidationOutput{template: CertTemplate{DNSNames: ['a.example.com'], NotAfter: now + duration('900000h')}}",
    "ValidationOutput{template: CertTemplate{DNSNames: ['a.example.com'], NotBefore: now, NotAfter: now - duration('1h')}}",
]  # fmt: skip
BODY: dict[str, Any] = {**ASKED, "number": 7, "fraction": 2.5, "ttl": "2h", "empty": None}


def issued() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """What is tried, the role, the request."""
    for expression in _ISSUED:
        yield expression, program(expression), BODY
    named = {
        "ok": "request.common_name.endsWith('.example.com')",
        "cert": f"CertTemplate{{{NAME}, DNSNames: [request.common_name], {TIMES}}}",
        "out": "ValidationOutput{template: cert, key_type: 'ec'}",
    }
    chosen = program("ok ? out : 'only names of example.com'", **named)
    yield "variables", chosen, {"common_name": "v.example.com"}
    yield "variables, no", chosen, {"common_name": "v.example.org"}
    yield "variables, missing", chosen, {}
    yield "kept types", program("a == 5u && b == duration('1h') ? 'y' : 'n'", a="5u", b="duration('1h')"), {}
    yield "optional variable", program("a", a="optional.of('inner')"), {}
    yield "twice", program("a", a="'first'", b="a + '!'"), {}
    short = program(template("DNSNames: ['t.example.com']", ", key_type: 'ec'"))
    yield "ttl and not_after", short, {"ttl": 60, "not_after": "2027-01-01T00:00:00Z"}
    yield "key of the request", short, {"key_type": "rsa", "key_bits": 4096}
    yield "a text with U+0000", program("request.x"), {"x": "admin\0x"}
    yield "without roots", short, {"remove_roots_from_chain": True}


SIGNED: list[str] = [
    "string(size(parsed_csr.RawSubject)) + parsed_csr.PublicKeyAlgorithm + '/' + parsed_csr.SignatureAlgorithm",
    "parsed_csr.Subject.Organization.join('+') + string(parsed_csr.Subject.Country.size())",
    "parsed_csr.Subject.CommonName + parsed_csr.Subject.SerialNumber + string(parsed_csr.Version)",
    "parsed_csr.DNSNames.join(',') + parsed_csr.EmailAddresses.join(',') + parsed_csr.IPAddresses.join(',')",
    "parsed_csr.URIs.join(',') + string(size(parsed_csr.Extensions['2.5.29.17']))",
    "'csr' in request ? 'y' : 'n'",
    template("Subject: PKIX.Name{CommonName: parsed_csr.Subject.CommonName}, DNSNames: parsed_csr.DNSNames"),
    template("DNSNames: parsed_csr.DNSNames, EmailAddresses: parsed_csr.EmailAddresses", ", no_store: true"),
    template("DNSNames: parsed_csr.DNSNames", ", key_type: 'rsa'"),
    "parsed_csr.DNSNames.exists(n, n.startsWith('evil')) ? 'no evil' : 'fine'",
    "true",
]
