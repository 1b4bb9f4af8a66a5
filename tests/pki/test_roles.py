"""T-53, T-54: every limit of a role, on every name, from the API and from a CSR alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kms.errors import ErrorKind, KmsError
from pki.roles import glob_match
from tests.pki.bench import START, Bench, load, make_csr

# role settings beside {allowed_domains: example.com, allow_subdomains}, request, refusal
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "foreign name": ({}, {"common_name": "bad.org"}, "common name bad.org not allowed by this role"),
    "no name": ({}, {"common_name": ""}, "the common_name field is required"),
    "bare domain": ({}, {"common_name": "example.com"}, "common name example.com not allowed"),
    "suffix without a dot": ({}, {"common_name": "badexample.com"}, "not allowed by this role"),
    "trailing dot": ({}, {"common_name": "a.example.com."}, "not allowed by this role"),
    "underscore": ({}, {"common_name": "a_b.example.com"}, "common name a_b.example.com not allowed"),
    "NUL": ({"allow_any_name": True}, {"common_name": "a.example.com\0.bad.org"}, "not allowed"),
    "two wildcards": ({}, {"common_name": "*.*.example.com"}, "not allowed by this role"),
    "partial wildcard": ({}, {"common_name": "a*.example.com"}, "not allowed by this role"),
    "wildcard forbidden": (
        {"allow_wildcard_certificates": False},
        {"common_name": "*.example.com"},
        r"common name \*.example.com not allowed",
    ),
    "wildcard forbidden though any name": (
        {"allow_wildcard_certificates": False, "allow_any_name": True},
        {"common_name": "*.example.com"},
        "not allowed",
    ),
    "wildcard of an address": ({}, {"common_name": "a@*.example.com"}, "not allowed"),
    "IP as common name": ({"allow_any_name": True}, {"common_name": "10.0.0.1"}, "not allowed"),
    "upper case outside the suffix": ({}, {"common_name": "A.EXAMPLE.com"}, "not allowed by this role"),
    "unicode": ({}, {"common_name": "ü.example.com"}, "not allowed"),
    "localhost forbidden": ({"allow_localhost": False}, {"common_name": "localhost"}, "not allowed"),
    "second name bad": (
        {},
        {"alt_names": ["b.example.com", "bad.org"]},
        "subject alternate name bad.org not",
    ),
    "last of many bad": (
        {},
        {"alt_names": [*(f"n{i}.example.com" for i in range(50)), "bad.org"]},
        "subject alternate name bad.org not",
    ),
    "IP among names": ({"allow_any_name": True}, {"alt_names": ["10.0.0.1"]}, "belongs into ip_sans"),
    "foreign address": ({}, {"alt_names": ["me@bad.org"]}, "email address me@bad.org not allowed"),
    "IP outside the range": (
        {"allowed_ip_sans_cidr": ["10.0.0.0/8"]},
        {"ip_sans": ["10.0.0.1", "192.168.0.1"]},
        'the IP address "192.168.0.1" is not allowed in this role',
    ),
    "mapped IP outside the range": (
        {"allowed_ip_sans_cidr": ["10.0.0.0/8"]},
        {"ip_sans": ["::ffff:192.168.0.1"]},
        "is not allowed in this role",
    ),
    "IPs forbidden": (
        {"allow_ip_sans": False},
        {"ip_sans": ["10.0.0.1"]},
        "IP Subject Alternative Names are not",
    ),
    "URIs forbidden": ({}, {"uri_sans": ["spiffe://td/x"]}, "URI Subject Alternative Names are not allowed"),
    "foreign URI": (
        {"allowed_uri_sans": ["spiffe://td/*"]},
        {"uri_sans": ["spiffe://td/ok", "spiffe://other/x"]},
        "which are not valid for this role",
    ),
    "malformed SPIFFE ID": (
        {"allowed_uri_sans": ["*"]},
        {"uri_sans": ["spiffe://td/../x"]},
        "cannot stand in a certificate",
    ),
    "other name": ({}, {"other_sans": ["1.2.3.4;utf8:x"]}, "other SAN OID 1.2.3.4 not allowed by this role"),
    "other value": (
        {"allowed_other_sans": ["1.2.3.4;utf8:a*"]},
        {"other_sans": ["1.2.3.4;utf8:x"]},
        "other SAN x not allowed for OID 1.2.3.4",
    ),
    "101 names": ({}, {"alt_names": [f"n{i}.example.com" for i in range(101)]}, "at most 100 names"),
    "long common name": ({}, {"common_name": "a" * 60 + ".example.com"}, "1 to 64 characters"),
    "only email validated": (
        {"cn_validations": ["email"]},
        {"common_name": "a.example.com"},
        "common name a.example.com not allowed",
    ),
    "only host validated": (
        {"cn_validations": ["hostname"]},
        {"common_name": "me@a.example.com"},
        "common name me@a.example.com not allowed",
    ),
}
API_ONLY: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "user id": ({}, {"user_ids": ["x"]}, "user_id x is not allowed by this role"),
    "subject serial": ({}, {"serial_number": "7"}, "serial_number 7 not allowed by this role"),
    "not an IP": ({}, {"ip_sans": ["xx"]}, 'the value "xx" is not a valid IP address'),
    "not an other name": ({}, {"other_sans": ["xx"]}, "expected a semicolon"),
    "unknown format": ({}, {"format": "bogus"}, 'the "format" path parameter must be'),
}


def _openssl_san(request: dict[str, Any]) -> str:
    parts = [f"DNS:{name}" for name in request.get("alt_names", ()) if "@" not in name]
    parts += [f"email:{name}" for name in request.get("alt_names", ()) if "@" in name]
    parts += [f"IP:{text}" for text in request.get("ip_sans", ())]
    parts += [f"URI:{text}" for text in request.get("uri_sans", ())]
    parts += [f"otherName:{text.replace('utf8', 'UTF8')}" for text in request.get("other_sans", ())]
    return ",".join(parts)


@pytest.mark.parametrize(
    ("role", "request_", "text"), (REFUSED | API_ONLY).values(), ids=(REFUSED | API_ONLY).keys()
)
def test_refused_by_the_api(ca: Bench, role: dict[str, Any], request_: dict[str, Any], text: str) -> None:
    ca.role(**role)
    ca.token.calls.clear()
    with pytest.raises(KmsError, match=text) as refused:
        ca.issue(**request_)
    assert refused.value.kind is ErrorKind.INVALID
    assert ca.token.calls == []
    assert len(ca.do("certs-list")["keys"]) == 1  # the root's own


# OpenSSL cannot write these into a request.
_UNWRITABLE = {"NUL", "no name", "mapped IP outside the range", "unicode", "101 names", "long common name"}
FROM_CSR = {name: row for name, row in REFUSED.items() if name not in _UNWRITABLE}


@pytest.mark.parametrize(("role", "request_", "text"), FROM_CSR.values(), ids=FROM_CSR.keys())
def test_refused_from_a_csr(
    ca: Bench, tmp_path: Path, role: dict[str, Any], request_: dict[str, Any], text: str
) -> None:
    ca.role(**role)
    san = _openssl_san(request_)
    options = {"san": f"subjectAltName={san}"} if san else {}
    csr = make_csr(tmp_path, f"/CN={request_.get('common_name', 'a.example.com')}", **options)
    # What the API says beside it must not help.
    with pytest.raises(KmsError, match=text) as refused:
        ca.do("sign", role="web", csr=csr, common_name="a.example.com")
    assert refused.value.kind is ErrorKind.INVALID


ALLOWED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "subdomain": ({}, {"common_name": "a.b.example.com"}),
    "wildcard": ({}, {"common_name": "*.example.com"}),
    "bare": ({"allow_bare_domains": True}, {"common_name": "example.com"}),
    "glob": (
        {"allow_glob_domains": True, "allowed_domains": ["db-*.internal"], "allow_subdomains": False},
        {"common_name": "db-7.internal"},
    ),
    "localhost": ({}, {"common_name": "localhost"}),
    "address": ({}, {"common_name": "me@a.example.com"}),
    "display name": ({"allow_token_displayname": True, "allowed_domains": []}, {"common_name": "tester"}),
    "any text when hostnames are not enforced": (
        {"allow_any_name": True, "enforce_hostnames": False},
        {"common_name": "Some Service"},
    ),
    "IP in range": (
        {"allowed_ip_sans_cidr": ["10.0.0.0/8", "fd00::/8"]},
        {"ip_sans": ["10.9.8.7", "fd00::1"]},
    ),
    "SPIFFE without a name": (
        {"require_cn": False, "allowed_uri_sans": ["spiffe://td/*"]},
        {"common_name": "", "uri_sans": ["spiffe://td/ns/a/sa/b"]},
    ),
    "other name": (
        {"allowed_other_sans": ["1.3.6.1.4.1.311.20.2.3;utf8:*@example.com"]},
        {"other_sans": ["1.3.6.1.4.1.311.20.2.3;utf8:me@example.com"]},
    ),
    "user id and serial": (
        {"allowed_user_ids": ["u*"], "allowed_serial_numbers": ["*"]},
        {"user_ids": ["u1"], "serial_number": "77"},
    ),
    "checks of the common name disabled": (
        {"cn_validations": ["disabled"], "allow_any_name": False},
        {"common_name": "Whatever You Say", "exclude_cn_from_sans": True},
    ),
}


@pytest.mark.parametrize(("role", "request_"), ALLOWED.values(), ids=ALLOWED.keys())
def test_allowed(ca: Bench, role: dict[str, Any], request_: dict[str, Any]) -> None:
    ca.role(**role)
    certificate = load(ca.issue(**request_)["certificate"])
    assert certificate.issuer == load(ca.root(issuer_name="other")["certificate"]).subject


def test_an_unknown_role(ca: Bench) -> None:
    with pytest.raises(KmsError, match=r"^unknown role: x$"):
        ca.issue(role="x")


def test_the_body_cannot_choose_another_issuer_than_the_role(ca: Bench) -> None:
    other = ca.root(issuer_name="other", common_name="Other")
    issued = ca.issue(issuer_ref="other")
    assert issued["issuing_ca"] != other["certificate"]
    assert (
        ca.do("issuer-issue", issuer_ref="other", role="web", common_name="a.example.com")["issuing_ca"]
        == (other["certificate"])
    )


BAD_ROLES: dict[str, tuple[dict[str, Any], str]] = {
    "key type": ({"key_type": "foo"}, "^unknown key type foo$"),
    "curve": ({"key_type": "ec", "key_bits": 100}, "^unsupported bit length for EC key: 100$"),
    "P-224": ({"key_type": "ec", "key_bits": 224}, "unsupported bit length"),
    "small RSA": (
        {"key_type": "rsa", "key_bits": 1024},
        "^RSA keys < 2048 bits are unsafe and not supported",
    ),
    "ttl over max_ttl": ({"ttl": 36000, "max_ttl": 3600}, '^"ttl" value must be less than "max_ttl" value$'),
    "CIDR": (
        {"allowed_ip_sans_cidr": ["Nonsense"]},
        "^error parsing allowed_ip_sans_cidr: invalid CIDR address: Nonsense$",
    ),
    "EKU OID": (
        {"ext_key_usage_oids": ["foo"]},
        '^"foo" could not be parsed as a valid oid for an extended key usage$',
    ),
    "any EKU": ({"ext_key_usage": ["any"]}, "unknown or unsuitable extended key usage"),
    "any EKU by OID": ({"ext_key_usage_oids": ["2.5.29.37.0"]}, "not for certificates of this kind"),
    "OCSP signing": ({"ext_key_usage_oids": ["1.3.6.1.5.5.7.3.9"]}, "not for certificates of this kind"),
    "cert sign": ({"key_usage": ["CertSign"]}, "unknown or unsuitable key usage"),
    "unknown usage": ({"key_usage": ["Nonsense"]}, "unknown or unsuitable key usage"),
    "other SAN": ({"allowed_other_sans": ["foo"]}, "^error parsing allowed_other_sans: expected a semicolon"),
    "cn_validations": ({"cn_validations": ["foo"]}, "cn_validations value incorrect: unknown type: `foo`"),
    "policy": ({"policy_identifiers": ["foo"]}, "not a valid OID"),
    "not_after": ({"not_after": "foo"}, "cannot parse"),
    "not_before_bound": ({"not_before_bound": "zz"}, "^Unknown value for field `not_before_bound`"),
    "not_after_bound": ({"not_after_bound": "zz"}, "^Unknown value for field `not_after_bound`"),
    "signature_bits": ({"signature_bits": 7}, "signature_bits"),
    "country": ({"country": ["Germany"]}, "country"),
    "name": ({"name": "../x"}, "role name"),
    "no issuer": ({"issuer_ref": ""}, "issuer_ref"),
}


@pytest.mark.parametrize(("settings", "text"), BAD_ROLES.values(), ids=BAD_ROLES.keys())
def test_a_role_that_cannot_be_kept_is_not_stored(ca: Bench, settings: dict[str, Any], text: str) -> None:
    with pytest.raises(KmsError, match=text) as refused:
        ca.role("bad", **settings)
    assert refused.value.kind is ErrorKind.INVALID
    assert ca.do("roles-list")["keys"] == ["web"]


def test_defaults_are_the_peers(ca: Bench) -> None:
    stored = ca.do("role-write", name="plain")
    assert stored["key_type"] == "rsa"
    assert stored["key_bits"] == 2048
    assert stored["ttl"] == 0
    assert stored["max_ttl"] == 0
    assert stored["not_before_duration"] == 30
    assert stored["key_usage"] == ["DigitalSignature", "KeyAgreement", "KeyEncipherment"]
    assert ca.do("role-read", name="plain") == stored


def test_post_replaces_and_patch_changes(ca: Bench) -> None:
    ca.do("role-patch", name="web", ttl=3600)
    assert ca.do("role-read", name="web")["allow_subdomains"] is True
    ca.do("role-write", name="web", ttl=60)
    changed = ca.do("role-read", name="web")
    assert changed["ttl"] == 60
    assert changed["allow_subdomains"] is False


def test_a_deleted_role_issues_nothing_and_deleting_is_idempotent(ca: Bench) -> None:
    ca.do("role-delete", name="web")
    ca.do("role-delete", name="web")
    with pytest.raises(KmsError, match="unknown role"):
        ca.issue()


def test_a_leaf_lives_a_day_unless_asked_otherwise(ca: Bench) -> None:
    assert ca.issue()["expiration"] == START + 86_400 - 1


TIMES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "both": ({}, {"ttl": 60, "not_after": "2026-11-22T00:00:00Z"}, "Either ttl or not_after"),
    "in the past": ({}, {"not_after": "2020-01-01T00:00:00Z"}, "is later than"),
    "not a time": ({}, {"not_after": "foo"}, "cannot parse"),
    "beyond the CA": (
        {"max_ttl": 400 * 86_400},
        {"ttl": 366 * 86_400},
        "beyond the expiration of the CA certificate",
    ),
    "beyond the maximum": (
        {"max_ttl": 3600},
        {"not_after": "2026-12-01T00:00:00Z"},
        "beyond the TTL of 1h0m0s",
    ),
    "forbidden end": (
        {"not_after_bound": "forbid"},
        {"not_after": "2026-11-22T00:00:00Z"},
        r"not_after_bound is set to forbid\. not_after cannot be provided\.",
    ),
    "end beyond the bound": (
        {"not_after_bound": "2026-11-22T00:00:00Z"},
        {"not_after": "2026-11-23T00:00:00Z"},
        "beyond the maximum timestamp",
    ),
    "forbidden start": (
        {"not_before_bound": "forbid"},
        {"not_before": "2026-11-21T22:30:00Z"},
        "not_before_bound is set to forbid",
    ),
    "start too old": (
        {"not_before_bound": "duration"},
        {"not_before": "2026-11-20T00:00:00Z"},
        "older than the allowed not_before_duration of 30s",
    ),
    "start before the CA": ({}, {"not_before": "2020-01-01T00:00:00Z"}, "before that of the CA"),
}


@pytest.mark.parametrize(("role", "request_", "text"), TIMES.values(), ids=TIMES.keys())
def test_times_that_are_refused(ca: Bench, role: dict[str, Any], request_: dict[str, Any], text: str) -> None:
    ca.role(**role)
    with pytest.raises(KmsError, match=text):
        ca.issue(**request_)


def test_a_long_ttl_is_cut_with_a_warning(ca: Bench) -> None:
    ca.role(max_ttl=48 * 3600)
    result = ca.result("issue", role="web", common_name="a.example.com", ttl=100 * 3600)
    assert result.warnings == (
        'TTL "100h0m0s" is longer than permitted maxTTL "48h0m0s", so maxTTL is being used',
    )
    assert result.data is not None
    assert result.data["expiration"] == START + 48 * 3600 - 1


def test_an_issuer_may_truncate_instead(ca: Bench) -> None:
    ca.role(max_ttl=400 * 86_400)
    ca.do("issuer-write", issuer_ref="default", leaf_not_after_behavior="truncate")
    root = load(ca.raw("ca-pem").decode())
    assert ca.issue(ttl=366 * 86_400)["expiration"] == int(root.not_valid_after_utc.timestamp())


CSR_KEYS: dict[str, tuple[str, dict[str, Any], str]] = {
    "other type": ("rsa", {}, "^role requires keys of type ec$"),
    "smaller curve": (
        "ec",
        {"key_bits": 384},
        "^role requires a minimum of a 384-bit key, but CSR's key is 256 bits$",
    ),
    "small RSA": (
        "rsa1024",
        {"key_type": "rsa"},
        "^role requires a minimum of a 2048-bit key, but CSR's key is 1024",
    ),
    "small RSA for any": (
        "rsa1024",
        {"key_type": "any"},
        "^RSA keys < 2048 bits are unsafe and not supported$",
    ),
    "P-224": ("p224", {"key_type": "any"}, "unsupported curve"),
}


@pytest.mark.parametrize(("key", "role", "text"), CSR_KEYS.values(), ids=CSR_KEYS.keys())
def test_keys_of_requests_that_are_refused(
    ca: Bench, tmp_path: Path, key: str, role: dict[str, Any], text: str
) -> None:
    ca.role(**role)
    with pytest.raises(KmsError, match=text):
        ca.do("sign", role="web", csr=make_csr(tmp_path, "/CN=a.example.com", key))


def test_the_key_of_a_ca_here_gets_no_leaf(ca: Bench) -> None:
    csr = ca.do(
        "intermediate-generate", "int", common_name="a.example.com", key_type="ec", exported="internal"
    )["csr"]
    with pytest.raises(KmsError, match="belongs to a CA of this server"):
        ca.do("sign", role="web", csr=csr)


def test_broken_requests(ca: Bench, tmp_path: Path) -> None:
    csr = make_csr(tmp_path, "/CN=a.example.com")
    lines = csr.strip().split("\n")
    for text, wanted in {
        "": '^"csr" is empty$',
        "bogus": "^csr contains no data$",
        csr.replace(lines[1], lines[1].lower()): "could not be parsed",
        "A" * 70_000: "more than",
    }.items():
        with pytest.raises(KmsError, match=wanted):
            ca.do("sign", role="web", csr=text)


def test_a_request_with_a_wrong_signature_is_refused(ca: Bench, tmp_path: Path) -> None:
    one = make_csr(tmp_path, "/CN=a.example.com").strip().split("\n")
    # Change one bit of the signature's last octet: base64 of the last line, before the padding.
    body = "".join(one[1:-1])
    import base64  # noqa: PLC0415  (only here)

    der = bytearray(base64.b64decode(body))
    der[-1] ^= 1
    text = base64.b64encode(bytes(der)).decode()
    with pytest.raises(KmsError, match="signature is invalid"):
        ca.do("sign", role="web", csr=f"{one[0]}\n{text}\n{one[-1]}\n")


def test_wishes_of_a_request_for_more_power_are_ignored(ca: Bench, tmp_path: Path) -> None:
    from cryptography import x509  # noqa: PLC0415  (only here)

    csr = make_csr(
        tmp_path,
        "/C=XX/O=Evil/CN=a.example.com",
        basic="basicConstraints=critical,CA:TRUE",
        usage="keyUsage=critical,keyCertSign,cRLSign",
        eku="extendedKeyUsage=codeSigning",
    )
    leaf = load(ca.do("sign", role="web", csr=csr)["certificate"])
    assert leaf.subject.rfc4514_string() == "CN=a.example.com"
    assert leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert leaf.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign is False


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("*", "", True),
        ("a*c", "abc", True),
        ("a*c", "ac", True),
        ("a*a", "a", False),
        ("*b*", "abc", True),
        ("a*b*c", "acb", False),
        ("abc", "abd", False),
        ("*a*a*a*a*a*a*a*b", "a" * 2000, False),
    ],
)
def test_globs(pattern: str, text: str, matches: bool) -> None:
    assert glob_match(pattern, text) is matches
