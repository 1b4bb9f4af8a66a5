"""Key usages by the names that roles use, and which of them fit which key type.

A role lists usages for all key types at once; a certificate carries those that its key can serve
(RFC 5480 section 3 for EC, RFC 8410 section 5 for Ed25519, RFC 9881 section 5 for ML-DSA; RSA keys agree on nothing).
"""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from kms.errors import invalid

# Vault's name -> cryptography's. CertSign and CRLSign are missing on purpose: leaves sign neither.
KEY_USAGES = {
    "digitalsignature": "digital_signature",
    "contentcommitment": "content_commitment",
    "keyencipherment": "key_encipherment",
    "dataencipherment": "data_encipherment",
    "keyagreement": "key_agreement",
}

_FITTING = {
    "rsa": {"digital_signature", "content_commitment", "key_encipherment", "data_encipherment"},
    "ec": {"digital_signature", "content_commitment", "key_agreement"},
    "ed25519": {"digital_signature", "content_commitment"},
    "mldsa": {"digital_signature", "content_commitment"},
}

# Missing on purpose: "any" makes every limit void, "ocspsigning" would let a leaf speak for the CA, and
# "timestamping" must stand alone and critical (RFC 3161 2.3), which is another profile.
EXT_KEY_USAGES = {
    "serverauth": ExtendedKeyUsageOID.SERVER_AUTH,
    "clientauth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "codesigning": ExtendedKeyUsageOID.CODE_SIGNING,
    "emailprotection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "ipsecendsystem": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.5"),
    "ipsectunnel": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.6"),
    "ipsecuser": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.7"),
}
_FORBIDDEN_OIDS = {
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    ExtendedKeyUsageOID.OCSP_SIGNING,
    ExtendedKeyUsageOID.TIME_STAMPING,
}

_NO_USAGE = dict.fromkeys(
    (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ),
    False,
)


def leaf_key_usage(names: Iterable[str], key_type: str) -> x509.KeyUsage:
    """The usages of `names` that fit; digitalSignature where none does (an empty one is illegal)."""
    wanted = {_usage(name) for name in names} & _FITTING[key_type]
    return x509.KeyUsage(**{**_NO_USAGE, **dict.fromkeys(wanted or {"digital_signature"}, True)})


def exact_key_usage(bits: int, key_type: str) -> x509.KeyUsage:
    """Usages by RFC 5280's bits (0 digitalSignature, 1 contentCommitment, ...), each of which must fit.

    Raises:
        KmsError(INVALID): one of a CA, one that the key cannot serve, or none that exists.
    """
    wanted = [name for bit, name in enumerate(_NO_USAGE) if bits >> bit & 1]
    if not 0 < bits < 1 << len(_NO_USAGE):
        raise invalid(f"KeyUsage {bits} is no combination of usages")
    for name in wanted:
        if name not in _FITTING[key_type] | {"encipher_only", "decipher_only"}:
            raise invalid(f"key usage {name} is not for leaves with a key of type {key_type}")
    if {"encipher_only", "decipher_only"} & set(wanted) and "key_agreement" not in wanted:
        raise invalid("key usages encipher_only and decipher_only need key_agreement")
    return x509.KeyUsage(**{**_NO_USAGE, **dict.fromkeys(wanted, True)})


def ca_key_usage(*, digital_signature: bool = False) -> x509.KeyUsage:
    """KeyCertSign and cRLSign; digitalSignature where the CA is to sign OCSP answers itself."""
    wanted = {"key_cert_sign": True, "crl_sign": True, "digital_signature": digital_signature}
    return x509.KeyUsage(**{**_NO_USAGE, **wanted})


def _usage(name: str) -> str:
    plain = name.strip().lower().removeprefix("keyusage")
    if plain not in KEY_USAGES:
        raise invalid(f"unknown or unsuitable key usage {name!r}: use one of {', '.join(KEY_USAGES)}")
    return KEY_USAGES[plain]


def ext_key_usages(names: Iterable[str], oids: Iterable[str]) -> list[x509.ObjectIdentifier]:
    """Object identifiers, in the order given, without repeats.

    Raises:
        KmsError(INVALID): an unknown name, a malformed OID, or one that leaves must not have.
    """
    found: dict[x509.ObjectIdentifier, None] = {}
    for name in names:
        plain = name.strip().lower().removeprefix("extkeyusage")
        if plain not in EXT_KEY_USAGES:
            raise invalid(
                f"unknown or unsuitable extended key usage {name!r}: use {', '.join(EXT_KEY_USAGES)}"
            )
        found[EXT_KEY_USAGES[plain]] = None
    for text in oids:
        oid = parse_oid(text)
        if oid is None:
            raise invalid(f'"{text}" could not be parsed as a valid oid for an extended key usage')
        refuse_usages([oid])
        found[oid] = None
    return list(found)


def refuse_usages(usages: Iterable[x509.ObjectIdentifier]) -> None:
    """Raises KmsError(INVALID) for one that leaves must not have."""
    for oid in usages:
        if oid in _FORBIDDEN_OIDS:
            raise invalid(f"extended key usage {oid.dotted_string} is not for certificates of this kind")


def parse_oid(text: str) -> x509.ObjectIdentifier | None:
    """A dotted object identifier, or None."""
    try:
        return x509.ObjectIdentifier(text.strip())
    except ValueError:
        return None
