"""Arguments of the CA's requests, grouped as the API groups them.

Names, lifetimes and settings are recorded in clear: they become public with the certificate, and
"who got a certificate for what" is what the log is read for. CSRs and certificates are left out; their
digests stand in the record.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import fields

from kms.operation import WHOLE_BODY, Field, Record, Type
from pki.model import TidyOptions
from pki.rolewrite import role_fields


def clear(name: str, kind: Type = Type.STRING, default: Any = "") -> Field:
    """A field whose value the record keeps."""
    return Field(name, kind, default, record=Record.CLEAR)


def _kind(name: str, default: object) -> Type:
    if isinstance(default, bool):
        return Type.BOOL
    if isinstance(default, int):
        return Type.INT if name == "page_size" else Type.SECONDS
    return Type.STRING


ROLE_FIELDS = role_fields()
ROLE = (clear("role"),)
ISSUER = (clear("issuer_ref"),)
URLS = tuple(
    clear(name, Type.STRINGS, [])
    for name in (
        "issuing_certificates",
        "crl_distribution_points",
        "ocsp_servers",
        "delta_crl_distribution_points",
    )
)
_AUTOMATIC = {
    "enabled",
    "interval_duration",
    "maintain_stored_certificate_counts",
    "publish_stored_certificate_count_metrics",
}
AUTO_TIDY_FIELDS = (
    *(clear(field.name, _kind(field.name, field.default), field.default) for field in fields(TidyOptions)),
    clear("tidy_revocation_list", Type.BOOL, False),
)
TIDY_FIELDS = tuple(field for field in AUTO_TIDY_FIELDS if field.name not in _AUTOMATIC)
LIST_FIELDS = (clear("after"), clear("limit", Type.INT, 0))

_TIMES = (clear("ttl", Type.SECONDS, 0), clear("not_after"), clear("not_before"))
_NAMES = (
    clear("common_name"),
    clear("alt_names", Type.STRINGS, []),
    clear("ip_sans", Type.STRINGS, []),
    clear("uri_sans", Type.STRINGS, []),
    clear("other_sans", Type.STRINGS, []),
    clear("serial_number"),
    clear("exclude_cn_from_sans", Type.BOOL, False),
)
_LEAF = (
    *_NAMES,
    *_TIMES,
    clear("user_ids", Type.STRINGS, []),
    clear("format", default="pem"),
    clear("private_key_format", default="der"),
    clear("remove_roots_from_chain", Type.BOOL, False),
)
_KEY = (clear("key_type"), clear("key_bits", Type.INT, 0))
_SUBJECT = tuple(
    clear(name, Type.STRINGS, [])
    for name in (
        "country",
        "organization",
        "ou",
        "locality",
        "province",
        "street_address",
        "postal_code",
    )
)
_CA = (
    *_NAMES,
    *_TIMES,
    *_SUBJECT,
    clear("format", default="pem"),
    clear("private_key_format", default="der"),
    clear("not_before_duration", Type.SECONDS, 30),
    clear("signature_bits", Type.INT, 0),
    clear("use_pss", Type.BOOL, False),
)
# Known so that it is refused as the Vault API does, instead of a key being made that is not the one meant.
_EXTERNAL = clear("external_key_ref")
_CA_KEY = (
    clear("exported"),
    clear("key_type", default="rsa"),
    clear("key_bits", Type.INT, 0),
    clear("key_name"),
    clear("key_ref", default="default"),
    _EXTERNAL,
)
_CONSTRAINTS = (
    clear("max_path_length", Type.INT, -1),
    clear("permitted_dns_domains", Type.STRINGS, []),
    clear("key_usage", Type.STRINGS, []),
    clear("ext_key_usage", Type.STRINGS, []),
    clear("ext_key_usage_oids", Type.STRINGS, []),
)

_CEL = (
    Field(WHOLE_BODY),
    *_TIMES,
    clear("not_before_duration", Type.INT, 30),
    clear("remove_roots_from_chain", Type.BOOL, False),
    clear("signature_bits", Type.INT, 0),
    clear("use_pss", Type.BOOL, False),
)
CEL_ISSUE_FIELDS = (*_CEL, *_KEY)
CEL_SIGN_FIELDS = (*_CEL, Field("csr", default=""))
CEL_ROLE_FIELDS = (Field("cel_program", Type.MAP),)

ISSUER_FIELDS = (
    *ISSUER,
    clear("issuer_name"),
    clear("leaf_not_after_behavior", default="err"),
    clear("usage", Type.STRINGS, ["read-only", "issuing-certificates", "crl-signing", "ocsp-signing"]),
    clear("manual_chain", Type.STRINGS, []),
    clear("revocation_signature_algorithm"),
    clear("enable_aia_url_templating", Type.BOOL, False),
    *URLS,
)
NEW_KEY_FIELDS = (
    clear("key_type", default="rsa"),
    clear("key_bits", Type.INT, 0),
    clear("key_name"),
    _EXTERNAL,
)
IMPORT_FIELDS = (Field("certificate", default=""), Field("pem_bundle", default=""))
ISSUE_FIELDS = (*_LEAF, *_KEY)
SIGN_FIELDS = (*_LEAF, Field("csr", default=""))
CA_FIELDS = (*_CA, *_CA_KEY, *_CONSTRAINTS, clear("issuer_name"))
CSR_FIELDS = (*_CA, *_CA_KEY, clear("add_basic_constraints", Type.BOOL, False))
SUBORDINATE_FIELDS = (
    *_CA,
    *_CONSTRAINTS,
    Field("csr", default=""),
    clear("use_csr_values", Type.BOOL, False),
    clear("skid"),
    clear("issuer_name"),
)
VERBATIM_FIELDS = (
    *SIGN_FIELDS,
    clear("key_usage", Type.STRINGS, ["DigitalSignature", "KeyAgreement", "KeyEncipherment"]),
    clear("ext_key_usage", Type.STRINGS, []),
    clear("ext_key_usage_oids", Type.STRINGS, []),
    clear("signature_bits", Type.INT, 0),
    clear("use_pss", Type.BOOL, False),
    clear("basic_constraints_valid_for_non_ca", Type.BOOL, False),
)
RENEW_FIELDS = (
    Field("csr", default=""),
    clear("ttl", Type.SECONDS, 0),
    clear("format", default="pem"),
    clear("remove_roots_from_chain", Type.BOOL, False),
)
SEARCH_FIELDS = (
    *(
        clear(name)
        for name in (
            "common_name",
            "dns_name",
            "domain",
            "email",
            "ip_address",
            "uri",
            "public_key_sha256",
            "issuer_ref",
            "role",
            "state",
            "expires_after",
            "expires_before",
        )
    ),
    *LIST_FIELDS,
)
