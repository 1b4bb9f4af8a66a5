"""Values for the parameters of pki: what each path needs at least, and right values for each name."""

from __future__ import annotations

from typing import Any

# Made with the OpenSSL command for these tests; the keys protect nothing.
CSR = """-----BEGIN CERTIFICATE REQUEST-----
MIIBJDCBywIBADArMQ8wDQYDVQQKDAZDbGllbnQxGDAWBgNVBAMMD2Nzci5leGFt
cGxlLmNvbTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABMBZRTIBS3Sa/OTl8ykG
8hPSQNxaYGo8XilP9XivIHoJOvVskcS0lboL26luO6KAaCdNV4a6c/OCc85UYYH4
YV+gPjA8BgkqhkiG9w0BCQ4xLzAtMCsGA1UdEQQkMCKCD2Nzci5leGFtcGxlLmNv
bYIPdHdvLmV4YW1wbGUuY29tMAoGCCqGSM49BAMCA0gAMEUCIQDMyykgQvepIHD3
tuF+Cggg0GghL1qbye4nDb0AzB1ZGgIgJ4takEtkxVxjYtNHekTbNFzHykyM7uXh
mifcxJzFsK0=
-----END CERTIFICATE REQUEST-----
"""
CA_CSR = """-----BEGIN CERTIFICATE REQUEST-----
MIHLMHMCAQAwETEPMA0GA1UEAwwGU3ViIENBMFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAEWa6ECsLxOTkW4D2zsJkOmWqQPdUjERLkQ3XJjnsOaeUqTmwlAAcCqpY2
0dr05R9s6V2f/dSQo2DSUE0Quv47AaAAMAoGCCqGSM49BAMCA0gAMEUCIQDrvDaM
oWPrJz1himZ7JlwVJlu9YqlbU8KmNDKFYrbqZAIgfr/DpBFb9kYBqiGD1/lJgEm3
KTHv+gr4IpcmkekjAzc=
-----END CERTIFICATE REQUEST-----
"""
SELF_SIGNED = """-----BEGIN CERTIFICATE-----
MIIBkzCCATmgAwIBAgIUdnZTbCGTCxb/1aTXjNFFn58vO+wwCgYIKoZIzj0EAwIw
FzEVMBMGA1UEAwwMRm9yZWlnbiBSb290MB4XDTI2MTEzMDEzMTc0M1oXDTM2MTEy
NzEzMTc0M1owFzEVMBMGA1UEAwwMRm9yZWlnbiBSb290MFkwEwYHKoZIzj0CAQYI
KoZIzj0DAQcDQgAEWa6ECsLxOTkW4D2zsJkOmWqQPdUjERLkQ3XJjnsOaeUqTmwl
AAcCqpY20dr05R9s6V2f/dSQo2DSUE0Quv47AaNjMGEwHQYDVR0OBBYEFFo0TewO
zLCIQTaA1loWT//HH2VoMB8GA1UdIwQYMBaAFFo0TewOzLCIQTaA1loWT//HH2Vo
MA8GA1UdEwEB/wQFMAMBAf8wDgYDVR0PAQH/BAQDAgEGMAoGCCqGSM49BAMCA0gA
MEUCIQCovX5LJgMH4l3NGVktM4BEa0fNTUtCszG3fNMgKL/TXAIgB1ZabCTcfSrP
ghOPIeDvsY/2ziBZpzI4MMux4pKHBF4=
-----END CERTIFICATE-----
"""
KEY_PEM = """-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIDO4/1X8qKeSpKJoihPSMfQz1ci9zK1VIx//ZBIZhZVtoAoGCCqGSM49
AwEHoUQDQgAEthXQhW2sDJhBM98CXCiWImjU47CgO3I7+oIXnFjdipQlnTJJlkL3
QRbuTBX28WZYphgwlVXNFw1NdRs7eVAMqg==
-----END EC PRIVATE KEY-----
"""

_CA: dict[str, Any] = {"common_name": "Made Root", "key_type": "ec", "ttl": "100h"}
_LEAF: dict[str, Any] = {"common_name": "a.example.com", "key_type": "ec", "key_bits": 256}
_SIGN: dict[str, Any] = {"csr": CSR, "common_name": "csr.example.com"}
_SUB: dict[str, Any] = {"csr": CA_CSR, "common_name": "Sub CA", "ttl": "50h"}

# What the least good request of a path has in its body.
MINIMAL: dict[str, dict[str, Any]] = {
    "root/generate/{exported}": _CA,
    "root/rotate/{exported}": _CA,
    "issuers/generate/root/{exported}": _CA,
    "intermediate/generate/{exported}": {**_CA, "common_name": "Made Intermediate"},
    "issuers/generate/intermediate/{exported}": {**_CA, "common_name": "Made Intermediate"},
    "intermediate/cross-sign": {"common_name": "Crossed CA", "key_ref": "k"},
    "intermediate/set-signed": {"certificate": SELF_SIGNED},
    "config/ca": {"pem_bundle": SELF_SIGNED},
    "issuers/import/bundle": {"pem_bundle": SELF_SIGNED},
    "issuers/import/cert": {"pem_bundle": SELF_SIGNED},
    "keys/import": {"pem_bundle": KEY_PEM},
    "keys/generate/internal": {"key_type": "ec"},
    "keys/generate/exported": {"key_type": "ec"},
    "keys/generate/kms": {"key_type": "ec"},
    "issue/{role}": _LEAF,
    "issuer/{issuer_ref}/issue/{role}": _LEAF,
    "sign/{role}": _SIGN,
    "issuer/{issuer_ref}/sign/{role}": _SIGN,
    "sign-verbatim": {"csr": CSR},
    "sign-verbatim/{role}": {"csr": CSR},
    "issuer/{issuer_ref}/sign-verbatim": {"csr": CSR},
    "issuer/{issuer_ref}/sign-verbatim/{role}": {"csr": CSR},
    "root/sign-intermediate": _SUB,
    "issuer/{issuer_ref}/sign-intermediate": _SUB,
    "root/sign-self-issued": {"certificate": SELF_SIGNED},
    "issuer/{issuer_ref}/sign-self-issued": {"certificate": SELF_SIGNED},
    "issuer/{issuer_ref}": {"issuer_name": "other"},
    "issuer/{issuer_ref}/resign-crls": {"crl_number": 7},
    "issuer/{issuer_ref}/sign-revocation-list": {"crl_number": 7},
    "key/{key_ref}": {"key_name": "k-other"},
    "config/issuers": {"default": "main"},
    "config/keys": {"default": "k"},
    "root/replace": {"default": "main"},
    "revoke": {"serial_number": "{second serial}"},
    "revoke-with-key": {"serial_number": "{third serial}", "private_key": "{third key}"},
    "tidy": {"tidy_cert_store": True},
    "config/cluster": {"path": "https://ca.example.com/v1/pki", "aia_path": "http://cdn.example.com"},
    "config/auto-tidy": {
        "enabled": False, "interval_duration": 43200, "issuer_safety_buffer": 31536000, "safety_buffer": 259200,
        "revoked_safety_buffer": 259200, "acme_account_safety_buffer": 2592000, "page_size": 1000,
        "pause_duration": "0s", "tidy_cert_store": True, "tidy_revoked_certs": False, "tidy_acme": False,
        "tidy_expired_issuers": False, "tidy_invalid_certs": False, "tidy_move_legacy_ca_bundle": False,
        "tidy_revoked_cert_issuer_associations": False, "maintain_stored_certificate_counts": False,
        "publish_stored_certificate_count_metrics": False,
    },
    "config/crl": {
        "expiry": "72h", "ocsp_expiry": "12h", "auto_rebuild_grace_period": "12h", "delta_rebuild_interval": "15m",
        "allow_expired_cert_revocation": False, "auto_rebuild": False, "disable": False, "enable_delta": False,
        "ocsp_disable": False,
    },
    "config/urls": {
        "issuing_certificates": [], "crl_distribution_points": [], "ocsp_servers": [],
        "delta_crl_distribution_points": [], "enable_templating": False,
    },
}  # fmt: skip

VALID: dict[str, tuple[Any, ...]] = {
    "alt_names": ("b.example.com,c.example.com", "me@example.com"),
    "ip_sans": ("10.0.0.1", ["10.0.0.1", "::1"]),
    "uri_sans": ("spiffe://td/a", ["https://a.example.com/x", "spiffe://td/b"]),
    "other_sans": ("1.3.6.1.4.1.311.20.2.3;utf8:me@example.com",),
    "user_ids": ("alice", ["alice", "bob"]),
    "serial_number": ("4711",),
    "exclude_cn_from_sans": (True,),
    "format": ("pem", "der", "pem_bundle", "bogus"),
    "private_key_format": ("der", "pkcs8", "pem", "bogus"),
    "ttl": ("2h", 3600, "9000h"),
    "not_after": ("2026-12-02T00:00:00Z", "2020-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "tomorrow"),
    "not_before": ("2020-01-01T00:00:00Z", "yesterday"),
    "not_before_duration": ("30s", 3600),
    "remove_roots_from_chain": (True,),
    "key_type": ("rsa", "ec", "ed25519", "mldsa", "any", "bogus"),
    "key_bits": (256, 384, 521, 224, 2048, 3072, 1024, 44),
    "signature_bits": (256, 384, 512, 100),
    "use_pss": (True,),
    "key_ref": ("default", "k", "nosuch"),
    "key_name": ("named", "k", "default", "a b"),
    "issuer_name": ("named", "main", "default", "a b"),
    "issuer_ref": ("other", "nosuch"),
    "max_path_length": (0, 1, -1, -2),
    "permitted_dns_domains": ("example.com", ["a.example.com", ".b.example.com"]),
    "country": ("DE", "Germany"),
    "organization": ("ACME", ["One", "Two"]),
    "ou": ("Dept",), "locality": ("Town",), "province": ("State",), "street_address": ("1 Road",),
    "postal_code": ("12345",),
    "key_usage": ("DigitalSignature", ["CertSign"], "bogus"),
    "ext_key_usage": ("ServerAuth", ["ClientAuth", "CodeSigning"], "bogus"),
    "ext_key_usage_oids": ("1.3.6.1.5.5.7.3.17", "bogus"),
    "use_csr_values": (True,),
    "add_basic_constraints": (True,),
    "exported": ("internal", "exported", "existing"),
    "external_key_ref": (),
    "leaf_not_after_behavior": ("err", "truncate", "permit", "bogus"),
    "manual_chain": ("self", "nosuch"),
    "usage": ("read-only", "issuing-certificates,crl-signing", "bogus"),
    "revocation_signature_algorithm": ("ECDSAWithSHA256", "SHA256WithRSA", "bogus"),
    "enable_aia_url_templating": (True,),
    "enable_templating": (False,),
    "issuing_certificates": ("http://ca.example.com/ca", "bogus"),
    "crl_distribution_points": ("http://ca.example.com/crl", "bogus"),
    "ocsp_servers": ("http://ca.example.com/ocsp", "bogus"),
    "delta_crl_distribution_points": ("http://ca.example.com/delta",),
    "path": ("https://ca.example.com/v1/pki", "bogus"),
    "aia_path": ("http://cdn.example.com", "bogus"),
    "default": ("other", "nosuch", "", "default"),
    "default_follows_latest_issuer": (True, False),
    "certificate": ("x" * 100, "short"),
    "pem_bundle": ("x" * 100, "short"),
    "csr": ("x", "-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----"),
    "private_key": ("x" * 100, "short"),
    "crl_number": (1, 0, -1),
    "delta_crl_base_number": (3, -1, -2),
    "next_update": ("48h", "1000h", "0", "bogus"),
    "crls": (["x"],),
    "revoked_certs": (
        [{"serial_number": "11:22", "revocation_time": "2026-01-01T00:00:00Z"}], [{"serial_number": "11:22"}],
    ),
    "extensions": ([{"id": "1.2.3.4", "critical": False, "value": "BQA="}], [{"id": "2.5.29.20", "value": "BQA="}]),
    "require_matching_certificate_algorithms": (True,),
    "skid": (),
    "expiry": ("72h", "24h", "bogus"),
    "ocsp_expiry": ("12h", "bogus"),
    "auto_rebuild_grace_period": ("12h", "bogus"),
    "delta_rebuild_interval": ("15m", "bogus"),
    "allowed_domains": ("example.com", ["a.b", "c.d"]),
    "allowed_ip_sans_cidr": ("10.0.0.0/8", "bogus"),
    "allowed_other_sans": ("1.2.3.4;utf8:*", "bogus"),
    "allowed_uri_sans": ("spiffe://td/*",),
    "cn_validations": ("email", "hostname", "disabled", ["disabled", "email"]),
    "policy_identifiers": ("1.2.3.4", "bogus"),
    "max_ttl": ("72h", 10),
    "not_after_bound": ("permit", "ttl-limited", "forbid", "2030-01-01T00:00:00Z", "bogus"),
    "not_before_bound": ("permit", "duration", "forbid", "bogus"),
    "no_store": (True,),
    "require_cn": (False,),
    "safety_buffer": ("1h", 0),
    "issuer_safety_buffer": ("1h",),
    "revoked_safety_buffer": ("1h",),
    "interval_duration": ("1h", 0),
    "page_size": (10, 0),
    "pause_duration": ("0s", "bogus"),
    "enabled": (False,),
    **{
        f"tidy_{name}": (True, False)
        for name in ("cert_store", "revoked_certs", "revoked_cert_issuer_associations", "expired_issuers")
    },
}  # fmt: skip
